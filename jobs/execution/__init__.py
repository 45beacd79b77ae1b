"""The driver, and what it sends to workers."""
