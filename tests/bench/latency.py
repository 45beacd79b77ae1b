"""A run whose scene and outputs are far away: S3 behind a TCP proxy that delays, beside the same run on local files.

    python -m tests.bench.latency 9000 40      # prints its port: 127.0.0.1:9000 with a round trip of 40 ms

The proxy adds latency, not a limit of bandwidth: each direction of each connection is late by half a round trip, and a new
connection by one more, as its handshake would be. TCP's slow start, which costs further round trips, is not imitated. It
takes some processor time, with no delay too, so runs behind it are to be compared with each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.bench.command import ROOT, large_scene

_SIDE_PX = 6144
_ROUND_TRIPS_MS = (0, 40)


def latency(folder: Path) -> list[dict[str, Any]]:
    """`landwater` with scene and outputs on local files, on S3, and on S3 with a round trip of 40 ms."""
    import boto3
    from botocore.config import Config

    from infra.s3_server import s3_server
    from tests.bench.against_bare import LANDWATER, compared

    scene = large_scene(folder / "scene.tif", _SIDE_PX, LANDWATER.bands)
    rows = [
        {"storage": "local files", "round trip ms": "none"}
        | compared(LANDWATER, _SIDE_PX, str(scene), str(folder / "out"))
    ]
    with s3_server(["scenes", "outputs"], folder=folder / "s3") as server:
        boto3.client(
            "s3", endpoint_url=server.endpoint, aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key, region_name="us-east-1",
            config=Config(request_checksum_calculation="when_required"),
        ).upload_file(str(scene), "scenes", "scene.tif")  # fmt: skip
        for round_trip_ms in _ROUND_TRIPS_MS:
            with delayed(server.endpoint, round_trip_ms) as endpoint:
                env = server.env | {"AWS_ENDPOINT_URL": endpoint}
                measured = {"storage": "S3", "round trip ms": f"{_round_trip_ms(endpoint):.1f}"}
                out = f"s3://outputs/{round_trip_ms}"
                rows.append(measured | compared(LANDWATER, _SIDE_PX, "s3://scenes/scene.tif", out, env))
    return rows


@contextlib.contextmanager
def delayed(endpoint: str, round_trip_ms: float) -> Iterator[str]:
    """`http://127.0.0.1:port` of a proxy in a process of its own, in front of a server on this machine."""
    port = urlsplit(endpoint).port
    command = [sys.executable, "-m", "tests.bench.latency", str(port), str(round_trip_ms)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def _round_trip_ms(endpoint: str) -> float:
    """Median time of a small request on a connection that is open already."""
    with socket.create_connection(("127.0.0.1", urlsplit(endpoint).port or 80)) as connection:
        found = []
        for _ in range(12):
            begun = time.perf_counter()
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            if not connection.recv(1 << 16):
                raise RuntimeError(f"{endpoint} closed the connection")
            found.append(1000 * (time.perf_counter() - begun))
    return statistics.median(found[2:])


class _End(asyncio.Protocol):
    """One end of a connection. What it says reaches the other end `delay_s` later, but nothing before `open_at`."""

    def __init__(self, delay_s: float, open_at: float) -> None:
        self._delay_s, self._last = delay_s, open_at
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.other: _End | None = None
        self.told_all = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._later(lambda other: other.transport.write(data))

    def eof_received(self) -> bool:
        self._later(_End.end)
        return True  # what the other end still has to say is passed on

    def connection_lost(self, _: Exception | None) -> None:
        self._later(lambda other: other.transport.close())

    def pause_writing(self) -> None:
        if self.other:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other:
            self.other.transport.resume_reading()

    def end(self) -> None:
        """Nothing more will come from the other end."""
        self.told_all = True
        if self.other and self.other.told_all:
            self.transport.close()
            return
        with contextlib.suppress(OSError):  # gone meanwhile
            self.transport.write_eof()

    def _later(self, do: Callable[[_End], None]) -> None:
        def now() -> None:
            if self.other and not self.other.transport.is_closing():
                do(self.other)

        self._last = max(self._last + 1e-7, self._loop.time() + self._delay_s)  # rising, so that timers keep the order
        self._loop.call_at(self._last, now)


async def _serve(port: int, round_trip_s: float) -> None:
    loop = asyncio.get_running_loop()

    class Client(_End):
        def __init__(self) -> None:
            super().__init__(round_trip_s / 2, loop.time() + 1.5 * round_trip_s)

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()  # until there is someone to pass it on to
            self._connecting = loop.create_task(self._connect())

        async def _connect(self) -> None:
            _, self.other = await loop.create_connection(lambda: _End(round_trip_s / 2, 0.0), "127.0.0.1", port)
            self.other.other = self
            self.transport.resume_reading()

    listening = await loop.create_server(Client, "127.0.0.1", 0, backlog=512)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
