"""The executor on Ray: raw actors, each with lanes, that replace one another when they die.

Ray retries and restarts nothing here; the attempt budget is ours (`cluster.backlog`). When an actor dies, the tasks that
were in it are suspects and run again one at a time, alone, on the first idle actor, so that the guilty one is found and
the innocent are not charged; what was on a node that is lost simply runs again. Ray must be connected
(`cluster.session`). Knows nothing of what the tasks are.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping

from earthloom.cluster.backlog import Backlog
from earthloom.cluster.crew import Crew
from earthloom.cluster.executor import Task, WorkerFactory
from earthloom.cluster.outcome import Outcome
from earthloom.cluster.places import Places, Size
from earthloom.cluster.resources import WorkerResources
from earthloom.cluster.retry import Budget
from earthloom.cluster.worker import WorkerStats
from earthloom.tiling.errors import ConfigError


class RayExecutor:
    """Runs tasks on actors of the connected Ray cluster."""

    def __init__(
        self,
        factory: WorkerFactory,
        *,
        workers: int | None = None,
        lanes: int = 3,
        resources: WorkerResources | None = None,
        budget: Budget | None = None,
        size: Size | None = None,
        excluded: Mapping[str, str] | None = None,
        name: str = "earthloom",
        keeps_workers: bool = False,
    ) -> None:
        """
        Args:
            factory: makes one worker in each actor. Where it raises a NodeError or a StorageError, that node is left out.
            workers: actors, at most; None for as many as the tasks can use.
            lanes: tasks that run in one actor at once.
            resources: resources of one actor.
            budget: budget of each task, and of transient faults of the factory.
            size: how the crew may grow and shrink; default: only what fits on the nodes that there are now.
            excluded: nodes by id on which no actor may lie, each with the reason.
            name: what actors are called in Ray's dashboard, with their number.
            keeps_workers: whether actors stay, with the cores that they hold, from one run to the next until `dismiss`.

        Raises:
            ConfigError: if `lanes` or `workers` is below 1.
        """
        if lanes < 1 or (workers is not None and workers < 1):
            raise ConfigError(f"an executor needs at least one worker and one lane, got {workers=}, {lanes=}")
        self._factory = factory
        self._asked = workers
        self._lanes = lanes
        self._resources = resources or WorkerResources()
        self._budget = budget or Budget()
        self._size = size or Size()
        self._excluded = dict(excluded or {})
        self._name = name
        self._keeps_workers = keeps_workers
        self._kept: Crew | None = None
        self._at_work: list[Crew] = []
        """Crews of runs that have begun and not ended; such a run may be left in the middle and never closed."""
        self._stats: dict[int, WorkerStats] = {}

    def worker_stats(self) -> list[WorkerStats]:
        """Every worker of the latest run as it was after its latest reply, those that died included."""
        return [stats for _, stats in sorted(self._stats.copy().items())]

    def run(self, tasks: Iterable[Task | None]) -> Generator[Outcome, None, None]:
        """See `cluster.executor.Executor.run`.

        Raises:
            EngineError: if not one worker fits on the cluster and none will, none starts in time, or workers die one after
                another with no task finished between.
        """
        crew, self._kept = self._kept or self._hire(), None
        self._at_work.append(crew)
        self._stats = {}
        backlog = Backlog(tasks, self._budget, self._lanes)
        try:
            while True:
                yield from crew.fill(backlog)
                if backlog.finished:
                    self._kept = crew if self._keeps_workers else None
                    return
                outcomes = crew.listen(backlog)
                self._stats |= crew.stats()
                yield from outcomes
        finally:
            self._at_work.remove(crew)
            if self._kept is not crew:
                crew.dismiss()
            self._stats |= crew.stats()

    def dismiss(self) -> None:
        """See `cluster.executor.Executor.dismiss`."""
        for crew in (*self._at_work, *([self._kept] if self._kept else [])):
            crew.dismiss()
        self._kept = None

    def _hire(self) -> Crew:
        places = Places(self._asked, self._resources, self._size, self._excluded)
        keeps = self._keeps_workers or not self._size.elastic
        return Crew(self._factory, places, self._lanes, self._budget, self._name, keeps_workers=keeps)
