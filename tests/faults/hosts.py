"""Hosts of a network of their own on this machine: network namespaces on one switch. Needs root, and `ip` of iproute2.

Nothing of it touches this machine's own network; processes that are left in a host are killed with it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

_NET = "198.18.0"
"""Addresses set aside for tests of networks (RFC 2544)."""
_DELAY_MS = 10
"""From a host to the switch; two hosts are twice as far from each other, there and back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One machine of the network."""

    name: str
    address: str
    _switch: str
    _port: str

    def command(self, *words: str) -> list[str]:
        """A command line that runs there."""
        return ["ip", "netns", "exec", self.name, *words]

    def plug(self, *, there: bool) -> None:
        """Pull the cable, or put it back."""
        _ip("-n", self._switch, "link", "set", self._port, "up" if there else "down")


def unable() -> str | None:
    """Why there can be no such network here; None if there can."""
    if shutil.which("ip") is None:
        return "no program `ip`: install iproute2"
    if os.geteuid() != 0:
        return "network namespaces are made by root alone"
    name = f"el-{secrets.token_hex(3)}"
    try:
        _ip("netns", "add", name)
        _ip("-n", name, "link", "add", "name", "bridge", "type", "bridge")
    except subprocess.CalledProcessError as error:
        return f"no network can be made here: {error.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return None


@contextmanager
def network(n_hosts: int) -> Iterator[list[Host]]:
    """Make hosts that reach each other and nothing else, for the time of a `with` block."""
    tag = secrets.token_hex(3)
    switch = f"el-{tag}-s"
    with ExitStack() as stack:
        _namespace(stack, switch)
        _ip("-n", switch, "link", "add", "name", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        hosts = []
        for number in range(1, n_hosts + 1):
            name, port, address = f"el-{tag}-{number}", f"port{number}", f"{_NET}.{number}"
            _namespace(stack, name)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "add", "net", "type", "veth", "peer", "name", port, "netns", switch)
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "net")
            _ip("-n", name, "link", "set", "net", "up")
            _ip("-n", name, "route", "add", "default", "dev", "net")  # programs ask which address they would be seen by
            _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            hosts.append(Host(name=name, address=address, _switch=switch, _port=port))
            delay = ["tc", "-n", name, "qdisc", "add", "dev", "net", "root", "netem", "delay", f"{_DELAY_MS}ms"]
            subprocess.run(delay, capture_output=True, check=False)  # a kernel may have no netem
        yield hosts


def _namespace(stack: ExitStack, name: str) -> None:
    _ip("netns", "add", name)
    stack.callback(_remove, name)


def _remove(name: str) -> None:
    for pid in _ip("netns", "pids", name).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "del", name)


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
