"""Networks of our own that say what is there, and not which pixel is what."""
