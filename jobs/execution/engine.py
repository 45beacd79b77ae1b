"""Where a run's blocks are computed: wires the plan to workers, on Ray or in this process.

With a cluster the plan needs to know what the *workers* compute on, because the device class is in every result's key;
without one, everything is planned before Ray is started, so that bad input is told at once.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from earthloom.cluster.executor import Executor, Task, WorkerFactory
from earthloom.cluster.outcome import Done, Outcome
from earthloom.cluster.retry import Budget
from earthloom.cluster.worker import WorkerStats
from earthloom.jobs.config import RunConfig
from earthloom.jobs.planning.plan import RunPlan, plan
from earthloom.jobs.planning.resources import here, share
from earthloom.models.device.resolve import Device, resolve
from earthloom.tiling.errors import EngineError

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


def plan_here(config: RunConfig) -> RunPlan | None:
    """The plan, if this machine is where blocks are computed; None when a cluster has to be asked first.

    Raises:
        InputError, EngineError: see `jobs.planning.plan.plan`.
    """
    remote = config.executor == "ray" and (config.address or os.environ.get("RAY_ADDRESS"))
    return None if remote else plan(config)


def idle_engine(made: RunPlan) -> Engine:
    """For a run whose scenes are all published: what it is given to compute is nothing, and nothing is started."""
    return Engine(plan=made, executor=_Idle(), start_s=0.0, worker_stats=list)


class _Idle:
    def run(self, tasks: Iterable[Task | None]) -> Generator[Outcome, None, None]:
        for task in tasks:
            assert task is not None, "nothing runs that a task could be waiting for"
            raise EngineError(
                f"{task.key} has to be computed after all: its scene was unpublished meanwhile; run again"
            )
        yield from ()


@contextmanager
def open_engine(config: RunConfig, made_here: RunPlan | None) -> Iterator[Engine]:
    """Connect and make the executor, and plan if that was not possible before; everything is given back on exit.

    Raises:
        InputError, EngineError: see `jobs.planning.plan.plan` and `cluster.session.connect`.
    """
    if config.executor == "local":
        from earthloom.cluster.local import LocalExecutor

        made = made_here or plan(config)
        local = LocalExecutor(
            _factory(config, made, share(config, on_gpu=False, nodes=here()).threads),
            lanes=made.shape.lanes,
            budget=BUDGET,
        )
        yield Engine(plan=made, executor=local, start_s=0.0, worker_stats=local.worker_stats)
        return
    from earthloom.cluster.session import connect

    with ExitStack() as stack:
        started = time.monotonic()
        packages = [stack.enter_context(sent_package())]
        session = stack.enter_context(connect(config.address, cpus=int(here()[0]["CPU"]), packages=packages))
        from earthloom.cluster.ray_pool import RayExecutor
        from earthloom.cluster.resources import WorkerResources

        start_s = time.monotonic() - started
        device = made_here.device if made_here else _device_of_workers(config, session.resources.get("GPU", 0) > 0)
        given = share(config, on_gpu=device.kind == "cuda", nodes=session.nodes)
        made = made_here or plan(config, device, given)
        resources = WorkerResources(cpus=given.threads, gpus=given.gpus, memory_bytes=made.worker_bytes)
        pool = RayExecutor(
            _factory(config, made, given.threads), workers=given.workers, lanes=made.shape.lanes, resources=resources,
            budget=BUDGET,
        )  # fmt: skip
        yield Engine(plan=made, executor=pool, start_s=start_s, worker_stats=pool.worker_stats)


@contextmanager
def sent_package() -> Iterator[Path]:
    """The package `earthloom` as a wheel would hold it, to be sent to a cluster's workers."""
    face = sys.modules["earthloom"].__file__  # importing it here would be a circle: it calls the driver
    assert face, "the package has an __init__.py"
    here = Path(face).resolve().parent
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
