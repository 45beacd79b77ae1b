"""Who watches: of several watchers of one thing, one works and the others stand by.

A lease saves double work and guards nothing: a watcher that was stopped for minutes and wakes up may map what another one
has mapped, and the commits of scenes see to it that nothing is published twice. Clocks of different machines may differ
by some seconds.
"""

from __future__ import annotations

import logging
import os
import platform
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from earthloom.jobs.records.attempt import now
from earthloom.jobs.records.canonical import FORMAT, canonical, read_document
from earthloom.jobs.records.documents import merge
from earthloom.tiling.errors import EarthloomError, StorageError
from earthloom.tiling.storage.store import Store

REFRESH_S = 10.0
"""Seconds between two signs of life."""
STALE_S = 60.0
"""A holder that was not heard of for so long is taken for dead."""

log = logging.getLogger(__name__)


class HeldError(EarthloomError):
    """Another watcher is at work."""


@dataclass(slots=True)
class Lease:
    """The right to watch, for as long as `kept` is true."""

    store: Store
    key: str
    holder: str = field(default_factory=lambda: secrets.token_hex(16))
    kept: bool = True
    """False once another watcher has taken over."""

    def document(self, state: str) -> dict[str, Any]:
        return {
            "format": FORMAT, "holder": self.holder, "state": state, "updated": now(), "host": platform.node(),
            "pid": os.getpid(),
        }  # fmt: skip

    def take(self, *, again: bool = False) -> None:
        """Become the holder, or say again that the holder lives.

        Args:
            again: this is the holder; whoever else holds the lease now has taken over for good.

        Raises:
            HeldError: if another watcher lives.
            StorageError: if it cannot be written.
        """
        ours = canonical(self.document("held"))

        def changed(existing: bytes | None) -> bytes:
            held = read_document(existing, self.key) if existing else {}
            if held.get("state") == "held" and held["holder"] != self.holder and (again or is_fresh(held)):
                raise HeldError(
                    f"another watcher is at work: process {held['pid']} on {held['host']}, heard of at {held['updated']}"
                )
            return ours

        merge(self.store, self.key, changed)

    def release(self) -> None:
        """Let another watcher begin at once."""
        free = canonical(self.document("free"))
        merge(self.store, self.key, lambda existing: free if self._is_ours(existing) else existing or free)

    def _is_ours(self, existing: bytes | None) -> bool:
        return existing is not None and read_document(existing, self.key)["holder"] == self.holder


@contextmanager
def leased(store: Store, key: str) -> Iterator[Lease]:
    """Hold a lease for the time of a `with` block, and say every REFRESH_S that its holder lives.

    Raises:
        HeldError: if another watcher lives.
        StorageError: if the lease cannot be written.
    """
    lease, ended = Lease(store, key), threading.Event()
    lease.take()

    def beat() -> None:
        while not ended.wait(REFRESH_S):
            try:
                lease.take(again=True)
            except HeldError as error:
                log.warning("%s; it has taken over", error)
                lease.kept = False
                return
            except StorageError as error:
                log.warning("the lease is not refreshed: %s", error)

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        ended.set()
        if lease.kept:
            with suppress(StorageError):  # it becomes stale by itself
                lease.release()


def is_fresh(held: Mapping[str, Any]) -> bool:
    """Whether a holder was heard of within STALE_S."""
    return (datetime.now(UTC) - datetime.fromisoformat(held["updated"])).total_seconds() < STALE_S
