"""`torch.compile(mode="max-autotune")`, which takes minutes to make, against what a run does."""

from __future__ import annotations

from functools import partial

from infra.gpu_check.networks import predictor_of
from infra.gpu_check.sections import Task, Write
from infra.gpu_check.variants import Variant, compare, in_mode


def rows(task: Task, write: Write) -> None:
    """Rows of `compare`."""
    if task.device != "cuda":
        write({"network": task.subject, "left_out": "it searches kernels for a GPU"})
        return
    tuned = Variant("torch.compile(mode='max-autotune')", partial(in_mode, task, "max-autotune"))
    compare(task, write, [Variant("as a run does", partial(predictor_of, task, task.subject)), tuned])
