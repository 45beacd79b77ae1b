"""Child processes of tests and local tools: free ports, a session of their own, and an end that reaches all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nobody listens on now; another process may still take one before its use."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def spawn(command: Sequence[str | Path], *, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a daemon in a session of its own, so that a Ctrl-C on the terminal does not reach it."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes] | subprocess.Popen[str], *, grace_s: float) -> None:
    """Ask a process and all its descendants to end, and kill what is left after `grace_s`. Touches no other process."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for member in family:  # psutil compares start times, so a reused process id is safe
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=grace_s)
    process.wait(grace_s)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all its descendants at once."""
    family = psutil.Process(process.pid).children(recursive=True)
    for member in (psutil.Process(process.pid), *family):
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether this very process accepts connections on a port, and not another one that was there before."""
    try:
        sockets = psutil.Process(process.pid).net_connections("inet")
    except psutil.NoSuchProcess:
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets)


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log file, for an error message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
