"""A Ray cluster of its own on this machine, with token authentication, for tests of jobs and of remote drivers.

It neither sees nor disturbs other Ray instances: own ports, own temporary folder, own token, and it is ended by its own
process ids (`ray stop` would end every Ray of the user).
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infra.processes import end, free_ports, kill, spawn, tail

_MIB = 1024 * 1024
_NODE_STARTS_S = 300.0
_RAY = (sys.executable, "-m", "ray.scripts.scripts")


class ClusterError(RuntimeError):
    """The cluster could not be started, or a job could not be submitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine of a cluster, as far as the cluster knows."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """As a power cut: raylet, workers and all, without a word to anybody."""
        kill(self.process)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCluster:
    """A running cluster of one node."""

    address: str
    """`host:port` of the head, for drivers."""
    dashboard: str
    """`http://127.0.0.1:port`, for jobs."""
    token: str = field(repr=False)
    env: dict[str, str] = field(repr=False)
    """A whole environment for subprocesses that use the cluster: this one's without its RAY_* names, and the token."""
    log: Path
    pid: int
    """Of the head, whose descendants are all of the cluster."""

    @contextmanager
    def node(self, name: str, *, num_cpus: int = 1) -> Generator[Node, None, None]:
        """A further node, for the time of a `with` block or until it is killed.

        It has started before the block begins: of two that start at once, one may take a port that the other has chosen,
        and never join.

        Args:
            name: a resource that it offers, so that others can see when it has joined and whether it still lives.

        Raises:
            ClusterError: if it does not start.
        """
        log = self.log.with_name(f"{name}.log")
        command = [
            *_RAY, "start", f"--address={self.address}", "--block", "--node-ip-address=127.0.0.1",
            f"--dashboard-agent-listen-port={free_ports(1)[0]}", f"--num-cpus={num_cpus}", "--num-gpus=0",
            f"--resources={json.dumps({name: 1})}", f"--object-store-memory={128 * _MIB}", "--disable-usage-stats",
        ]  # fmt: skip
        process = spawn(command, env=self.env, log=log)
        try:
            deadline = time.monotonic() + _NODE_STARTS_S
            while b"Ray runtime started" not in log.read_bytes():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise ClusterError(f"the node {name} did not start:\n{tail(log)}")
                time.sleep(0.1)
            yield Node(name=name, process=process, log=log)
        finally:
            end(process, grace_s=10)

    def submit(self, *entrypoint: str, working_dir: Path | None = None, timeout_s: float = 120) -> str:
        """Run a job to its end by `ray job submit`, as a user would.

        Returns:
            What the command printed, the job's output included.

        Raises:
            ClusterError: if the job did not succeed, with that output.
        """
        folder = ["--working-dir", str(working_dir)] if working_dir else []
        command = [*_RAY, "job", "submit", "--address", self.dashboard, *folder, "--", *entrypoint]
        result = subprocess.run(
            command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s
        )
        if result.returncode:
            raise ClusterError(f"the job ended with code {result.returncode}:\n{result.stdout}")
        return result.stdout

    def jobs(self) -> dict[str, str]:
        """Status of every job that was submitted, by submission id: PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED."""
        with _get(f"{self.dashboard}/api/jobs/", self.token) as response:
            return {job["submission_id"]: job["status"] for job in json.load(response) if job["type"] == "SUBMISSION"}


@contextmanager
def local_cluster(
    num_cpus: int = 2, *, timeout_s: float = 60.0, env: Mapping[str, str] | None = None, grows_to: int = 0
) -> Generator[LocalCluster, None, None]:
    """Start a cluster for the time of a `with` block.

    Args:
        num_cpus: that the cluster believes to have; with `grows_to`, its head.
        timeout_s: how long it may take until jobs can be submitted.
        env: what its workers find in their environment, beside this one's.
        grows_to: nodes of one core that Ray's autoscaler adds at most, when work waits for them; it takes away those that
            were idle for six seconds.

    Raises:
        ClusterError: if it does not start in time.
    """
    with tempfile.TemporaryDirectory(
        prefix="rc-", ignore_cleanup_errors=True
    ) as scratch:  # short: socket paths end at 107
        folder = Path(scratch)
        token = secrets.token_hex(32)
        token_file = folder / "token"
        token_file.touch(mode=0o600)
        token_file.write_text(token)
        inherited = os.environ | (env or {})
        env = {name: value for name, value in inherited.items() if not name.startswith("RAY_")}
        env |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token_file),
        }
        # with the agent on its usual port, 52365, a second Ray on the machine takes no jobs ("No available agent")
        port, dashboard, client, agent = free_ports(4)
        log = folder / "head.log"
        command = [
            *_RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}",
            f"--ray-client-server-port={client}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
            f"--dashboard-agent-listen-port={agent}",
            f"--num-cpus={num_cpus}", "--num-gpus=0", f"--object-store-memory={128 * _MIB}",
            f"--temp-dir={folder / 'ray'}", "--disable-usage-stats",
        ]  # fmt: skip
        if grows_to:
            config = folder / "autoscaler.json"
            config.write_text(json.dumps(_autoscaler(f"127.0.0.1:{port}", grows_to)))
            command.append(f"--autoscaling-config={config}")
            env |= {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        process = spawn(command, env=env, log=log)
        try:
            url = f"http://127.0.0.1:{dashboard}"
            _await(process, url, token, log, timeout_s)
            yield LocalCluster(
                address=f"127.0.0.1:{port}", dashboard=url, token=token, env=env, log=log, pid=process.pid
            )
        finally:
            end(process, grace_s=10)


def _autoscaler(address: str, grows_to: int) -> dict[str, object]:
    """For Ray's own autoscaler, over its provider of nodes that are processes of this machine.

    Ray's `AutoscalingCluster` would do the same, but ends every Ray of the user first, and reads a file that its wheel has
    not; hence the provider goes by the name of its class.
    """
    head, node = "ray.head.default", "worker"
    provider = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
    return {
        "cluster_name": "earthloom", "max_workers": grows_to, "idle_timeout_minutes": 0.1, "upscaling_speed": 1.0,
        "provider": {
            "type": "external", "module": provider, "gcs_address": address, "use_node_id_as_ip": True,
            "disable_node_updaters": True, "disable_launch_config_check": True,
        },
        "available_node_types": {
            head: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            node: {
                "resources": {"CPU": 1, "object_store_memory": 128 * _MIB}, "node_config": {}, "min_workers": 0,
                "max_workers": grows_to,
            },
        },
        "head_node_type": head, "auth": {}, "file_mounts": {}, "file_mounts_sync_continuously": False,
        "cluster_synced_files": [], "rsync_exclude": [], "rsync_filter": [], "initialization_commands": [],
        "setup_commands": [], "head_setup_commands": [], "worker_setup_commands": [], "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }  # fmt: skip


def _get(url: str, token: str) -> urllib.request._UrlopenRet:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return direct.open(urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"}), timeout=30)


def _await(process: subprocess.Popen[bytes], url: str, token: str, log: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ClusterError(f"`ray start` ended with code {process.returncode}:\n{tail(log)}")
        try:
            with _get(f"{url}/api/jobs/", token) as response:
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise ClusterError(f"the cluster did not answer at {url} within {timeout_s:.0f} s:\n{tail(log)}")
