"""Local files that appear whole or not at all, and survive a power cut once they do: temporary file, fsync, one step.

The step itself, link(2) to create or rename(2) to replace, is the caller's. Knows nothing of stores and keys.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"
"""Ending of files that are no object: half written, or a lock. Only a writer that was killed leaves one behind."""

PART_BYTES = 8 << 20
"""Most bytes of a large file that are held at once."""


@contextmanager
def written_aside(path: Path, data: bytes | Iterable[bytes]) -> Iterator[Path]:
    """The bytes, or pieces of them, in a synced file beside `path`; gone afterwards if nobody renamed it.

    Raises:
        OSError: if the folder cannot be made or the file cannot be written.
    """
    make_folder(path.parent)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}{PARTIAL}")
    try:
        with aside.open("xb") as file:
            for piece in (data,) if isinstance(data, bytes) else data:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        yield aside
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, among the processes of every machine that mounts it; it leaves nothing behind."""
    lock = path.with_name(f".{path.name}.lock{PARTIAL}")
    make_folder(path.parent)
    while True:
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _names(lock, file.fileno()):  # its last holder removed it while we waited: others lock a new one
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, and sync their names: a synced file in a lost folder is lost."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _names(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
