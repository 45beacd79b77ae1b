"""The worker of monitoring: does whatever task it is given, several at once as far as their planned memory allows.

Runs in a Ray actor or in this process alike. Knows nothing of what the tasks are, nor of who sends them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from earthloom.cluster.allowance import Allowance
from earthloom.tiling.redact import guard_logs
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.probe import probe_access
from earthloom.tiling.storage.settings import apply
from earthloom.tiling.storage.store import Store, open_store


class MonitorTask(Protocol):
    """A small frozen value that travels. Doing it twice leaves the same bytes."""

    @property
    def key(self) -> str:
        """Names it in messages; no two tasks of one plan share it."""

    @property
    def memory_bytes(self) -> int:
        """Most that it takes beside the worker itself."""

    def do(self, store: Store) -> Any:
        """Do it.

        Args:
            store: on OUT.

        Returns:
            A small picklable record.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorSetup:
    """The settings of a worker."""

    out: ObjectRef
    threads: int
    memory_bytes: int
    """Memory that its tasks may take together."""
    elsewhere: bool
    """True if it may run on another machine than the command, which has other rights in OUT."""


class MonitorWorker:
    """Does tasks, called from several threads at once."""

    def __init__(self, setup: MonitorSetup) -> None:
        """
        Raises:
            StorageError: if this machine cannot read or write in OUT. A node that fails fast would be given most tasks.
        """
        guard_logs()
        apply(threads=setup.threads)
        self._store = open_store(setup.out)
        if setup.elsewhere:
            probe_access(self._store)
        self._memory = Allowance(setup.memory_bytes)

    def __call__(self, task: MonitorTask) -> Any:
        with self._memory.taken(task.memory_bytes):
            return task.do(self._store)
