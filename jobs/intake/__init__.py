"""From what a user names to scenes whose bands, values, grids and dates are known."""
