"""Monitors over time: each pixel held to its own past."""
