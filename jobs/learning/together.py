"""Trains one seed in several processes on Ray; each reads its own share of every batch from storage, the first of them writes.

They meet at OUT, which all of them must reach: a bucket, or a folder of this machine or of a shared file system.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from earthloom.cluster.package import sent_package
from earthloom.jobs.learning.checkpoints import Checkpoints
from earthloom.jobs.learning.config import check_training
from earthloom.jobs.learning.fitting import Fitted
from earthloom.jobs.planning.resources import here
from earthloom.tiling.errors import EngineError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import apply
from earthloom.tiling.storage.store import Store, open_store


def train_together(
    config: dict[str, Any], store: Store, prefix: str, settings: dict[str, Any], seed: int, *, workers: int,
    address: str | None,
) -> Fitted:  # fmt: skip
    """Train one seed on Ray, or go on training it.

    Args:
        config: configuration of the training, plain values.
        store: store of OUT; the index of chips lies below `prefix`, checkpoints and logs come there.
        settings: how it computes, as `jobs.learning.seeds.train_seed` takes them.
        workers: processes.
        address: address of a Ray cluster; None: Ray inside this process.

    Raises:
        EngineError: if Ray cannot be used, workers die again and again, or they wrote elsewhere.
        EarthloomError: what a worker raised.
    """
    checkpoints = Checkpoints(store, f"{prefix}/seed-{seed}")
    if (done := checkpoints.finished()) is not None:
        return Fitted(seed=seed, weights=done[0], **done[1])
    from earthloom.cluster.session import connect
    from earthloom.cluster.training import train_together as run_together

    on_gpu = settings["device"] == "cuda"
    with ExitStack() as stack:
        packages = [stack.enter_context(sent_package())]
        session = stack.enter_context(connect(address, cpus=int(here()[0]["CPU"]), packages=packages))
        cpus = 1.0 if on_gpu else max(1.0, session.resources.get("CPU", 1.0) // workers)
        argument = {
            "config": config, "prefix": prefix, "seed": seed,
            "settings": settings | {"threads": settings["threads"] if on_gpu else int(cpus)},
        }  # fmt: skip
        run_together(work, argument, workers=workers, cpus=cpus, gpus=float(on_gpu))
    done = checkpoints.finished()
    if done is None:
        raise EngineError(
            f"the workers finished, but {store.ref.url}/{prefix} holds nothing: they write to another place of that name; use "
            "an `out` that all nodes see, such as s3://bucket/prefix"
        )
    return Fitted(seed=seed, weights=done[0], **done[1])


def work(argument: dict[str, Any]) -> None:
    """Train one process's share of a seed; every process runs this."""
    from earthloom.jobs.learning.seeds import train_seed
    from earthloom.jobs.learning.train import reopened

    apply()
    config, prefix = check_training(argument["config"]), argument["prefix"]
    store = open_store(ObjectRef.parse(config.out))
    train_seed(reopened(config, store, prefix, argument["settings"], index_prefix=prefix), argument["seed"])
