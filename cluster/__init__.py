"""Runs many tasks on Ray and says what happened to each. Knows nothing of rasters or models."""
