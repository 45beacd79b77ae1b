"""Composites: one picture of a period, made from all of its dates."""
