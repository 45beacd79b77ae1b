"""The record of one attempt at a run: `runs/<run_id>/attempts/<n>.json`, from its start to its end.

It is what `earthloom status` reads: refreshed while the run lives, so that a run that died is told from one that works.
Holds telemetry and causes of failure, never anything that a result depends on.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from earthloom.jobs.records.canonical import FORMAT, canonical
from earthloom.jobs.records.documents import claim
from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.store import Store

REFRESH_S = 10.0
"""Seconds between two refreshes of a living attempt."""
_MOST_REFRESH_S = 30.0
"""Most time between two refreshes if writing takes long; less than the minute after which silence is taken for death."""
_SHARE = 0.02
"""Share of the time that writing it may take, as far as that allows."""
_AHEAD_S = 3600.0

MAX_FAULTY = 100
"""Blocks of one scene whose faults are told; an outage concerns them all in the same way."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class SceneProgress:
    """How far one scene has come."""

    status: str
    """`waiting`, `running`, `published`, `already published`, `corrected`, `refused`, `failed` or `unfinished`."""
    key: str | None = None
    blocks: int = 0
    blocks_done: int = 0
    """Including those that earlier attempts did."""
    error: str | None = None
    kind: str | None = None
    known: bool = False
    """Whether an earlier run ended with the same scene, bytes and reason (`jobs.records.known`)."""
    corrected: dict[str, Any] | None = None
    """What its published result said and what it says now, by name: `[was, now]`."""
    faults: dict[str, list[str]] = field(default_factory=dict)
    """How attempts at a block ended that did not succeed, by block; of the first MAX_FAULTY blocks. Of the whole scene as
    `survey` and `publish`."""

    def note(self, block: str, causes: Sequence[str]) -> None:
        """Keep what went wrong with a block, whether it was done in the end or not."""
        if causes and len(self.faults) < MAX_FAULTY:
            self.faults[block] = list(causes)


@dataclass(slots=True)
class Attempt:
    """Mutable record of this attempt; `save` writes it, at most every REFRESH_S, and less often where that takes long.

    Between `begin` and `end` a thread rewrites the last record with a new time whenever nothing was saved for so long: a
    block that takes minutes must not look like a death.
    """

    store: Store
    run_id: str
    number: int
    scenes: dict[str, SceneProgress]
    telemetry: dict[str, Any] = field(default_factory=dict)
    started: str = field(default_factory=lambda: now())
    state: str = "running"
    write_id: str | None = None
    _saved_at: float = 0.0
    _every_s: float = field(default_factory=lambda: REFRESH_S)
    _saved: bytes = b""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def key(self) -> str:
        return f"runs/{self.run_id}/attempts/{self.number}.json"

    def document(self) -> dict[str, Any]:
        scenes = {name: {s: getattr(p, s) for s in SceneProgress.__slots__} for name, p in self.scenes.items()}
        return {
            "format": FORMAT, "run_id": self.run_id, "attempt": self.number, "state": self.state,
            "started": self.started, "updated": now(), "host": platform.node(), "pid": os.getpid(),
            "scenes": scenes, "telemetry": self.telemetry, "write_id": self.write_id,
        }  # fmt: skip

    def save(self) -> None:
        """Write it; a record that cannot be written is logged and stops nothing."""
        if time.monotonic() - self._saved_at >= self._every_s:
            begun = time.monotonic()
            self._write(canonical(self.document()))
            self._every_s = min(_MOST_REFRESH_S, max(REFRESH_S, (time.monotonic() - begun) / _SHARE))

    def begin(self) -> None:
        """Say from now on that the attempt lives."""
        self._saved = canonical(self.document())
        threading.Thread(target=self._beat, name="attempt", daemon=True).start()

    def end(self) -> None:
        """Write how it ended; nothing is written afterwards."""
        self._ended.set()
        self._write(canonical(self.document()))

    def _beat(self) -> None:
        while not self._ended.wait(REFRESH_S):
            if time.monotonic() - self._saved_at >= self._every_s:
                try:
                    self._write(None)
                except Exception:  # a bug of ours must not make a run look dead that is not
                    log.exception("the record of this attempt could not be refreshed")

    def _write(self, document: bytes | None) -> None:
        with self._lock:
            if document is None and self._ended.is_set():
                return
            self._saved_at = time.monotonic()
            self._saved = document or _updated(self._saved)
            try:
                self.store.put(self.key, self._saved)
            except StorageError as error:
                log.warning("the record of this attempt is not up to date: %s", error)


def _updated(record: bytes) -> bytes:
    """The record with the present time.

    It may hold many scenes, so it is not parsed: its fields are in the order of their names, and only `write_id`, which has
    digits alone, comes after `updated`.
    """
    head, name, tail = record.rpartition(b'"updated":"')
    return head + name + now().encode() + tail[tail.index(b'"') :]


def begin(store: Store, run_id: str, scenes: dict[str, SceneProgress]) -> Attempt:
    """Open the next free attempt number of a run; two drivers get two numbers."""
    number = 1 + sum(1 for head in store.list(f"runs/{run_id}/attempts") if head.key.endswith(".json"))
    while True:
        attempt = Attempt(store=store, run_id=run_id, number=number, scenes=scenes)
        claimed = claim(store, attempt.key, attempt.document())
        if claimed.won:
            attempt.write_id = claimed.document["write_id"]
            attempt.begin()
            return attempt
        number += 1


def is_recent(updated: str, modified_s: float, within_s: float, now_s: float | None = None) -> bool:
    """Whether a record was written within so many seconds before now, by its writer's clock or by its store's.

    Each clock may be wrong, and who is taken for dead may lose work: one of them is enough. A time more than an hour ahead
    says nothing, or what a clock that stood years ahead has written would count as news for years.

    Args:
        updated: RFC 3339, by the clock of its writer.
        modified_s: POSIX time, by the clock of the store.
        now_s: POSIX time; default: by this machine's clock.
    """
    now_s = time.time() if now_s is None else now_s
    moments = (datetime.fromisoformat(updated).timestamp(), modified_s)
    return any(-_AHEAD_S < now_s - moment < within_s for moment in moments)


def now() -> str:
    """RFC 3339 in UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
