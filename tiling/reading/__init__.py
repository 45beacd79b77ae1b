"""Scenes are read: headers in a sandbox, pixels in windows."""
