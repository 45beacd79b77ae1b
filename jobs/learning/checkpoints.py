"""Checkpoints of a training in the store of its OUT: the same command goes on from the newest one that is whole.

A checkpoint is one object and so is there or not. It holds all that the next step depends on beside the data, which is a
function of seed and step.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from earthloom.models.training.state import from_bytes, to_bytes
from earthloom.tiling.errors import CardError, MissingObjectError
from earthloom.tiling.storage.store import Store

_log = logging.getLogger(__name__)
_STEP = re.compile(r"(step|best)-(\d{9})\.safetensors$")
_KEPT = 2
_FINAL = "final.safetensors"


class Checkpoints:
    """The checkpoints of one training with one seed.

    Args:
        store: store of OUT.
        prefix: below which they lie.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self._store, self._prefix = store, prefix.rstrip("/")

    def latest(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Tensors and note of the newest checkpoint that is whole; None where there is none."""
        for step in sorted(self._steps("step"), reverse=True):
            key = self._key("step", step)
            try:
                return from_bytes(self._store.get(key), f"{self._store.ref.url}/{key}")
            except (CardError, MissingObjectError) as error:
                _log.warning("a checkpoint is passed over: %s", error)
        return None

    def save(self, step: int, tensors: dict[str, Any], note: dict[str, Any], best_step: int | None) -> None:
        """Write a checkpoint, then remove those that nobody needs any more.

        Args:
            step: steps that were taken.
            best_step: that of the best weights so far, which stay.
        """
        self._store.put(self._key("step", step), to_bytes(tensors, note))
        for older in sorted(self._steps("step"), reverse=True)[_KEPT:]:
            self._store.delete(self._key("step", older))
        for other in self._steps("best") - {best_step}:
            if other < step:  # a later one is of a process that was killed; it is made again, byte for byte
                self._store.delete(self._key("best", other))

    def save_best(self, step: int, tensors: dict[str, Any]) -> None:
        """Write weights that are better than all before; a checkpoint that says so follows."""
        self._store.put(self._key("best", step), to_bytes(tensors, {"step": step}))

    def best(self, step: int) -> dict[str, Any]:
        """The weights that `save_best` wrote.

        Raises:
            MissingObjectError, CardError: if they are gone or damaged.
        """
        key = self._key("best", step)
        return from_bytes(self._store.get(key), f"{self._store.ref.url}/{key}")[0]

    def finish(self, tensors: dict[str, Any], note: dict[str, Any]) -> None:
        """Write what came of this seed; its checkpoints are not needed any more."""
        self._store.put(f"{self._prefix}/{_FINAL}", to_bytes(tensors, note))
        self.tidy()

    def tidy(self) -> None:
        """Remove the checkpoints of a seed that is finished; its last process may have been killed before it could."""
        for kind in ("step", "best"):
            for step in self._steps(kind):
                self._store.delete(self._key(kind, step))

    def finished(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Weights and note of the finished training; None while it is not done."""
        key = f"{self._prefix}/{_FINAL}"
        try:
            return from_bytes(self._store.get(key), f"{self._store.ref.url}/{key}")
        except MissingObjectError:
            return None

    def _key(self, kind: str, step: int) -> str:
        return f"{self._prefix}/{kind}-{step:09d}.safetensors"

    def _steps(self, kind: str) -> set[int]:
        found = (_STEP.search(head.key) for head in self._store.list(self._prefix))
        return {int(match[2]) for match in found if match and match[1] == kind}
