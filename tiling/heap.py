"""The C library's heap: whether what is freed stays for what is allocated next. Does nothing where it is not glibc's.

A network frees and allocates its activations again for every chip. By itself glibc maps each large one anew, and the
kernel clears its pages as they are first touched. Pages that are kept need no clearing, but what is free lies scattered
among what is not, so that more is held than is used: `settle` bounds that. Only with a single arena are blocks of any size
kept, and a process cannot do without its other arenas once its threads have them: `share_one_arena` is for its first moment.

The numbers are those of glibc's malloc.h.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_KEEP = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1))
_RETURN = ((_MMAP_MAX, 65536), (_TRIM_THRESHOLD, 128 * 1024))
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_loaded = ctypes.CDLL(None)
_LIBC = _loaded if hasattr(_loaded, "mallopt") and hasattr(_loaded, "malloc_trim") else None

_most_bytes = 0

ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
"""The environment that a process has to be started with to keep pages; glibc reads it."""


def share_one_arena() -> None:
    """Let all threads of this process, which has none yet, share one arena, and so in the processes that it starts.

    A user's own MALLOC_ARENA_MAX stays.
    """
    if _LIBC is not None and not ONE_ARENA.keys() & os.environ.keys():
        _LIBC.mallopt(_ARENA_MAX, 1)
        os.environ.update(ONE_ARENA)


def keep_pages(most_bytes: int) -> bool:
    """Keep freed pages in this process from now on, but not where it holds more than `most_bytes`; 0: keep none.

    Returns:
        Whether they are kept: never where threads have arenas of their own.
    """
    global _most_bytes
    kept = most_bytes > 0 and _LIBC is not None and ONE_ARENA.items() <= os.environ.items()
    if _LIBC is not None and kept != (_most_bytes > 0):  # unasked, glibc adapts its limits to what a process does
        for name, value in _KEEP if kept else _RETURN:
            _LIBC.mallopt(name, value)
    _most_bytes = most_bytes if kept else 0
    return kept


def settle() -> None:
    """Give back what is free, if pages are kept and the process holds more than it may; takes microseconds if not."""
    if _most_bytes and int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES > _most_bytes:
        give_back()


def give_back() -> None:
    """Give what is free back to the system: even where pages are not kept, block after block it would add up."""
    if _LIBC is not None:
        _LIBC.malloc_trim(0)


def peak_bytes() -> int:
    """Largest resident set of this process since it began; 0 where the kernel does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) * 1024
