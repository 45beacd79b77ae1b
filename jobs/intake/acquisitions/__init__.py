"""Acquisitions as their providers deliver them: folders with a metadata file that says what the other files are."""
