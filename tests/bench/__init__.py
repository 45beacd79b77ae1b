"""Benchmarks: `python -m tests.bench [case …]`. They measure and print; tests assert behaviour, not time."""
