"""Networks of users become card folders."""
