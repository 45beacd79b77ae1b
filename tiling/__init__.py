"""Pixels, grids, raster and Zarr I/O, object storage. Knows nothing of torch or Ray."""
