"""Support, halo and memory of a network, found by measurement."""
