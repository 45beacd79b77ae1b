"""Messages name options as Python does; the command line, pages and notices for people spell them as flags."""

from __future__ import annotations

import shlex
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from earthloom.tiling.errors import respell

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


def _flag(name: str, value: str | None) -> str:
    if name in _IN_FILE.get():
        return f"'{name}'" if value is None else f"'{name} = {value}'"
    flag = f"--{name.replace('_', '-')}"
    if value is None:
        return flag
    return f"{flag} {shlex.quote(value) if set(value) & set(' {}') else value}"
