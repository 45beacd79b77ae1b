"""A lease on a command, or on what is watched: a document held by one process at a time and refreshed while it lives.

It spares work and guards nothing: results are right whoever computes them at once, so a clock that is wrong, or a holder
that was thought dead, costs time and no pixel.
"""

from __future__ import annotations

import logging
import os
import platform
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from earthloom.jobs.records.attempt import is_recent, now
from earthloom.jobs.records.canonical import FORMAT, canonical, read_document
from earthloom.tiling.errors import EarthloomError, MissingObjectError, StorageError
from earthloom.tiling.storage.store import Store

BEAT_S = 10.0
EXPIRES_S = 60.0
"""A holder that was silent for so long is taken for dead; one on this machine at once when its process is gone."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Lease:
    """Who holds it: this process (`held`), or another one as `document` says."""

    store: Store
    key: str
    document: dict[str, Any]
    held: bool
    """False also from when another process has taken it over."""
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def holder(self) -> str:
        """`process 4711 on host, since 2026-11-27T02:00:03Z`."""
        said = self.document
        return f"process {said.get('pid')} on {said.get('host')}, since {said.get('since')}"

    def release(self) -> None:
        """Give it back; one that cannot be given back runs out by itself."""
        self._ended.set()
        with suppress(EarthloomError):
            if self.held and self._ours(*self.store.get_versioned(self.key)):
                self.store.delete(self.key)

    def _ours(self, data: bytes, _etag: str) -> bool:
        return bool(read_document(data, self.key).get("holder") == self.document["holder"])

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            try:
                data, etag = self.store.get_versioned(self.key)
                if not self._ours(data, etag):
                    log.warning("%s was taken over: this process was thought dead", self.key)
                    self.held = False
                    return
                self.store.replace(self.key, canonical(self.document | {"updated": now()}), etag)
            except EarthloomError as error:
                log.warning("the lease %s could not be refreshed: %s", self.key, error)


def lease(store: Store, key: str) -> Lease:
    """Take a lease if it is free, given back, or of a holder that is dead; else say who has it.

    Raises:
        StorageError: if the store cannot be read or written.
        PublishError: if what is there is not of this version.
    """
    ours = {
        "format": FORMAT, "holder": secrets.token_hex(16), "host": platform.node(), "machine": _machine(),
        "pid": os.getpid(), "since": now(), "updated": now(),
    }  # fmt: skip
    for _ in range(8):
        try:
            data, etag = store.get_versioned(key)
        except MissingObjectError:
            taken = store.create(key, canonical(ours))
        else:
            found = read_document(data, key)
            if found.get("holder") == ours["holder"]:
                taken = True  # a write whose answer was lost
            elif (head := store.head(key)) is not None and _is_living(found, head.modified_s):
                return Lease(store, key, found, held=False)
            else:
                taken = store.replace(key, canonical(ours), etag)
        if taken:
            made = Lease(store, key, ours, held=True)
            threading.Thread(target=made._beat, name="lease", daemon=True).start()
            return made
    raise StorageError(f"{store.ref.url}/{key} changes all the time; try again", transient=True)


def _is_living(found: Mapping[str, Any], modified_s: float) -> bool:
    try:
        if not is_recent(found["updated"], modified_s, EXPIRES_S):
            return False
        if found["machine"] == _machine():
            return Path(f"/proc/{int(found['pid'])}").exists()
    except (KeyError, TypeError, ValueError):  # damaged: nobody refreshes it
        return False
    return True


def _machine() -> str:
    """The name space of this process's number: of one boot of one machine, and one container on it."""
    parts = [platform.node()]
    with suppress(OSError):
        parts += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return " ".join(parts)
