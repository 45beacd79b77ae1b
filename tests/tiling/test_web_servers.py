"""Web servers as they are: without HEAD, without ranges, with signatures. The pixels are those of the local file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.tiling.errors import ConfigError, EarthloomError, SceneError, StorageError
from earthloom.tiling.reading import identity
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.opening import open_asset
from earthloom.tiling.redact import redact
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.signatures import VARIABLE, query_for
from earthloom.tiling.storage.store import open_store
from tests.http_range_server import RangeServer, serve
from tests.scenes import landscape, write_scene

SIGNATURE = "se=2030-01-01&sr=b&sig=5171a7u3e5171a7u3e%2Fx%3D"
PIXELS = landscape(300, 200, 2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(identity, "_seen", {})
    return tmp_path / "cache"


def copies(cache: Path) -> int:
    return len(list(cache.rglob("*.tif")))


def pixels_by(server: RangeServer, name: str = "in/a.tif") -> bool:
    with open_asset(pin(ObjectRef.parse(server.url(name)))) as dataset:
        return np.array_equal(dataset.read(), PIXELS)


@pytest.mark.parametrize(
    ("head", "ranges", "fetched"),
    [(200, True, 0), (405, True, 1), (403, True, 1), (501, True, 1), (404, True, 1), (200, False, 1), (405, False, 1)],
)
def test_a_file_is_read_in_place_where_the_server_can_and_else_fetched_once(
    head: int, ranges: bool, fetched: int, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(tmp_path / "in" / "a.tif", PIXELS)
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        server.head, server.ranges = head, ranges
        if not fetched:  # GDAL would wait with this interpreter's lock in hand
            assert pin(ObjectRef.parse(server.url("in/a.tif"))).identity.startswith("etag:")
        else:
            assert pixels_by(server)
            assert pixels_by(server), "and again, from the copy"
    assert copies(cache) == fetched


@pytest.mark.parametrize("head", [200, 405, 403])
def test_what_is_not_there_is_not_there_whatever_becomes_of_head(
    head: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        server.head = head
        with pytest.raises(SceneError, match="does not exist"):
            pin(ObjectRef.parse(server.url("none.tif")))


def test_a_server_that_refuses_is_not_answered_with_words_on_aws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(tmp_path / "in" / "a.tif", PIXELS)
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        server.signature = SIGNATURE
        with pytest.raises(StorageError, match=rf"in/a\.tif: the web server answers 403.*{VARIABLE}") as refusal:
            pin(ObjectRef.parse(server.url("in/a.tif")))
        assert "AWS" not in str(refusal.value)
        assert not refusal.value.transient


@pytest.mark.parametrize("listed", ["in/a.tif", "in/", ""])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_signed_file_is_read_and_its_signature_stays_in_the_request(
    listed: str, ranges: bool, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(tmp_path / "in" / "a.tif", PIXELS)
    with serve(tmp_path) as server:
        server.signature, server.ranges = SIGNATURE, ranges
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        monkeypatch.setenv(VARIABLE, f"https://other.example/?sig=zzz {server.url(listed)}?{SIGNATURE}")
        ref = ObjectRef.parse(f"{server.url('in/a.tif')}?se=1999&sig=stale")
        assert ref == ObjectRef.parse(server.url("in/a.tif")), "a listed signature stands in the place of an old one"
        asset = pin(ref)
        assert (asset.ref == ref) is ranges
        assert "5171a7u3e" not in repr(asset)
        assert {path.partition("?")[2] for _, path, _ in server.requests} == {SIGNATURE}
    assert not [path for path in cache.rglob("*") if "5171a7u3e" in path.name]


def test_a_signature_holds_for_its_file_or_its_folder_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        VARIABLE, "https://h.example/c/?sig=folder https://h.example/c/deep/?sig=deep https://h.example/one.tif?sig=one"
    )
    found = {
        key: query_for("https", "h.example", key)
        for key in ("c/a.tif", "c/deep/a.tif", "one.tif", "one.tif.ovr", "cc/a.tif", "two.tif")
    }
    assert found == {"c/a.tif": "sig=folder", "c/deep/a.tif": "sig=deep", "one.tif": "sig=one", "one.tif.ovr": "",
                     "cc/a.tif": "", "two.tif": ""}  # fmt: skip
    assert query_for("http", "h.example", "c/a.tif") == ""
    assert query_for("https", "h.example:8443", "c/a.tif") == ""


def test_a_signed_address_that_is_not_listed_is_refused_with_the_way_to_list_it() -> None:
    with pytest.raises(
        ConfigError, match=rf"carries a query.*goes whole into the environment variable {VARIABLE}"
    ) as result:
        ObjectRef.parse("https://h.example/a.tif?sig=5171a7u3e")
    assert "5171a7u3e" not in str(result.value)
    assert "AWS" not in str(result.value)


@settings(deadline=None, max_examples=60)
@given(
    token=st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%2F-_.~", min_size=16, max_size=80),
    before=st.text(max_size=30), after=st.text(max_size=30),
)  # fmt: skip
def test_no_listed_signature_survives_in_a_message(token: str, before: str, after: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, f"https://h.example/c/?se=1&sig={token}")
        ref = ObjectRef.parse("https://h.example/c/a.tif")
        error = EarthloomError(f"{before} {ref.gdal_path} and a.tif?se=1&sig={token} {after}")
        assert token not in str(error)
        assert token not in redact(f"{before}{token}{after}")
        assert token not in ref.url + repr(ref)


def test_a_stac_file_of_a_server_without_head_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "item.json").write_text("{}")
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        server.head = 405
        head = open_store(ObjectRef.parse(server.url("item.json"))).head()
    assert head is not None
    assert head.size == 2
