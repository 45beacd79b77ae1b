"""How the command prints: a console, units, and the options that a message names as flags."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from earthloom.jobs.report.flags import in_a_file as in_a_file
from earthloom.jobs.report.flags import with_flags as with_flags  # every command prints by it

GIB = 2**30
MIB = 2**20


def make_console(*, stderr: bool = True) -> Console:
    """Wide enough for tables where there is no terminal that says its width (logs, cron)."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else 140)


def show_path(path: str) -> None:
    """A path or address on stdout, whole and by itself; on a terminal one that can be clicked, however it is wrapped."""
    local = "://" not in path
    if sys.stdout.isatty() and local:
        link = Path(path).resolve().as_uri()
        Console(highlight=False, soft_wrap=True).print(Text(path, style=f"link {link}"))
    else:
        print(path)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"


def counted(n: int, noun: str) -> str:
    """`1 scene`, `2 scenes`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


class FlagFormatter(logging.Formatter):
    """Formats log records with the options that they name spelled as flags, and times as other lines have them."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%SZ"
    default_msec_format = None

    def format(self, record: logging.LogRecord) -> str:
        return with_flags(super().format(record))
