"""Where a run's blocks are computed: wires the plan to workers, on Ray or in this process.

With a cluster the plan needs to know what the *workers* compute on, because the device class is in every result's key;
without one, everything is planned before Ray is started, so that bad input is told at once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from earthloom.cluster.executor import Executor, Task, WorkerFactory
from earthloom.cluster.outcome import Done, Outcome
from earthloom.cluster.retry import Budget
from earthloom.cluster.worker import WorkerStats
from earthloom.jobs.config import EngineOptions, RunConfig
from earthloom.jobs.intake.references import SceneRequest
from earthloom.jobs.planning.plan import RunPlan, plan
from earthloom.jobs.planning.resources import Share, here, share
from earthloom.models.device.resolve import Device, resolve
from earthloom.tiling.errors import EngineError

if TYPE_CHECKING:
    from earthloom.cluster.local import LocalExecutor
    from earthloom.cluster.ray_pool import RayExecutor
    from earthloom.cluster.session import Session

BUDGET = Budget(deadline_s=1800.0)
"""What one task may cost. Its requests have retries and time-outs of their own below that (`tiling.storage.remote`, GDAL)."""


_NOT_CODE = shutil.ignore_patterns("__pycache__")


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A plan and what runs it."""

    plan: RunPlan
    executor: Executor
    start_s: float
    """Seconds from asking for the engine to having it, without planning."""
    worker_stats: Callable[[], list[WorkerStats]]


def plan_here(config: RunConfig, requests: Sequence[SceneRequest] | None = None) -> RunPlan | None:
    """The plan, if this machine is where blocks are computed; None when a cluster has to be asked first.

    Raises:
        InputError, EngineError: see `jobs.planning.plan.plan`.
    """
    remote = config.engine.executor == "ray" and (config.engine.address or os.environ.get("RAY_ADDRESS"))
    return None if remote else plan(config, requests=requests)


def idle_engine(made: RunPlan) -> Engine:
    """For a run whose scenes are all published: what it is given to compute is nothing, and nothing is started."""
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
        if session is None:
            made = made_here or plan(config, requests=requests)
            given = share(config.engine, on_gpu=False, nodes=here())
        else:
            device = made_here.device if made_here else _device_of_workers(config, session.resources.get("GPU", 0) > 0)
            given = share(config.engine, on_gpu=device.kind == "cuda", nodes=session.nodes)
            made = made_here or plan(config, device, given, requests)
        crew = Crew(
            factory=_factory(config, made, given.threads), lanes=made.shape.lanes, memory_bytes=made.worker_bytes
        )
        pool = _executor(crew, given, session)
        yield Engine(plan=made, executor=pool, start_s=start_s, worker_stats=pool.worker_stats)


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
        given = share(options, on_gpu=False, nodes=session.nodes if session else here())
        made: list[Executor] = []

        def workers(crew: Callable[[Share], Crew]) -> Executor:
            made.append(_executor(crew(given), given, session, keeps_workers=True))
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


def _executor(
    crew: Crew, given: Share, session: Session | None, *, keeps_workers: bool = False
) -> LocalExecutor | RayExecutor:
    if session is None:
        from earthloom.cluster.local import LocalExecutor

        return LocalExecutor(crew.factory, lanes=crew.lanes, budget=BUDGET)
    from earthloom.cluster.ray_pool import RayExecutor
    from earthloom.cluster.resources import WorkerResources

    resources = WorkerResources(cpus=given.threads, gpus=given.gpus, memory_bytes=crew.memory_bytes)
    return RayExecutor(
        crew.factory, workers=given.workers, lanes=crew.lanes, resources=resources, budget=BUDGET,
        keeps_workers=keeps_workers,
    )  # fmt: skip


@contextmanager
def sent_package() -> Iterator[Path]:
    """The package `earthloom` as a wheel would hold it, to be sent to a cluster's workers."""
    spec = find_spec("earthloom")  # not imported: the public face leads to rooms that stand on this one
    assert spec is not None, "this module is part of it"
    here = Path(str(spec.origin)).resolve().parent
    if (here / "jobs").is_dir():  # installed
        yield here
        return
    with tempfile.TemporaryDirectory(prefix="earthloom-") as folder:  # a checkout: the parts lie beside each other
        whole = shutil.copytree(here, Path(folder, here.name), ignore=_NOT_CODE)
        for name in ("jobs", "tiling", "models", "cluster"):
            shutil.copytree(here.parent / name, whole / name, ignore=_NOT_CODE)
        yield whole


def _factory(config: RunConfig, made: RunPlan, threads: int) -> WorkerFactory:
    from earthloom.jobs.execution.scene_worker import SceneWorker
    from earthloom.jobs.execution.worker import PlannedModel, WorkerSetup

    models = {
        PlannedModel(card, folders[card.digest()], stage.precision, stage.flips, stage.compiled): None
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


def _device_of_workers(config: RunConfig, has_gpus: bool) -> Device:
    """What a worker of the cluster computes on; the driver's own machine may have no GPU, or another processor."""
    from earthloom.cluster.ray_pool import RayExecutor
    from earthloom.cluster.resources import WorkerResources

    wanted = ("cpu" if config.device == "auto" and not has_gpus else config.device, config.precision)
    resources = WorkerResources(cpus=1.0, gpus=0.0 if wanted[0] == "cpu" else 1.0)
    probe = RayExecutor(WorkerFactory(_Probe, wanted), workers=1, lanes=1, resources=resources)
    (outcome,) = probe.run([Task(key="device", payload=None)])
    if not isinstance(outcome, Done):
        raise outcome.error.as_error()
    device = outcome.value
    assert isinstance(device, Device), "the probe returns a Device"
    return device


class _Probe:
    def __init__(self, wanted: tuple[str, str]) -> None:
        self._wanted = wanted

    def __call__(self, _: None) -> Device:
        return resolve(*self._wanted)
