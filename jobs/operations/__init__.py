"""Runs that nobody starts by hand: watching for scenes, and schedules. Computes nothing; storage is its only memory."""
