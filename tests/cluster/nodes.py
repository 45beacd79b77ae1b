"""A cluster whose nodes come and go, and processes that work on it, whose lines are read one by one."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from infra.processes import free_ports

ROOT = Path(__file__).parents[2]
_ENDED = "(the process has ended)"


class Nodes:
    """A cluster of this test's own: its head and the nodes that were added to it, without a dashboard."""

    def __init__(self, autoscaled: tuple[Path, int] | None = None) -> None:
        """
        Args:
            autoscaled: a folder for its configuration, and how many nodes of one core an autoscaler may add.
        """
        from ray.cluster_utils import Cluster

        head: dict[str, Any] = {"num_cpus": 0, "include_dashboard": False}
        if autoscaled:
            (port,) = free_ports(1)
            config = _autoscaling(*autoscaled, port)
            head |= {"node_ip_address": "127.0.0.1", "gcs_server_port": port, "autoscaling_config": str(config)}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self.address = str(self._cluster.address)

    def add(self, num_cpus: int, env: Mapping[str, str] | None = None) -> Any:
        return self._cluster.add_node(num_cpus=num_cpus, env_vars=dict(env or {}))

    def remove(self, node: Any, *, at_once: bool = True) -> None:
        self._cluster.remove_node(node, allow_graceful=not at_once)

    def end(self) -> None:
        mine = psutil.Process().children(
            recursive=True
        )  # those that the autoscaler added end with their head only later
        self._cluster.shutdown()
        for process in mine:
            if "--gcs-address=" + self.address in " ".join(_command(process)):
                process.kill()


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _autoscaling(folder: Path, most_nodes: int, port: int) -> Path:
    """A configuration of Ray's own provider for tests, whose nodes are processes of this machine."""
    kinds = {
        "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "small": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": most_nodes},
    }
    config = {
        "cluster_name": "fake", "max_workers": most_nodes, "idle_timeout_minutes": 0.2, "head_node_type": "head",
        "provider": {"type": "fake_multinode", "gcs_address": f"127.0.0.1:{port}"}, "available_node_types": kinds,
    }  # fmt: skip
    path = folder / "autoscaling.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return path


@contextmanager
def nodes(autoscaled: tuple[Path, int] | None = None) -> Iterator[Nodes]:
    """A head without cores. Ray's variables of this process, which may be connected elsewhere, do not reach it."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("RAY_")}
    try:
        os.environ |= {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"} if autoscaled else {}
        made = Nodes(autoscaled)
        yield made
        made.end()
    finally:
        for name in ("RAY_FAKE_CLUSTER", "AUTOSCALER_UPDATE_INTERVAL_S"):
            os.environ.pop(name, None)
        os.environ.update(before)


class Driver:
    """A Python process that finds the cluster as a user's would."""

    def __init__(self, cluster: Nodes, *arguments: str) -> None:
        env = os.environ | {"RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, *arguments], env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
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
