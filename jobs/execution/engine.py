"""Where a run's blocks are computed: wires the plan to workers, on Ray or in this process.

With a cluster the plan needs to know what the *workers* compute on, because the device class is in every result's key;
without one, everything is planned before Ray is started, so that bad input is told at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from earthloom.cluster.executor import Executor, Task, WorkerFactory
from earthloom.cluster.local import LocalExecutor
from earthloom.cluster.outcome import Outcome
from earthloom.cluster.package import sent_package
from earthloom.cluster.retry import Budget
from earthloom.cluster.session import is_guest
from earthloom.cluster.worker import WorkerStats
from earthloom.jobs.config import EngineOptions, RunConfig
from earthloom.jobs.execution.carrying import carry_all
from earthloom.jobs.intake.references import SceneRequest
from earthloom.jobs.planning.plan import RunPlan, plan
from earthloom.jobs.planning.resources import Share, here, share
from earthloom.jobs.publish.catalog import namesakes
from earthloom.tiling.errors import EarthloomError, EngineError
from earthloom.tiling.storage.store import open_store

if TYPE_CHECKING:
    from earthloom.cluster.places import Size
    from earthloom.cluster.ray_pool import RayExecutor
    from earthloom.cluster.session import Session

BUDGET = Budget(deadline_s=1800.0)
"""What one task may cost. Its requests have retries and time-outs of their own below that (`tiling.storage.remote`, GDAL)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A plan and what runs it."""

    plan: RunPlan
    executor: Executor
    start_s: float
    """Seconds from asking for the engine to having it, without planning."""
    worker_stats: Callable[[], list[WorkerStats]]
    n_workers: int = 1
    """Number of workers that there is room for as it begins."""


def plan_here(config: RunConfig, requests: Sequence[SceneRequest] | None = None) -> RunPlan | None:
    """The plan, if this machine is where blocks are computed; None when a cluster has to be asked first.

    Raises:
        InputError, EngineError: see `jobs.planning.plan.plan`.
    """
    return None if is_remote(config.engine) else plan(config, requests=requests)


def with_namesakes(made: RunPlan) -> RunPlan:
    """The plan with a note on each scene whose result will hide in tables what was made of another file of its name."""
    try:
        notes = namesakes(open_store(made.out), made.scenes)
    except EarthloomError as error:  # a run that goes on finds out by itself
        notes = [(made.model, f"what `out` holds of it could not be read: {error}")]
    return replace(made, notes=tuple(dict.fromkeys((*made.notes, *notes))))


def workers_here(config: RunConfig, made: RunPlan) -> int:
    """How many workers there will be on this machine."""
    return share(config.engine, on_gpu=made.device.kind == "cuda", nodes=here()).workers or 1


def is_remote(options: EngineOptions) -> bool:
    """Whether machines compute that may be others than this one, come and go."""
    if options.executor == "local":
        return False
    return bool(options.address or os.environ.get("RAY_ADDRESS")) or is_guest()


def idle_engine(made: RunPlan) -> Engine:
    """An engine that starts nothing, for a run whose scenes are all published."""
    return Engine(plan=made, executor=_Idle(), start_s=0.0, worker_stats=list)


class _Idle:
    def dismiss(self) -> None:
        pass

    def run(self, tasks: Iterable[Task | None]) -> Generator[Outcome, None, None]:
        for task in tasks:
            assert task is not None, "nothing runs that a task could be waiting for"
            raise EngineError(
                f"{task.key} has to be computed after all: its scene was unpublished meanwhile; run again"
            )
        yield from ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The workers that compute."""

    factory: WorkerFactory
    lanes: int
    """Tasks in one worker at once."""
    memory_bytes: int
    """Most that one worker takes."""


@contextmanager
def open_engine(
    config: RunConfig, made_here: RunPlan | None, requests: Sequence[SceneRequest] | None = None
) -> Iterator[Engine]:
    """Connect and make the executor, and plan if that was not possible before; everything is given back on exit.

    Raises:
        InputError, EngineError: see `jobs.planning.plan.plan` and `cluster.session.connect`.
    """
    started = time.monotonic()
    with _session(config.engine) as session:
        start_s = time.monotonic() - started if session else 0.0
        if made_here or session is None:
            made = made_here or plan(config, requests=requests)
            on_gpu = session is not None and made.device.kind == "cuda"
            given = share(config.engine, on_gpu=on_gpu, nodes=session.nodes if session else here())
            pool = _executor(_crew(config, made, given), given, session, config.engine, name=_name(made))
            n_workers = given.workers or 1
        else:
            made, pool, n_workers = _on_cluster(config, session, requests)
        yield Engine(
            plan=with_namesakes(made), executor=pool, start_s=start_s, worker_stats=pool.worker_stats, n_workers=n_workers
        )  # fmt: skip


