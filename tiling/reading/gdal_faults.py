"""What GDAL says on the way while one file is open, because its errors forget it, or because it goes on without one.

A read that failed for an answer 503 ends as "TIFFReadEncodedTile() failed"; the code is only in a warning on the way. A file
that is cut short behind its pixels opens without the tags that lay there. Knows nothing of files.
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
_LOST_TAG = re.compile(r"IO error during reading of \"((?:GDAL|Geo|Model|ColorMap|ExtraSamples)\w*)\"; tag ignored")
"""Tags that say what pixels mean: nodata, scale and offset, names of bands, place, palette, alpha."""
_log = logging.getLogger("rasterio._env")


@contextmanager
def listening() -> Iterator[Heard]:
    """What GDAL has said of this thread's requests so far."""
    ear = Heard(threading.get_ident())
    _log.addHandler(ear)
    try:
        yield ear
    finally:
        _log.removeHandler(ear)


def fault_in(message: str) -> str | None:
    """The fault of a request that one of GDAL's messages speaks of, without URLs; None if it speaks of something else."""
    found = _FAULT.search(message)
    if found is None:
        return None
    code, *words = found.groups()
    return next(filter(None, words), None) if code is None else "no answer" if code == "0" else f"HTTP {code}"


class Heard(logging.Handler):
    """What GDAL has said in one thread.

    Attributes:
        faults: of requests, each in a few words; the latest is the last.
        lost_tags: names of tags that lie beyond the end of the file.
    """

    def __init__(self, thread: int) -> None:
        super().__init__(logging.WARNING)
        self._thread = thread
        self.faults: list[str] = []
        self.lost_tags: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread != self._thread:
            return
        message = record.getMessage()
        if lost := _LOST_TAG.search(message):
            self.lost_tags.append(lost[1])
        elif fault := fault_in(message):
            self.faults.append(fault)
