"""Messages name options as Python does; the command line, pages and notices for people spell them as flags."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from earthloom.tiling.errors import EarthloomError, respell

_NO_FILE: Mapping[str, str] = {}
_IN_FILE: ContextVar[Mapping[str, str]] = ContextVar("options that a file holds", default=_NO_FILE)


@contextmanager
def in_a_file(options: Iterable[str] | Mapping[str, str]) -> Iterator[None]:
    """Within this block these options are no flags: the command reads them from a TOML file, as keys.

    An error that leaves the block is spelled so too: who prints it knows nothing of the file.

    Args:
        options: their names; or by name, the key that says the same where the file calls it otherwise.
    """
    token = _IN_FILE.set(dict(options) if isinstance(options, Mapping) else {name: name for name in options})
    try:
        yield
    except EarthloomError as error:
        error.args = (with_flags(str(error)),)
        raise
    finally:
        _IN_FILE.reset(token)


def with_flags(text: str) -> str:
    """The text of an error or a note as the command line spells its options: `core=512` becomes --core 512.

    Of one that stands in a file it becomes 'core = 512'.
    """
    return respell(text, _flag)


def _flag(name: str, value: str | None) -> str:
    if key := _IN_FILE.get().get(name):
        return f"'{key}'" if value is None else f"'{key} = {value}'"
    flag = f"--{name.replace('_', '-')}"
    if value is None:
        return flag
    return f"{flag} {shlex.quote(value) if set(value) & set(' {}') else value}"
