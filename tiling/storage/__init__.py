"""Object storage, local folders and web servers."""
