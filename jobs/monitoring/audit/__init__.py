"""Checks that what is stored of monitored areas follows from their committed scenes."""