def _on_cluster(
    config: RunConfig, session: Session, requests: Sequence[SceneRequest] | None
) -> tuple[RunPlan, RayExecutor, int]:
    """Plan for the nodes of a cluster, which are asked first what they are; and how many workers they have room for."""
    from earthloom.cluster.resources import WorkerResources, fitting
    from earthloom.jobs.execution.nodes import fitted, take_nodes

    taken = take_nodes(config, _size(config.engine))
    device = taken.kind.device
    nodes = [node.resources for node in taken.nodes]
    given = share(config.engine, on_gpu=device.kind == "cuda", nodes=nodes, elastic=True)
    speed = taken.flop_per_s * (1 if device.kind == "cuda" else given.threads)
    made = plan(config, device, given, requests, speed)
    crew = _crew(config, made, given, carried=True)
    crew = replace(crew, factory=fitted(crew.factory, taken, config))
    pool = _executor(crew, given, session, config.engine, excluded=taken.left_out, name=_name(made))
    assert not isinstance(pool, LocalExecutor)
    need = WorkerResources(cpus=given.threads, gpus=given.gpus, memory_bytes=crew.memory_bytes)
    return made, pool, max(1, min(config.engine.workers or config.engine.max_workers, fitting(need, nodes)))


def _crew(config: RunConfig, made: RunPlan, given: Share, *, carried: bool = False) -> Crew:
    factory = _factory(config, made, given.threads)
    if carried:
        factory = WorkerFactory(factory.make, carry_all(factory.arguments))
    return Crew(factory=factory, lanes=made.shape.lanes, memory_bytes=made.worker_bytes)


def _name(made: RunPlan) -> str:
    return f"{made.model} {made.run_id[:8]}"


Workers: TypeAlias = Callable[[Callable[[Share], Crew]], Executor]
"""Makes an executor of what says which workers are wanted, told what each of them gets."""


@contextmanager
def open_workers(options: EngineOptions) -> Iterator[Workers]:
    """Workers for other work than a run's, which needs no GPU. They stay between two calls of an executor's `run`.

    Everything is given back on exit.

    Raises:
        EngineError: see `cluster.session.connect`.
    """
    with _session(options) as session:
        nodes = session.nodes if session else here()
        given = share(options, on_gpu=False, nodes=nodes, elastic=is_remote(options))
        made: list[Executor] = []

        def workers(crew: Callable[[Share], Crew]) -> Executor:
            made.append(_executor(crew(given), given, session, options, keeps_workers=True))
            return made[-1]

        try:
            yield workers
        finally:
            for executor in made:
                executor.dismiss()


@contextmanager
def _session(options: EngineOptions) -> Iterator[Session | None]:
    """A connection to Ray; None where this process computes."""
    if options.executor == "local":
        yield None
        return
    from earthloom.cluster.session import connect

    with ExitStack() as stack:
        packages = [stack.enter_context(sent_package())]
        yield stack.enter_context(connect(options.address, cpus=int(here()[0]["CPU"]), packages=packages))


def _size(options: EngineOptions) -> Size:
    """How large a crew on a cluster may become."""
    from earthloom.cluster.places import Size

    return Size(elastic=True, most=options.max_workers, wait_s=options.wait_for_workers)


def _executor(
    crew: Crew, given: Share, session: Session | None, options: EngineOptions, *, keeps_workers: bool = False,
    excluded: Mapping[str, str] | None = None, name: str = "earthloom",
) -> LocalExecutor | RayExecutor:  # fmt: skip
    if session is None:
        return LocalExecutor(crew.factory, lanes=crew.lanes, budget=BUDGET)
    from earthloom.cluster.ray_pool import RayExecutor
    from earthloom.cluster.resources import WorkerResources

    resources = WorkerResources(cpus=given.threads, gpus=given.gpus, memory_bytes=crew.memory_bytes)
    return RayExecutor(
        crew.factory, workers=given.workers, lanes=crew.lanes, resources=resources, budget=BUDGET,
        size=_size(options) if is_remote(options) else None, excluded=excluded, name=name, keeps_workers=keeps_workers,
    )  # fmt: skip


def _factory(config: RunConfig, made: RunPlan, threads: int) -> WorkerFactory:
    from earthloom.jobs.execution.scene_worker import SceneWorker
    from earthloom.jobs.execution.worker import PlannedModel, WorkerSetup

    models = {
        PlannedModel(card, folders[card.digest()], None, stage.precision, stage.flips, stage.compiled): None
        for scene in made.scenes
        for folders in [dict(scene.chain.folders)]
        for stage in scene.chain.stages
        for card in stage.cards
    }
    setup = WorkerSetup(
        out=made.out, device=made.device, models=tuple(models), threads=threads, shape=made.shape.with_threads(threads),
        batch=config.batch,
    )  # fmt: skip
    return WorkerFactory(SceneWorker, setup)
