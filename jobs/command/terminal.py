"""How the command prints: a console, units, and the options that a message names as flags."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console

from earthloom.tiling.errors import respell

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


def counted(n: int, noun: str) -> str:
    """`1 scene`, `2 scenes`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


_IN_FILE: ContextVar[Container[str]] = ContextVar("options that a file holds", default=())


@contextmanager
def in_a_file(options: Iterable[str]) -> Iterator[None]:
    """Within this block these options are no flags: the command reads them from a TOML file, as keys."""
    token = _IN_FILE.set(frozenset(options))
    try:
        yield
    finally:
        _IN_FILE.reset(token)


def with_flags(text: str) -> str:
    """The text of an error or a note as the command line spells its options: `core=512` becomes --core 512.

    Of one that stands in a file it becomes 'core = 512'.
    """
    return respell(text, _flag)


class FlagFormatter(logging.Formatter):
    """Formats log records with the options that they name spelled as flags."""

    def format(self, record: logging.LogRecord) -> str:
        return with_flags(super().format(record))


def _flag(name: str, value: str | None) -> str:
    if name in _IN_FILE.get():
        return f"'{name}'" if value is None else f"'{name} = {value}'"
    flag = f"--{name.replace('_', '-')}"
    if value is None:
        return flag
    return f"{flag} {shlex.quote(value) if set(value) & set(' {}') else value}"
