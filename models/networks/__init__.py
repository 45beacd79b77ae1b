"""Networks in torch, by their names."""
