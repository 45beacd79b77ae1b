"""The page that needs no installation: its index, its files, the libraries that it uses, and the server of `view`."""
