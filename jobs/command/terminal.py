"""How the command prints: a console, and units."""

from __future__ import annotations

import sys

from rich.console import Console

GIB = 2**30


MIB = 2**20


def make_console(*, stderr: bool = True) -> Console:
    """Wide enough for tables where there is no terminal that says its width (logs, cron)."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else 140)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"
