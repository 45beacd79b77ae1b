"""How class maps and their confidence are stored as uint8, and indices as int16: the one home of these numbers."""

NODATA = 255
"""Stored in a class map and in its confidence where a pixel is not valid."""

CONFIDENCE_STEPS = 250
"""Stored confidence = round(probability of the winning class * 250), so 250 means 1."""

CONFIDENCE_SCALE = 1 / CONFIDENCE_STEPS
"""Probability = stored confidence * scale."""

INDEX_NODATA = -32768
"""Stored in an image of an index, of int16, where a pixel is not valid."""

INDEX_SCALE = 1e-4
"""Index = stored int16 * scale."""

INDEX_MOST = 32767 * INDEX_SCALE
"""Largest magnitude that is stored; what is beyond is no data."""
