"""A process that connects web clients to one host each, and to nothing else. Started by `tiling.storage.egress`.

A process of its own, because GDAL may wait for an answer while it holds the interpreter's lock: threads beside it could
then not bring that answer. Imports nothing but the standard library, so that it starts at once and stays small. It is asked
on standard input, a line for each question, and ends when nobody is there to ask.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import sys
import threading
import time
from urllib.parse import urlsplit

_CONNECT_S = 10.0
_IDLE_S = 300.0
_BUSY_S = 0.1
_HEAD_BYTES = 64 * 1024
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def addresses(host: str, port: int, *, inside: bool) -> list[str]:
    """Addresses of a host.

    Args:
        inside: whether they may be private, local or a metadata service.

    Raises:
        PermissionError: if one of them is and must not be.
        OSError, UnicodeError: if there is none.
    """
    found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not inside:
        for address in found:
            if not _is_public(ipaddress.ip_address(address.partition("%")[0])):
                raise PermissionError(
                    f"{host} has the address {address}, which is private, local or a metadata service; scenes are not "
                    "fetched from there unless EARTHLOOM_HTTP_HOSTS lists the host"
                )
    return list(dict.fromkeys(found))


def split(scheme: str, authority: str) -> tuple[str, int]:
    """Host and port of `host` or `host:port`.

    Raises:
        ValueError: if it is neither.
    """
    url = urlsplit(f"//{authority}")
    port = url.port or (443 if scheme == "https" else 80)
    if not url.hostname:
        raise ValueError(f"{authority[:80]!r} names no host")
    return url.hostname, port


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
    return address.is_global and not address.is_multicast


class _Gate:
    """Listens on 127.0.0.1 for clients that want to reach one host."""

    def __init__(self, host: str, port: int, *, inside: bool) -> None:
        self._target = (host, port)
        self._inside = inside
        self.refused: str | None = None
        """The address, in words, to which the server last tried to lead a client."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # no file descriptor is free: some will be
                time.sleep(_BUSY_S)
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                client.settimeout(_IDLE_S)
                self._pass(client)
            except OSError:
                return  # either side hung up

    def _pass(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            part = client.recv(8192)
            if not part or len(head) > _HEAD_BYTES:
                return
            head += part
        line, _, rest = head.partition(b"\r\n")
        try:
            method, target, version = line.decode("ascii").split(" ")
            url = urlsplit(f"https://{target}" if method == "CONNECT" else target)
            wanted = split(url.scheme, url.netloc)
        except ValueError:
            client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        if wanted != self._target or url.scheme not in ("http", "https"):
            self.refused = f"the server redirects to {url.scheme}://{wanted[0]}:{wanted[1]}"
            client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        with self._dial(client) as server:
            server.settimeout(_IDLE_S)
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            else:  # one request per connection: the next one might be for another host
                fields = [
                    field for field in rest.split(b"\r\n\r\n")[0].split(b"\r\n")
                    if not field.lower().startswith((b"connection:", b"proxy-", b"keep-alive:"))
                ]  # fmt: skip
                path = (url.path or "/") + (f"?{url.query}" if url.query else "")
                start = f"{method} {path} {version}".encode("ascii")
                server.sendall(b"\r\n".join([start, *fields, b"Connection: close", b"", b""]))
            _pump(server, client)

    def _dial(self, client: socket.socket) -> socket.socket:
        """Connect to an address that was checked just now: a name may point elsewhere each time it is asked for."""
        try:
            for address in addresses(*self._target, inside=self._inside):
                try:
                    return socket.create_connection((address, self._target[1]), _CONNECT_S)
                except OSError:
                    continue
        except (OSError, UnicodeError) as error:
            self.refused = str(error)
        client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        raise ConnectionError(f"no address of {self._target[0]} answers")


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(256 * 1024):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def main() -> None:
    """Answer `["port", host, port, inside]` and `["refused", host, port, inside]`, which forgets what it tells."""
    gates: dict[tuple[str, int, bool], _Gate] = {}
    for line in sys.stdin:
        question, host, port, inside = json.loads(line)
        target = (str(host), int(port), bool(inside))
        if target not in gates:
            gates[target] = _Gate(*target[:2], inside=target[2])
        gate = gates[target]
        answer: int | str | None = gate.port
        if question == "refused":
            answer, gate.refused = gate.refused, None
        print(json.dumps(answer), flush=True)
    os._exit(0)  # connections that are still open have lost their client


if __name__ == "__main__":
    main()
