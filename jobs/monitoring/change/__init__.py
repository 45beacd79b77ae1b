"""Change between two dates or periods: matrix, map and polygons."""
