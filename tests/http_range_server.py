"""A small web server on 127.0.0.1 for tests: byte ranges, ETags, If-Match, and a log of what was asked.

    with serve(folder, etag="strong") as server:
        server.url("scene.tif")

Plain http is refused by Earthloom unless the host is listed, so set EARTHLOOM_HTTP_HOSTS to `server.host`.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

from tests.serving import Handler, serving

_RANGE = re.compile(r"bytes=(\d+)-(\d*)$")


@dataclass(slots=True)
class RangeServer:
    """What a running server serves and has seen."""

    folder: Path
    etag: Literal["strong", "weak", "none"]
    host: str = ""
    """`127.0.0.1:<port>`"""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """(method, path, headers) of each request, in order."""
    redirects: dict[str, str] = field(default_factory=dict)
    """Path, with its first slash, to where it is sent with status 302."""
    dates: bool = False
    """Whether answers say when a file was modified."""
    busy: bool = False
    """While true, every GET is answered with status 503."""
    head: int = 200
    """Status with which every HEAD is answered; 200: as it is."""
    ranges: bool = True
    """Whether a Range is heeded; if not, the whole file comes with status 200."""
    signature: str = ""
    """Query without which every request is answered with status 403."""

    def url(self, name: str) -> str:
        return f"http://{self.host}/{quote(name)}"

    def asked(self, method: str, name: str) -> int:
        """How many requests of this kind were made for a file."""
        return sum(1 for verb, path, _ in self.requests if verb == method and unquote(path) == f"/{name}")


@contextmanager
def serve(folder: Path, *, etag: Literal["strong", "weak", "none"] = "strong") -> Iterator[RangeServer]:
    """Serve the files below `folder` until the block ends."""
    state = RangeServer(folder, etag)

    class Requests(Handler):
        def answer(self) -> None:
            state.requests.append((self.command, self.path, dict(self.headers.items())))
            if target := state.redirects.get(self.path):
                return self.send(302, headers=[("Location", target)])
            if state.busy and self.command == "GET":
                return self.send(503)
            if self.command == "HEAD" and state.head != 200:
                return self.send(state.head)
            asked, _, query = self.path.partition("?")
            if query != state.signature:
                return self.send(403)
            path = state.folder / unquote(asked).lstrip("/")
            if not path.is_file():
                return self.send(404)
            data = path.read_bytes()
            tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            headers = [("Content-Type", "application/octet-stream")]
            if state.ranges:
                headers.append(("Accept-Ranges", "bytes"))
            if state.dates:
                headers.append(("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True)))
            if state.etag != "none":
                headers.append(("ETag", tag if state.etag == "strong" else f"W/{tag}"))
            wanted = self.headers.get("If-Match")
            if wanted and (state.etag != "strong" or wanted != tag):
                return self.send(412)
            status, part = 200, data
            if state.ranges and (found := _RANGE.match(self.headers.get("Range", ""))):
                first, last = int(found[1]), min(int(found[2] or len(data) - 1), len(data) - 1)
                if first >= len(data):
                    return self.send(416, headers=[("Content-Range", f"bytes */{len(data)}")])
                status, part = 206, data[first : last + 1]
                headers.append(("Content-Range", f"bytes {first}-{last}/{len(data)}"))
            return self.send(status, part, headers)

    with serving(Requests) as state.host:
        yield state


@contextmanager
def serve_apart(folder: Path) -> Iterator[str]:
    """Serve a folder from a process of its own, and give `http://host:port`.

    For runs that read while they compute: GDAL may wait for an answer while it holds this interpreter's lock, and a
    server that needs the same lock could then only answer after GDAL's time-out.
    """
    command = [sys.executable, "-m", "tests.http_range_server", str(folder)]
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        yield f"http://{process.stdout.readline().strip()}"
    finally:
        process.stdin.close()  # it ends when nobody is there any more, however this process ends
        process.wait(30)
        process.stdout.close()


if __name__ == "__main__":
    with serve(Path(sys.argv[1])) as server:
        print(server.host, flush=True)
        sys.stdin.read()
