"""Networks of our own that classify whole chips."""
