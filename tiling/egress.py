"""The only way out to web servers: a gate on 127.0.0.1 per host, through which GDAL and obstore must go.

Both follow redirects, and neither can be told not to; a hostile server could send them to a metadata service or a machine
inside. A gate is a proxy that connects to its one host and to nothing else, and to no private address unless the operator
lists the host in EARTHLOOM_HTTP_HOSTS. Bytes of https pass through unread. Knows nothing of what is fetched.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from tiling.errors import ConfigError, StorageError

_CONNECT_S = 10.0
_IDLE_S = 300.0
_BUSY_S = 0.1
_HEAD_BYTES = 64 * 1024
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_making = threading.Lock()
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def listed_hosts() -> set[str]:
    """`host` and `host:port` entries of EARTHLOOM_HTTP_HOSTS, which the operator vouches for."""
    return {host.strip().lower() for host in os.environ.get("EARTHLOOM_HTTP_HOSTS", "").split(",") if host.strip()}


def proxy_for(scheme: str, host: str) -> str | None:
    """`http://127.0.0.1:port` of the gate to a web server; None where the operator's own proxy watches the way out.

    Args:
        scheme: `https` or `http`.
        host: `host` or `host:port`.

    Raises:
        ConfigError: if the host has a private, local or metadata address and is not listed.
        StorageError: if its name cannot be resolved.
    """
    if {"http", "https", "all"} & getproxies_environment().keys() or os.environ.get("GDAL_HTTP_PROXY"):
        return None
    for name in ("no_proxy", "NO_PROXY"):  # without a proxy of the operator's they serve only to go around ours
        os.environ.pop(name, None)
    resolve(*_split(scheme, host))
    return f"http://127.0.0.1:{_gate(scheme, host).port}"


def refusal(scheme: str, host: str) -> str | None:
    """Where the server of a gate last tried to lead a client, in words, and forget it."""
    gate = _gate(scheme, host)
    told, gate.refused = gate.refused, None
    return told


def resolve(host: str, port: int) -> list[str]:
    """Addresses of a host, all of them public unless it is listed.

    Raises:
        ConfigError: if one of them is not.
        StorageError: if there is none.
    """
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise StorageError(f"cannot find the address of {host}: {error}; check the spelling", transient=True) from None
    if not {host, f"{host}:{port}"} & listed_hosts():
        for address in found:
            if not _is_public(ipaddress.ip_address(address.partition("%")[0])):
                raise ConfigError(
                    f"{host} has the address {address}, which is private, local or a metadata service; scenes are not "
                    "fetched from there unless EARTHLOOM_HTTP_HOSTS lists the host"
                )
    return list(dict.fromkeys(found))


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
    return address.is_global and not address.is_multicast


def _split(scheme: str, authority: str) -> tuple[str, int]:
    url = urlsplit(f"//{authority}")
    try:
        port = url.port or (443 if scheme == "https" else 80)
    except ValueError:
        raise ConfigError(f"{authority[:80]!r} is not host or host:port") from None
    if not url.hostname:
        raise ConfigError(f"{authority[:80]!r} names no host")
    return url.hostname, port


def _gate(scheme: str, host: str) -> _Gate:
    with _making:
        return _made(scheme, host, os.getpid())


@cache
def _made(scheme: str, host: str, _pid: int) -> _Gate:  # by process: threads do not survive a fork
    return _Gate(*_split(scheme, host))


class _Gate:
    """Listens for clients of this process until it ends."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.refused: str | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, name=f"gate to {host}", daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # no file descriptor is free: some will be
                time.sleep(_BUSY_S)
                continue
            threading.Thread(target=self._serve, args=(client,), name="gate", daemon=True).start()

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
            wanted = _split(url.scheme, url.netloc)
        except (ValueError, ConfigError):
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
                threading.Thread(target=_pump, args=(client, server), name="gate", daemon=True).start()
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
            for address in resolve(*self._target):
                try:
                    return socket.create_connection((address, self._target[1]), _CONNECT_S)
                except OSError:
                    continue
        except (ConfigError, StorageError) as error:
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
