"""`python -m earthloom …` is the `earthloom` command; in a checkout it needs nothing installed but the dependencies."""

from earthloom.jobs.command import main

main()
