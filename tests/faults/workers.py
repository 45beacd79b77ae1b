"""Workers that die or run out of memory at chosen tasks. Top-level, so that Ray can send them."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from earthloom.jobs.execution.scene_worker import SceneWorker
from earthloom.jobs.execution.tasks import SceneTask
from earthloom.jobs.execution.worker import WorkerSetup


@dataclass(frozen=True, slots=True)
class Doomed:
    """A worker's setup, and the tasks that kill it."""

    setup: WorkerSetup
    once: frozenset[str] = frozenset()
    """Keys of tasks that kill their worker the first time, of all processes."""
    always: frozenset[str] = frozenset()
    marks: Path = Path()


class DoomedWorker(SceneWorker):
    """Dies of SIGKILL at the beginning of a task."""

    def __init__(self, doomed: Doomed) -> None:
        super().__init__(doomed.setup)
        self._doomed = doomed

    def __call__(self, task: SceneTask) -> Any:
        if task.key in self._doomed.always or (task.key in self._doomed.once and self._first(task.key)):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(task)

    def _first(self, key: str) -> bool:
        try:
            os.close(os.open(self._doomed.marks / key.replace("/", "_"), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


class SmallMemory(torch.nn.Module):
    """A network on a device that has memory for one chip at a time."""

    def __init__(self, inner: torch.nn.Module, sizes: list[int]) -> None:
        super().__init__()
        self._inner, self._sizes = inner, sizes

    def forward(self, chips: torch.Tensor) -> Any:
        self._sizes.append(len(chips))
        if len(chips) > 1:
            raise torch.OutOfMemoryError("no memory (injected)")
        return self._inner(chips)


class GatedWorker(SceneWorker):
    """Does one task, leaves a file named after its node in the folder $GATE, and waits for the file `open` there."""

    def __init__(self, setup: WorkerSetup) -> None:
        super().__init__(setup)
        self._gate, self._lock = Path(os.environ["GATE"]), threading.Lock()
        self._done = 0

    def __call__(self, task: SceneTask) -> Any:
        import ray

        untyped: Any = ray
        with self._lock:
            first, self._done = self._done == 0, self._done + 1
        while not first and not (self._gate / "open").exists():
            time.sleep(0.05)
        answer = super().__call__(task)
        (self._gate / str(untyped.util.get_node_ip_address())).touch()
        return answer
