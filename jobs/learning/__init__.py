"""Models measured on real scenes."""
