"""The server of `earthloom view`: ranges, and what it must not answer."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from earthloom.jobs.command import cli
from earthloom.jobs.page.server import PageServer, host_and_port
from earthloom.jobs.page.site import file_of_page
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.maps import go, lake
from tests.serving import serving

DATA = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """Serves an OUT with a file of 1024 bytes, a secret beside OUT, and a page that somebody else put into it."""
    base = tmp_path_factory.mktemp("served")
    assert go(lake(base, "one", width=96, height=64), out=base / "out").exit_code == 0
    (base / "out" / "scenes" / "a b.bin").write_bytes(DATA)
    (base / "secret").write_bytes(b"secret")
    (base / "out" / "index.html").write_bytes(b"evil")
    (base / "out" / "page" / "page.js").write_bytes(b"evil")
    (base / "out" / "collections" / "water-index" / "page.json").unlink()
    made = PageServer(open_store(ObjectRef.parse(str(base / "out"))))
    with serving(made):
        yield made


def ask(server: PageServer, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("asked", "part", "said"),
    [
        ("bytes=0-9", DATA[:10], "bytes 0-9/1024"),
        ("bytes=1000-", DATA[1000:], "bytes 1000-1023/1024"),
        ("bytes=1000-9999", DATA[1000:], "bytes 1000-1023/1024"),
        ("bytes=-24", DATA[1000:], "bytes 1000-1023/1024"),
    ],
)
def test_a_range_is_that_part_of_the_object(server: PageServer, asked: str, part: bytes, said: str) -> None:
    status, body, headers = ask(server, "/scenes/a%20b.bin", Range=asked)
    assert (status, body, headers["Content-Range"]) == (206, part, said)


def test_a_range_beyond_the_end_is_refused_and_the_whole_is_given_without_one(server: PageServer) -> None:
    status, _, headers = ask(server, "/scenes/a%20b.bin", Range="bytes=1024-")
    assert (status, headers["Content-Range"]) == (416, "bytes */1024")
    assert ask(server, "/scenes/a%20b.bin")[:2] == (200, DATA)
    status, body, headers = ask(server, "/scenes/a%20b.bin", "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "1024")


OUTSIDE = (
    "/../secret", "/%2e%2e/secret", "/scenes/../../secret", "//etc/passwd", "/%2fetc%2fpasswd", "/nothing", "/scenes",
    "/a%00b",
)  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_but_objects_below_out_is_served(server: PageServer, path: str) -> None:
    assert ask(server, path)[0] == 404


def test_who_asks_under_another_name_is_refused(server: PageServer) -> None:
    assert ask(server, "/catalog.json", Host="attacker.example:80")[0] == 421
    assert ask(server, "/catalog.json", Host=f"localhost:{server.server_port}")[0] == 200


def test_the_page_is_that_of_this_earthloom_whatever_lies_in_out(server: PageServer) -> None:
    assert ask(server, "/")[1] == file_of_page("index.html")
    status, body, headers = ask(server, "/page/page.js")
    assert (status, body) == (200, file_of_page("page/page.js"))
    assert headers["Content-Type"].startswith("text/javascript")


def test_an_out_without_an_index_is_shown_and_stays_as_it_is(server: PageServer) -> None:
    status, body, _ = ask(server, "/collections/water-index/page.json")
    assert status == 200
    assert [row["scene"] for row in json.loads(body)["rows"]] == ["one"]
    assert server.store.head("collections/water-index/page.json") is None


@pytest.mark.parametrize("text", ["8000", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"])
def test_an_address_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        host_and_port(text)


def test_view_on_a_port_in_use_names_it_and_the_remedy(server: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("earthloom.jobs.page.libraries.add", lambda: None)  # what is in the cache does not matter here
    taken = f"127.0.0.1:{server.server_port}"
    done = CliRunner().invoke(cli, ["view", server.store.ref.url, "--no-open", "--address", taken])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == (
        f"`address={taken}` cannot be served on: Address already in use; choose another port, or 0 for a free one"
    )
    with pytest.raises(ConfigError, match=r"`address=nowhere\.invalid:0` cannot be served on"):
        PageServer(server.store, "nowhere.invalid")


def test_view_of_what_is_no_out_names_what_is_missing(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["view", str(tmp_path), "--no-open"])
    assert isinstance(done.exception, ConfigError)
    assert "catalog.json" in str(done.exception)


def test_view_writes_page_and_indices_into_an_out_that_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert go(lake(tmp_path, "one", width=96, height=64), out=out).exit_code == 0
    index, page = out / "collections" / "water-index" / "page.json", out / "index.html"
    wanted = index.read_bytes()
    index.unlink()
    page.unlink()
    monkeypatch.setattr("earthloom.jobs.page.libraries.add", lambda: None)  # what is in the cache does not matter here
    done = CliRunner().invoke(cli, ["view", str(out), "--write"])
    assert done.exit_code == 0
    assert done.output.strip() == str(page)
    assert index.read_bytes() == wanted
    assert page.read_bytes() == file_of_page("index.html")
