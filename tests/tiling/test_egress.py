from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import rasterio

from earthloom.tiling.errors import ConfigError, EarthloomError, SceneError, StorageError
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.opening import open_asset
from earthloom.tiling.reading.preflight import inspect
from earthloom.tiling.storage import egress
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.http_range_server import RangeServer, serve, serve_apart
from tests.scenes import landscape, write_scene


@pytest.fixture(autouse=True)
def no_proxy_of_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GDAL_HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")  # curl would go around the gate


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[RangeServer]:
    """A server inside that nobody listed, with the very file that redirects promise."""
    write_scene(tmp_path / "in" / "a.tif", landscape(300, 300, 1))
    with serve(tmp_path / "in") as server:
        yield server


@pytest.fixture
def server(tmp_path: Path, canary: RangeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """The listed server of a stranger, with the same file."""
    with serve(tmp_path / "in") as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        yield server


def test_a_listed_server_is_read_through_its_gate(server: RangeServer, canary: RangeServer) -> None:
    asset = pin(ObjectRef.parse(server.url("a.tif")))
    assert inspect(asset).grid.shape == (300, 300)
    with open_asset(asset) as dataset, rasterio.open(server.folder / "a.tif") as local:
        assert (dataset.read() == local.read()).all()
    assert len(server.requests) > 2
    assert not canary.requests


def test_a_redirect_to_another_host_is_refused_and_never_followed(server: RangeServer, canary: RangeServer) -> None:
    server.redirects["/a.tif"] = canary.url("a.tif")
    ref = ObjectRef.parse(server.url("a.tif"))
    for use in (lambda: pin(ref), lambda: open_store(ref).get()):
        with pytest.raises(StorageError, match=rf"redirects to http://{canary.host}; name the file's own address"):
            use()
    assert not canary.requests


def test_a_server_that_redirects_only_after_it_was_checked_is_refused_too(
    server: RangeServer, canary: RangeServer
) -> None:
    asset = pin(ObjectRef.parse(server.url("a.tif")))
    server.redirects["/a.tif"] = canary.url("a.tif")
    with pytest.raises(SceneError, match=rf"redirects to http://{canary.host}"):
        inspect(asset)
    assert server.requests
    assert not canary.requests


def test_a_redirect_within_the_host_is_followed(server: RangeServer) -> None:
    server.redirects["/old.tif"] = server.url("a.tif")
    assert inspect(pin(ObjectRef.parse(server.url("old.tif")))).count == 1


def test_a_gate_tunnels_to_its_own_host_only(server: RangeServer, canary: RangeServer) -> None:
    gate = urlsplit(egress.proxy_for("https", server.host) or "")

    def ask(line: str) -> bytes:
        with socket.create_connection((gate.hostname or "", gate.port or 0), 10) as client:
            client.sendall(f"{line}\r\n\r\n".encode())
            return client.recv(100)

    assert ask(f"CONNECT {server.host} HTTP/1.1").startswith(b"HTTP/1.1 200")
    assert ask(f"CONNECT {canary.host} HTTP/1.1").startswith(b"HTTP/1.1 403")
    assert ask("CONNECT 169.254.169.254:80 HTTP/1.1").startswith(b"HTTP/1.1 403")
    assert ask(f"GET ftp://{server.host}/ HTTP/1.1").startswith(b"HTTP/1.1 403")
    assert ask("nonsense").startswith(b"HTTP/1.1 400")
    assert egress.refusal("https", server.host) == f"the server redirects to ftp://{server.host}"
    assert not canary.requests


def test_a_client_that_waits_with_the_interpreter_s_lock_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_bytes(b"pixels")
    with serve_apart(tmp_path) as url:
        host = url.removeprefix("http://")
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", host)
        way = urlsplit(egress.proxy_for("http", host) or "")
        with socket.create_connection((way.hostname or "", way.port or 0)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 20, 0))
            client.sendall(f"GET {url}/a.txt HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            answer = ctypes.create_string_buffer(8)
            got = ctypes.PyDLL(None).recv(client.fileno(), answer, 8, 0)  # as rasterio's `block_size`: keeps the lock
        assert answer.raw[: max(got, 0)] == b"HTTP/1.1"


def test_gates_whose_process_died_are_opened_anew(server: RangeServer) -> None:
    ref = ObjectRef.parse(server.url("a.tif"))
    assert pin(ref)
    keeper = egress._keepers[os.getpid()]
    keeper.kill()
    keeper.wait()
    assert open_store(ref).get()


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1", "fe80::1%eth0",
     "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"],
)  # fmt: skip
def test_names_that_lead_inside_are_refused_unless_listed(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [(0, 0, 0, "", ("93.184.216.34", 443)), (0, 0, 0, "", (address, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    for use in (
        lambda: egress.proxy_for("https", "scenes.example"),
        lambda: pin(ObjectRef.parse("https://scenes.example/a.tif")),
    ):
        with pytest.raises(
            ConfigError, match=r"scenes\.example has the address .* EARTHLOOM_HTTP_HOSTS lists the host"
        ):
            use()
    monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", "other.example, Scenes.Example")
    assert egress.proxy_for("https", "scenes.example")


def test_public_addresses_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"):
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, a=address, **__: [(0, 0, 0, "", (a, 443))])
        assert egress.resolve("scenes.example", 443) == [address]


def test_an_unknown_host_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(EarthloomError, match=r"cannot find the address of nowhere\.example: .*spelling"):
        pin(ObjectRef.parse("https://nowhere.example/a.tif"))


def test_a_proxy_of_the_operators_is_left_to_watch_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert egress.proxy_for("https", "scenes.example") is None
