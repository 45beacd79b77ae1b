"""Per-pixel monitors over time: a series of one value per date becomes a break, a trend, or a flag for each date.

Arrays in, arrays out: (T, P) values with their times in years, NaN where nothing was observed. What is said of a pixel
follows from its series alone, to the bit: no sum is left to BLAS, whose order of adding depends on the machine and on the
pixels beside it. Knows nothing of cubes, rasters, files or configurations.
"""
