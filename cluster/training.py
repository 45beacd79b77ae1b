"""Processes that train one network together: Ray Train starts them, joins them in a group, and starts all anew when one dies.

What they do, and from where a new group goes on, is the function's affair; nothing but its end comes back. Ray must be
connected (`cluster.session`). Knows nothing of networks.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from typing import Any

from earthloom.cluster.outcome import Fault
from earthloom.tiling.errors import EarthloomError, EngineError

_FAILURES = 5
"""Groups that may die before it is given up; each new one takes half a minute to start."""


def train_together(
    function: Callable[[Any], None], argument: Any, *, workers: int, cpus: float, gpus: float = 0.0,
    failures: int = _FAILURES,
) -> None:  # fmt: skip
    """Run a function in several processes whose torch.distributed group is set up, to its end in all of them.

    Args:
        function: top-level; is called with the argument in each process, again in new processes after one has died.
        argument: plain values.
        workers: processes.
        cpus, gpus: of each.
        failures: groups that may fail before it is given up.

    Raises:
        EarthloomError: what the function raised in the last group, with its class.
        EngineError: if processes cannot be placed, or die again and again.
    """
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")  # its default since 2.51
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(
        prefix="earthloom-ray-train-"
    ) as folder:  # it insists on one; nothing is kept there
        trainer = TorchTrainer(
            _call,
            train_loop_config={"function": function, "argument": argument},
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=bool(gpus),
                resources_per_worker={"CPU": cpus} | ({"GPU": gpus} if gpus else {}),
            ),
            run_config=RunConfig(
                name="training", storage_path=folder, failure_config=FailureConfig(max_failures=failures)
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            raise _cause(error) from error


def _call(config: dict[str, Any]) -> None:
    config["function"](config["argument"])


def _cause(error: BaseException) -> EarthloomError:
    """What the function raised in the process of the lowest rank, as an error of ours."""
    failures: dict[int, BaseException] = getattr(error, "worker_failures", {})
    for _, failure in sorted(failures.items()):
        inner = getattr(failure, "_base_exc", None) or getattr(failure, "cause", None) or failure
        if isinstance(inner, EarthloomError):
            return Fault.of(inner).as_error()
    text = " ".join(str(next(iter(failures.values()), error)).split())[-400:]
    return EngineError(f"workers that train together failed again and again; the last: {text}")
