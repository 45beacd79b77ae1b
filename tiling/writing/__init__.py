"""Zarr shards, COG tiles and their overviews."""
