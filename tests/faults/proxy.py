"""An HTTP proxy on 127.0.0.1 in front of a real S3 server that breaks the requests it is told to break.

    with fault_proxy(server.endpoint) as proxy:
        proxy.set(Rule("PUT", r"result\\.json$", "lost"))
        ... AWS_ENDPOINT_URL=proxy.endpoint ...

Requests are forwarded as they came, with the Host that the client signed. It is a process of its own, because GDAL asks
for some bytes while it holds the interpreter's lock.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_CONTROL = "/-/rules"
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(slots=True)
class Rule:
    """What happens to the requests that match."""

    method: str
    """Regular expression, as for `key`: `PUT`, `GET|HEAD`."""
    key: str
    """Searched in the decoded path and query."""
    action: str
    """`503`, `reset`, `delay`, `stall`, `truncate` (the body ends early), `lost` (done, but the answer never comes),
    `kill before`, `kill after` (SIGKILL of `pid`)."""
    nth: int = 1
    """First matching request that is broken, counted from 1."""
    times: int = 1
    every: int = 0
    """In place of the two: every so many matching requests."""
    seconds: float = 3.0
    """Of a delay or stall."""
    pid: int = 0
    seen: int = 0
    fired: int = 0


@dataclass(frozen=True, slots=True)
class FaultProxy:
    """A running proxy, as its user sees it."""

    endpoint: str

    def set(self, *rules: Rule) -> None:
        """From now on these rules hold, and no others; the first that matches decides."""
        body = json.dumps([asdict(rule) for rule in rules]).encode()
        with _direct.open(urllib.request.Request(f"{self.endpoint}{_CONTROL}", body, method="POST")):
            pass

    def fired(self) -> list[int]:
        """How often each rule broke a request."""
        with _direct.open(f"{self.endpoint}{_CONTROL}") as answer:
            return [rule["fired"] for rule in json.load(answer)]


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """Serve until the block ends.

    Args:
        upstream: `http://host:port` of the real server.
    """
    command = [sys.executable, "-m", "tests.faults.proxy", urlsplit(upstream).netloc]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield FaultProxy(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.kill()
        process.wait()


class _State:
    """The rules of the proxy's process."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._lock = threading.Lock()

    def verdict(self, method: str, path: str) -> Rule | None:
        """Count a request, and say which rule it falls under."""
        with self._lock:
            for rule in self.rules:
                if re.fullmatch(rule.method, method) and re.search(rule.key, path):
                    rule.seen += 1
                    first = rule.nth <= rule.seen < rule.nth + rule.times
                    if rule.seen % rule.every == 0 if rule.every else first:
                        rule.fired += 1
                        return rule
        return None


def _server(target: str) -> ThreadingHTTPServer:
    state = _State()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with suppress(ConnectionError, TimeoutError):
                super().handle_one_request()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == _CONTROL:
                if body:
                    state.rules = [Rule(**rule) for rule in json.loads(body)]
                self._send(200, [], json.dumps([asdict(rule) for rule in state.rules]).encode())
                return
            rule = state.verdict(self.command, unquote(self.path))
            action = rule.action if rule else ""
            if rule and action in ("delay", "stall"):
                time.sleep(rule.seconds)
            if action == "503":
                self._send(503, [("Content-Type", "application/xml")], b"<Error><Code>SlowDown</Code></Error>")
                return
            if rule and action == "kill before":
                os.kill(rule.pid, signal.SIGKILL)
            if action in ("reset", "stall", "kill before"):
                self._reset()
                return
            status, headers, answer = self._forward(body)
            if rule and action == "kill after":
                os.kill(rule.pid, signal.SIGKILL)
            if action in ("lost", "kill after"):
                self._reset()
                return
            self._send(status, headers, answer, cut=action == "truncate")

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815 (http.server's names)

        def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(target, timeout=60)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body or None)
                answer = connection.getresponse()
                skipped = ("transfer-encoding", "connection", "content-length")
                headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in skipped]
                length = answer.getheader("Content-Length")
                if self.command == "HEAD" and length:
                    headers.append(("Content-Length", length))
                return answer.status, headers, answer.read()
            finally:
                connection.close()

        def _send(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False) -> None:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if cut else body)
            if cut:
                self._reset()

        def _reset(self) -> None:
            """Close with RST, so that the client sees a broken connection and not an empty answer."""
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)
            self.close_connection = True

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that went away is no news."""

    return Server(("127.0.0.1", 0), Handler)


if __name__ == "__main__":
    server = _server(sys.argv[1])
    print(server.server_address[1], flush=True)
    server.serve_forever()
