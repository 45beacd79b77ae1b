"""How class maps and their confidence are stored as uint8: the one home of these two numbers."""

NODATA = 255
"""Stored in a class map and in its confidence where a pixel is not valid."""

CONFIDENCE_STEPS = 250
"""Stored confidence = round(probability of the winning class * 250), so 250 means 1."""

CONFIDENCE_SCALE = 1 / CONFIDENCE_STEPS
"""Probability = stored confidence * scale."""
