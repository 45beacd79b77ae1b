"""Messages name options as Python does; the command line, pages and notices for people spell them as flags."""

from __future__ import annotations

import shlex

from earthloom.tiling.errors import respell


def with_flags(text: str) -> str:
    """The text of an error or a note as the command line spells its options: `core=512` becomes --core 512."""
    return respell(text, _flag)


def _flag(name: str, value: str | None) -> str:
    flag = f"--{name.replace('_', '-')}"
    if value is None:
        return flag
    return f"{flag} {shlex.quote(value) if set(value) & set(' {}') else value}"
