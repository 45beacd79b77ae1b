"""What a command says of an error that nobody foresaw: a sentence for people, with the traceback in a file that can be sent.

Credentials are taken out of both (`tiling.redact`). Knows nothing of which command it was.
"""

from __future__ import annotations

import platform
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from earthloom.cluster.outcome import line_of
from earthloom.tiling.cache import cache_folder
from earthloom.tiling.redact import redact
from earthloom.tiling.software import VERSION

_MOST_CHARACTERS = 20_000
"""Of a message or traceback: a library may put all that it read into one."""
_WEBHOOK = re.compile(r"(--notify[ =])(?!env:)\S+")
"""Whoever has a webhook's address can write to its channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unforeseen:
    """An error that is none of ours."""

    kind: str
    """Name of its class."""
    message: str
    line: str
    """`earthloom.tiling.window, line 8`: the innermost line of our code that it came through."""
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Unforeseen:
        """Record an exception that is being handled."""
        return cls(
            kind=type(error).__name__, message=_cut(redact(str(error))), line=line_of(error),
            traceback=_cut(redact("".join(traceback.format_exception(error)))),
        )  # fmt: skip

    def __str__(self) -> str:
        """`KeyError: 'bands' (earthloom.jobs.intake.bands, line 8)`, in one line."""
        said = f"{self.kind}: {self.message}" if self.message else self.kind
        return " ".join(f"{said} ({self.line})".split())

    def advice(self, words: Sequence[str]) -> str:
        """Write the traceback down, and say where; or give it itself where no file can be written.

        Args:
            words: words of the command line.
        """
        about = f"earthloom {VERSION}, Python {platform.python_version()}, {platform.platform()}"
        command = _WEBHOOK.sub(r"\1***", redact(" ".join(words)))
        text = f"{about}\n{command}\n\n{self.traceback}"
        place = self.line.replace(", line ", "-")  # the same error again has the same file
        path = cache_folder() / "errors" / f"{self.kind}-{place}.txt"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="backslashreplace")  # of names that are no text
        except OSError:
            return f"this was not foreseen. Please report it with the following:\n{text}"
        return f"this was not foreseen. If the message does not tell you what to change, please report it with {path}"


def _cut(text: str) -> str:
    """Its beginning and its end, where the cause is, if it is long."""
    half = _MOST_CHARACTERS // 2
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:half]}\n…\n{text[-half:]}"


def command_words(arguments: Sequence[str] | None) -> list[str]:
    """The command line as it was typed."""
    return ["earthloom", *(sys.argv[1:] if arguments is None else arguments)]
