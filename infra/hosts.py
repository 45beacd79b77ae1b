"""Hosts of a network of their own on this machine: network namespaces on a bridge, which can be cut off and healed.

Needs root on Linux. What runs in them shares files and processors with this machine, and nothing of its network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.processes import end, spawn

_NET = "10.77.23"

_RELAY = """
import asyncio, sys
host, port, delay = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
async def pump(reader, writer):
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue()
    async def send():
        while (one := await queue.get()) is not None:
            due, data = one
            await asyncio.sleep(max(0, due - loop.time()))
            writer.write(data)
            await writer.drain()
        writer.close()
    sending = asyncio.create_task(send())
    while data := await reader.read(1 << 16):
        queue.put_nowait((loop.time() + delay, data))
    queue.put_nowait(None)
    await sending
async def serve(reader, writer):
    there = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(pump(reader, there[1]), pump(there[0], writer), return_exceptions=True)
async def main():
    async with await asyncio.start_server(serve, host, port) as server:
        await server.serve_forever()
asyncio.run(main())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One namespace."""

    name: str
    address: str
    wire: str
    """The end of its cable on this machine."""

    def command(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *words]

    def start(self, words: Sequence[str], *, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        return spawn(self.command(*words), env=env, log=log)

    def relay(self, port: int, *, delay_s: float, log: Path) -> subprocess.Popen[bytes]:
        """Let others reach a port that a server of this host has open on 127.0.0.1, each byte so much later each way."""
        return self.start(
            [sys.executable, "-c", _RELAY, self.address, str(port), str(delay_s)], env=os.environ, log=log
        )

    def cut(self) -> None:
        """Nothing comes or goes any more, and nobody is told."""
        _ip("link", "set", self.wire, "down")

    def heal(self) -> None:
        _ip("link", "set", self.wire, "up")


def possible() -> bool:
    """Whether this process may make namespaces."""
    return (
        os.geteuid() == 0
        and shutil.which("ip") is not None
        and subprocess.run(["unshare", "-n", "true"]).returncode == 0
    )


@contextmanager
def hosts(count: int) -> Generator[list[Host], None, None]:
    """So many hosts that reach each other and this machine, for the time of a `with` block."""
    tag = f"el{os.getpid() % 100000}"
    with ExitStack() as stack:
        _ip("link", "add", f"{tag}b", "type", "bridge")
        stack.callback(_ip, "link", "del", f"{tag}b")
        _ip("addr", "add", f"{_NET}.254/24", "dev", f"{tag}b")
        _ip("link", "set", f"{tag}b", "up")
        made = []
        for number in range(1, count + 1):
            host = Host(name=f"{tag}n{number}", address=f"{_NET}.{number}", wire=f"{tag}w{number}")
            _ip("netns", "add", host.name)
            stack.callback(_ip, "netns", "del", host.name)
            _ip("link", "add", host.wire, "type", "veth", "peer", "name", "eth0", "netns", host.name)
            _ip("link", "set", host.wire, "master", f"{tag}b", "up")
            for words in (["addr", "add", f"{host.address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"],
                          ["link", "set", "lo", "up"]):  # fmt: skip
                subprocess.run(host.command("ip", *words), check=True)
            made.append(host)
        yield made


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Generator[subprocess.Popen[bytes], None, None]:
    """End a process with the `with` block."""
    try:
        yield process
    finally:
        end(process, grace_s=5)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
