"""`python -m jobs …` is the `earthloom` command; it needs nothing installed but the dependencies."""

from jobs.cli import main

main()
