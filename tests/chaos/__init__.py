"""The long forms of the fault tests: `python -m tests.chaos`. `tests.faults` holds the short ones, and the tools of both."""
