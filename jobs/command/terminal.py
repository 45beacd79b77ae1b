"""How the command prints: a console, units, and the options that a message names as flags."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from earthloom.tiling.errors import respell

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


def with_flags(text: str) -> str:
    """The text of an error or a note as the command line spells its options: `core=512` becomes --core 512."""
    return respell(text, _flag)


class FlagFormatter(logging.Formatter):
    """Formats log records with the options that they name spelled as flags."""

    def format(self, record: logging.LogRecord) -> str:
        return with_flags(super().format(record))


def _flag(name: str, value: str | None) -> str:
    flag = f"--{name.replace('_', '-')}"
    if value is None:
        return flag
    return f"{flag} {shlex.quote(value) if set(value) & set(' {}') else value}"
