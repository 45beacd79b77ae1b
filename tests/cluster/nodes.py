"""A cluster whose nodes come and go, and processes that work on it, whose lines are read one by one."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[2]
_ENDED = "(the process has ended)"


class Nodes:
    """A cluster of this test's own: its head and the nodes that were added to it, without a dashboard."""

    env: Mapping[str, str] = os.environ
    """Of processes that use it."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.address = str(self._cluster.address)

    def add(self, num_cpus: int, env: Mapping[str, str] | None = None) -> Any:
        return self._cluster.add_node(num_cpus=num_cpus, env_vars=dict(env or {}))

    def remove(self, node: Any, *, at_once: bool = True) -> None:
        self._cluster.remove_node(node, allow_graceful=not at_once)

    def settle(self, timeout_s: float = 120) -> None:
        """Wait until the head knows of those that were removed: one that was killed is alive to it for some seconds."""
        self._cluster.wait_for_nodes(timeout=timeout_s)

    def end(self) -> None:
        self._cluster.shutdown()


@contextmanager
def nodes() -> Iterator[Nodes]:
    """A head without cores. Ray's variables of this process, which may be connected elsewhere, do not reach it."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("RAY_")}
    try:
        made = Nodes()
        yield made
        made.end()
    finally:
        os.environ.update(before)


class Found(Protocol):
    """What processes need to know of a cluster."""

    @property
    def address(self) -> str: ...
    @property
    def env(self) -> Mapping[str, str]: ...


class Driver:
    """A Python process that finds the cluster as a user's would."""

    def __init__(self, cluster: Found, *arguments: str, before: Sequence[str] = ()) -> None:
        """`before`: words that start a program elsewhere, ahead of the interpreter's."""
        env = {**cluster.env, "RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [*before, sys.executable, *arguments], env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._coming: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._coming.put(line.rstrip("\n"))
        self._coming.put(_ENDED)

    def until(self, text: str, times: int = 1, timeout_s: float = 240) -> str:
        """Read on to the n-th line from here that holds a text."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._coming.get(timeout=max(0.1, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {text!r} after {self.lines}") from None
            assert line != _ENDED, f"no {text!r} after {self.lines}"
            self.lines.append(line)
            times -= text in line
            if times == 0:
                return line
