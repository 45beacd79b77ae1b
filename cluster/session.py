"""Connecting to Ray: an instance embedded in this process's session, or a running cluster. Errors name the remedy.

Imports Ray only while connecting, and shuts down only what it started.
"""

from __future__ import annotations

import io
import logging
import os
import re
import secrets
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earthloom.cluster.address import auth_mode_for, find_token, resolve
from earthloom.tiling.errors import EngineError
from earthloom.tiling.heap import ONE_ARENA

_MIB = 1024 * 1024
_AGENT_PACKAGES = "ray.dashboard.optional_deps"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by `ray job submit` for the job's driver

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A connection to Ray."""

    address: str
    """`host:port` of the head."""
    embedded: bool
    """True when the instance was started for this connection and ends with it."""
    resources: Mapping[str, float]
    """Totals over all nodes at the time of connecting, under Ray's names."""
    nodes: tuple[Mapping[str, float], ...] = ()
    """Resources of each living node, under Ray's names."""


@contextmanager
def connect(
    address: str | None = None,
    *,
    cpus: int | None = None,
    object_store_bytes: int = 128 * _MIB,
    packages: Sequence[Path] = (),
    timeout_s: float = 20.0,
) -> Generator[Session, None, None]:
    """Connect to Ray for the time of a `with` block.

    A process that is connected already keeps that connection, whatever the arguments, and keeps it afterwards. One
    process can use one cluster token in its life, because Ray reads it once.

    Args:
        address: `host:port` of a cluster's head, `auto` for the one on this machine, `local` for an embedded instance;
            None for RAY_ADDRESS, which `ray job submit` sets for its jobs, or else an embedded instance.
        cpus: cores of an embedded instance; None for all that this process may use.
        object_store_bytes: of an embedded instance; small, because pixels never pass through it.
        packages: folders of importable packages to send to a cluster's workers. Not sent where they are already: in an
            embedded instance, and in a Ray job, whose working directory holds them.
        timeout_s: how long a cluster's head may take to answer.

    Raises:
        EngineError: if the cluster cannot be reached or refuses this client, or Ray does not start.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        yield _session(embedded=False)
        return
    target = resolve(address, os.environ)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if target is None:
        _prepare_embedded()
        options |= {
            "address": "local", "num_cpus": cpus, "object_store_memory": object_store_bytes, "include_dashboard": False,
        }  # fmt: skip
    else:
        _authorise(target, timeout_s)
        options["address"] = target
        kept = {name: os.environ.get(name, value) for name, value in ONE_ARENA.items()}  # Ray refuses two values
        options["runtime_env"] = {"env_vars": kept}
        if packages and _JOB not in os.environ:
            options["runtime_env"] |= {"py_modules": [str(package) for package in packages]}
    _init(options, target)
    import ray

    folder = _session_folder() if target is None else None
    failed = True
    with _said_in_logs():
        try:
            yield _session(embedded=target is None)
            failed = False
        except (SystemExit, KeyboardInterrupt):
            failed = False
            raise
        finally:
            ray.shutdown()
            if folder and not failed:  # else its logs may say why
                shutil.rmtree(folder, ignore_errors=True)


def is_guest() -> bool:
    """Whether this process is connected already to a cluster that it did not start: by `ray.init` of the program itself, say,
    in whose workers none of this machine's files need lie."""
    if "ray" not in sys.modules or not sys.modules["ray"].is_initialized():
        return False
    from ray._private import worker

    node: Any = getattr(worker, "_global_node", None)
    return node is None or not node.is_head()


@contextmanager
def _said_in_logs() -> Generator[None, None, None]:
    """Log what Ray tells, of workers that died and of what they print: stdout and stderr may each be a command's JSON."""
    untyped: Any = sys.modules.get("ray._private.worker")
    shown = getattr(untyped, "print_worker_logs", None)
    if shown is None:  # another release
        yield
        return

    def show(data: Any, _stream: Any, *more: Any, **options: Any) -> Any:
        said = io.StringIO()
        result = shown(data, said, *more, **options)
        for line in _COLOUR.sub("", said.getvalue()).splitlines():
            if line.strip():
                _log.warning("%s", line)
        return result

    untyped.print_worker_logs = show
    try:
        yield
    finally:
        untyped.print_worker_logs = shown


def _session_folder() -> Path | None:
    """Folder in which an embedded Ray keeps its logs and sockets; one for each run would fill /tmp over the nights."""
    from ray._private import worker

    node: Any = getattr(worker, "_global_node", None)
    return Path(node.get_session_dir_path()) if node else None


def _prepare_embedded() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not os.environ.get("RAY_AUTH_MODE") and find_token(os.environ) is None:
        # Ray turns token authentication on by itself and would write a token, readable by all, into the home directory
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _authorise(target: str, timeout_s: float) -> None:
    if target == "auto" or os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return  # nothing that the probe could call
    mode = auth_mode_for(target, os.environ, timeout_s)
    if mode is None:
        return
    if "ray" in sys.modules:
        raise EngineError(
            f"the Ray cluster at {target} wants a token; set RAY_AUTH_MODE={mode} before Ray is imported, because Ray "
            "reads it only then"
        )
    os.environ["RAY_AUTH_MODE"] = mode


def _init(options: dict[str, Any], target: str | None) -> None:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; unset, it warns each time
    import ray

    in_main = threading.current_thread() is threading.main_thread()
    on_sigterm = signal.getsignal(signal.SIGTERM) if in_main else None
    try:
        with warnings.catch_warnings(), _without_dashboard_agent() if target is None else nullcontext():
            warnings.simplefilter("ignore")
            ray.init(**options)
    except Exception as error:
        what = (
            "Ray could not be started on this machine" if target is None else f"cannot use the Ray cluster at {target}"
        )
        raise EngineError(f"{what}: {_first_lines(error)}; {_remedy(target, error)}") from error
    finally:
        if on_sigterm is not None:
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own handler would end the process with exit code 15


@contextmanager
def _without_dashboard_agent() -> Generator[None, None, None]:
    """Start Ray as if it had been installed without its dashboard's packages.

    Else, even with no dashboard, an agent serves HTTP on one fixed port; where another instance of Ray has that port, it
    is tried again and again before Ray is ready, 3.5 s later.
    """
    modules: dict[str, Any] = sys.modules
    before = modules.get(_AGENT_PACKAGES)
    modules[_AGENT_PACKAGES] = None  # importing it fails
    try:
        yield
    finally:
        del modules[_AGENT_PACKAGES]
        if before is not None:
            modules[_AGENT_PACKAGES] = before


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:400].rstrip(".") or type(error).__name__


def _remedy(target: str | None, error: Exception) -> str:
    if "ersion mismatch" in str(error):
        return (
            "install the cluster's versions of Ray and Python here, or submit with `ray job submit`, which runs there"
        )
    if target is None:
        return "check free memory and room in /tmp and /dev/shm; its logs are under /tmp/ray/session_latest/logs"
    if target == "auto":
        return "start one with `ray start --head`, or give the head's host:port"
    return "check the address, the token (RAY_AUTH_MODE=token and RAY_AUTH_TOKEN) and the head's logs"


def _session(*, embedded: bool) -> Session:
    import ray

    untyped: Any = ray
    address = str(ray.get_runtime_context().gcs_address)
    nodes = tuple(dict(node["Resources"]) for node in untyped.nodes() if node["Alive"])
    return Session(address=address, embedded=embedded, resources=dict(untyped.cluster_resources()), nodes=nodes)
