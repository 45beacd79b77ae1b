"""`torch.compile(mode="max-autotune")`, which takes minutes to make, against what a run does."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

from infra.gpu_check.networks import predictor_of
from infra.gpu_check.sections import Task, Write
from infra.gpu_check.variants import _in_mode, compare


def rows(task: Task, write: Write) -> None:
    """As `variants`."""
    if task.device != "cuda":
        write({"network": task.subject, "left out": "it searches kernels for a GPU"})
        return
    compare(task, write, [
        ("as a run does", partial(predictor_of, task, task.subject), nullcontext),
        ("torch.compile(mode='max-autotune')", partial(_in_mode, task, "max-autotune"), nullcontext),
    ])  # fmt: skip
