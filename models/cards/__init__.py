"""Model cards and their files."""
