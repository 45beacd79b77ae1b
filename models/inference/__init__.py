"""Blocks of pixels through networks, and back."""
