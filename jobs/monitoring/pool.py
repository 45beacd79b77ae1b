"""The workers of one command of monitoring: as many tasks at once as their planned memory allows.

Apart from the worker, whose process need not import what plans runs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from types import TracebackType
from typing import Self

from earthloom.cluster.executor import Executor, Task, WorkerFactory
from earthloom.cluster.outcome import Failed, Outcome
from earthloom.jobs.config import EngineOptions
from earthloom.jobs.execution.engine import Crew, is_remote, open_workers
from earthloom.jobs.monitoring.worker import MonitorSetup, MonitorTask, MonitorWorker
from earthloom.jobs.planning.resources import Share
from earthloom.tiling.errors import TilingError
from earthloom.tiling.storage.objects import ObjectRef

BASE_BYTES = 320 * 2**20
"""A worker beside its tasks: interpreter, zarr, GDAL with its cache full, tables of polygons; measured, rounded up."""

_GIB = 2**30


class Pool:
    """Workers for the tasks of one command: started with the first task, given back at the end of the block."""

    def __init__(self, options: EngineOptions, out: ObjectRef) -> None:
        self._options, self._out = options, out
        self._stack = ExitStack()
        self._executor: Executor | None = None
        self._limit_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, tasks: Sequence[MonitorTask]) -> Generator[Outcome, None, None]:
        """Do these tasks, and yield what became of each in order of completion.

        Raises:
            TilingError: if one of them needs more memory than a worker may have.
            EngineError: if there are no workers.
        """
        if not tasks:
            return
        if self._executor is None:
            workers = self._stack.enter_context(open_workers(self._options))
            self._executor = workers(self._crew)
        largest = max(tasks, key=lambda task: task.memory_bytes)
        if BASE_BYTES + largest.memory_bytes > self._limit_bytes:
            raise TilingError(
                f"{largest.key}: a worker would need {(BASE_BYTES + largest.memory_bytes) / _GIB:.2f} GiB and may have "
                f"{self._limit_bytes / _GIB:.2f}; give it more (`memory_per_worker`), or the area a smaller `shard`"
            )
        yield from self._executor.run(Task(key=task.key, payload=task) for task in tasks)

    def complete(self, tasks: Sequence[MonitorTask], on_done: Callable[[int, int], None]) -> None:
        """Do these tasks, all of them.

        Args:
            on_done: called with the tasks that are done, and all.

        Raises:
            EarthloomError: that of the first task that fails; and see `run`.
        """
        with closing(self.run(tasks)) as outcomes:
            for number, outcome in enumerate(outcomes, 1):
                if isinstance(outcome, Failed):
                    raise outcome.error.as_error()
                on_done(number, len(tasks))

    def rest(self) -> None:
        """Give the workers' cores and memory back for now; the next task starts others."""
        if self._executor is not None:
            self._executor.dismiss()

    def _crew(self, given: Share) -> Crew:
        limit = min(self._options.memory_per_worker, given.memory_bytes or self._options.memory_per_worker)
        self._limit_bytes = limit
        setup = MonitorSetup(
            out=self._out, threads=given.threads, memory_bytes=max(0, limit - BASE_BYTES), elsewhere=is_remote(self._options)
        )  # fmt: skip
        lanes = given.threads + 1  # one reads or writes while the others compute
        return Crew(factory=WorkerFactory(MonitorWorker, setup), lanes=lanes, memory_bytes=limit)
