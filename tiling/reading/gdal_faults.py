"""What GDAL hears from a web server while one file is open, because its errors forget it.

A read that failed for an answer 503 ends as "TIFFReadEncodedTile() failed"; the code is only in a warning on the way.
Knows nothing of files.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_FAULT = re.compile(
    r"(?i)HTTP (?:error|response) code(?: on \S+)?:\s*(\d+)|(CURL error: [^;:]{1,80})"
    r"|(timed? ?out|connection \w+|could ?n.t \w+)"
)
_log = logging.getLogger("rasterio._env")


@contextmanager
def listening() -> Iterator[list[str]]:
    """The faults that this thread's requests met so far, each in a few words; the latest is the last."""
    ear = _Ear(threading.get_ident())
    _log.addHandler(ear)
    try:
        yield ear.faults
    finally:
        _log.removeHandler(ear)


def fault_in(message: str) -> str | None:
    """The fault of a request that one of GDAL's messages speaks of, without URLs; None if it speaks of something else."""
    found = _FAULT.search(message)
    if found is None:
        return None
    code, *words = found.groups()
    return next(filter(None, words), None) if code is None else "no answer" if code == "0" else f"HTTP {code}"


class _Ear(logging.Handler):
    def __init__(self, thread: int) -> None:
        super().__init__(logging.WARNING)
        self._thread = thread
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread and (fault := fault_in(record.getMessage())):
            self.faults.append(fault)
