"""A small web server for `earthloom view`: an OUT on this machine or in a bucket, by byte ranges, on loopback.

The page's own files come from this Earthloom and never from OUT, so what runs in the browser is not what somebody put into a
bucket. Whoever asks under another host name is refused: a web page elsewhere that resolves its name to this machine
would otherwise read what credentials here can read.
"""

from __future__ import annotations

import gzip
import json
import logging
import mimetypes
import re
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from earthloom.jobs.page.index import FILE, index_of
from earthloom.jobs.page.site import PAGE, file_of_page
from earthloom.tiling.errors import ConfigError, EarthloomError, MissingObjectError, StorageError
from earthloom.tiling.storage.objects import Head
from earthloom.tiling.storage.store import Store

_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")
_MOST_BYTES = 64 << 20
"""Largest answer without a range; pixels are asked for by ranges."""
_REMEMBERED_S = 30.0
"""How long an object's size is believed: a map is read by many ranges, each of which would ask for it again."""
_ZIPPED = frozenset((".html", ".js", ".css", ".json"))

log = logging.getLogger(__name__)


class PageServer(ThreadingHTTPServer):
    """Serves one OUT until it is closed.

    Raises:
        ConfigError: if it cannot listen on this host and port.
    """

    def __init__(self, store: Store, host: str = "127.0.0.1", port: int = 0) -> None:
        self.store = store
        self._heads: dict[str, tuple[float, Head]] = {}
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:  # the port is taken or reserved, or the host is not of this machine
            raise ConfigError(
                f"`address={host}:{port}` cannot be served on: {error.strerror or error}; "
                "choose another port, or 0 for a free one"
            ) from error
        self.names = frozenset((f"{host}:{self.server_port}", f"localhost:{self.server_port}"))

    def head(self, key: str) -> Head | None:
        """What storage says of an object, or said a moment ago."""
        asked_s, known = self._heads.get(key, (0.0, None))
        if known is None or time.monotonic() - asked_s > _REMEMBERED_S or not key.startswith(("scenes/", "monitors/")):
            known = self.store.head(key)
            if known:
                self._heads[key] = (time.monotonic(), known)
        return known

    @property
    def url(self) -> str:
        """URL of the page."""
        host, port = self.socket.getsockname()[:2]
        return f"http://{host}:{port}/"


def host_and_port(address: str) -> tuple[str, int]:
    """`127.0.0.1:8000` in its parts.

    Raises:
        ConfigError: if it is no host and port.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"`address={address}` is no HOST:PORT, such as 127.0.0.1:8000")
    return host, int(port)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PageServer

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        log.info("%s", format % args)

    def _answer(self, *, body: bool) -> None:
        if self.headers.get("Host") not in self.server.names:
            return self._send(HTTPStatus.MISDIRECTED_REQUEST, b"this server has another name", body=body)
        key = unquote(urlsplit(self.path).path).lstrip("/") or PAGE
        try:
            if (own := file_of_page(key)) is not None:
                return self._send(HTTPStatus.OK, own, key, body=body)
            return self._object(key, body=body)
        except MissingObjectError:
            return self._send(HTTPStatus.NOT_FOUND, b"there is no such object", body=body)
        except StorageError as error:
            log.warning("%s", error)
            return self._send(HTTPStatus.BAD_GATEWAY, b"storage does not answer", body=body)
        except EarthloomError:  # a key that cannot be one
            return self._send(HTTPStatus.NOT_FOUND, b"there is no such object", body=body)

    def _object(self, key: str, *, body: bool) -> None:
        store = self.server.store
        if (
            body and key.endswith(".json") and "Range" not in self.headers
        ):  # small, and read whole: one request of storage
            return self._send(HTTPStatus.OK, self._document(key), key, body=body)
        if (head := self.server.head(key)) is None:
            raise MissingObjectError(key)
        part = _part(self.headers.get("Range", ""), head.size)
        if part is None and "Range" in self.headers:
            ends = [("Content-Range", f"bytes */{head.size}")]
            return self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", key, ends, body=body)
        first, last = part or (0, head.size - 1)
        if last - first >= _MOST_BYTES:
            return self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"ask for a part of it", body=body)
        length = last - first + 1
        data = store.get_range(key, first, length) if body and length else b""
        status, headers = HTTPStatus.OK, [("Accept-Ranges", "bytes")]
        if part:
            status, headers = HTTPStatus.PARTIAL_CONTENT, [("Content-Range", f"bytes {first}-{last}/{head.size}")]
        return self._send(status, data, key, headers, body=body, length=length)

    def _document(self, key: str) -> bytes:
        try:
            return self.server.store.get(key)
        except MissingObjectError:
            if key.rpartition("/")[2] != FILE:
                raise
            return json.dumps(
                index_of(self.server.store, key.removesuffix(f"/{FILE}"))
            ).encode()  # no run has made it yet

    def _send(
        self, status: HTTPStatus, data: bytes, key: str = "", headers: list[tuple[str, str]] | None = None, *, body: bool,
        length: int | None = None,
    ) -> None:  # fmt: skip
        suffix = f".{key.rpartition('.')[2]}"
        self.send_response(status)
        if body and status is HTTPStatus.OK and suffix in _ZIPPED and "gzip" in self.headers.get("Accept-Encoding", ""):
            data, length = gzip.compress(data, 5), None
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", mimetypes.guess_type(key)[0] or "application/octet-stream")
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        for name, value in headers or ():
            self.send_header(name, value)
        self.end_headers()
        if body:
            with suppress(ConnectionError):  # whoever asked has left: the map was moved on
                self.wfile.write(data)


def _part(text: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a range; None for none, or one that cannot be given."""
    found = _RANGE.match(text)
    if not found or not (found[1] or found[2]):
        return None
    if found[1]:
        first, last = int(found[1]), min(int(found[2] or size - 1), size - 1)
    else:
        first, last = max(0, size - int(found[2])), size - 1
    return (first, last) if first <= last else None
