from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading import identity
from earthloom.tiling.reading.identity import etag, pin, size_bytes, verify_local
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.http_range_server import serve


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, and a process that remembers nothing."""
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(identity, "_seen", {})
    return tmp_path / "cache"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as old enough for its stamps to be believed."""
    monkeypatch.setattr(identity, "_SETTLED_S", -1.0)


def file_of(path: Path, data: bytes) -> ObjectRef:
    path.write_bytes(data)
    return ObjectRef.parse(str(path))


def test_a_local_file_is_its_sha256(tmp_path: Path) -> None:
    asset = pin(file_of(tmp_path / "a.tif", b"pixels"))
    assert asset.identity == f"sha256:{hashlib.sha256(b'pixels').hexdigest()}"
    assert size_bytes(asset) == 6
    assert etag(asset) is None


@pytest.mark.usefixtures("settled")
def test_an_unchanged_file_is_not_hashed_again(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = file_of(tmp_path / "a.tif", b"pixels")
    first = pin(ref)
    assert len(list((cache / "hashes").iterdir())) == 1
    monkeypatch.setattr(identity, "_seen", {})  # as in another process
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("it was read again"))
    assert pin(ref) == first


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    first = pin(file_of(path, b"pixels"))
    path.write_bytes(b"others")
    assert pin(ObjectRef.parse(str(path))).identity != first.identity


def test_a_file_of_this_moment_is_never_taken_from_the_cache(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"pixels")
    stamp = path.stat().st_mtime_ns
    first = pin(ObjectRef.parse(str(path)))
    path.write_bytes(b"others")  # the same size, and a clock too coarse to tell
    os.utime(path, ns=(stamp, stamp))
    assert pin(ObjectRef.parse(str(path))).identity != first.identity
    assert not (cache / "hashes").exists()


@pytest.mark.usefixtures("settled")
def test_a_file_that_took_another_ones_place_size_and_date_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    first = pin(file_of(path, b"pixels"))
    before = path.stat()
    path.write_bytes(b"others")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as cp -p, tar and rsync do
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert pin(ObjectRef.parse(str(path))).identity != first.identity


@pytest.mark.usefixtures("settled")
def test_a_damaged_note_is_not_believed(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = file_of(tmp_path / "a.tif", b"pixels")
    first = pin(ref)
    next((cache / "hashes").iterdir()).write_text("half a ha")
    monkeypatch.setattr(identity, "_seen", {})
    assert pin(ref) == first


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blocked").write_text("a file where the folder should be")
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path / "blocked"))
    assert pin(file_of(tmp_path / "a.tif", b"pixels")).identity.startswith("sha256:")


def test_a_local_file_that_changed_since_it_was_pinned_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    asset = pin(file_of(path, b"pixels"))
    verify_local(asset)
    path.write_bytes(b"other pixels")
    with pytest.raises(SceneError, match=r"changed since it was checked: it was sha256:.* and is sha256:"):
        verify_local(asset)


def test_what_is_not_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "folder.tif").mkdir()
    os.mkfifo(tmp_path / "pipe.tif")
    for name, why in (("none", "does not exist"), ("folder", "is a folder"), ("pipe", "is not a regular file")):
        with pytest.raises(SceneError, match=rf"{name}\.tif {why}"):
            pin(ObjectRef.parse(str(tmp_path / f"{name}.tif")))


def test_a_strong_etag_pins_a_web_file_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tif").write_bytes(b"pixels")
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        ref = ObjectRef.parse(server.url("a.tif"))
        asset = pin(ref)
        ranges = [headers.get("range") for method, _, headers in server.requests if method == "GET"]
        assert ranges == ["bytes=0-0"], "asked whether it gives ranges, and no more"
    expected = hashlib.sha256(b"pixels").hexdigest()[:16]
    assert (asset.ref, asset.identity, etag(asset), size_bytes(asset)) == (ref, f"etag:{expected}:6", expected, 6)


@pytest.mark.parametrize("kind", ["weak", "none"])
def test_a_web_file_without_a_strong_etag_is_fetched_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "a b.tif").write_bytes(b"pixels" * 100_000)
    with serve(tmp_path, etag="weak" if kind == "weak" else "none") as server:
        server.dates = True
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        ref = ObjectRef.parse(server.url("a b.tif"))
        assets = {pin(ref), pin(ref)}
        assert server.asked("GET", "a b.tif") == 1
    (asset,) = assets
    assert asset.ref.path.read_bytes() == b"pixels" * 100_000
    assert asset.ref.path.is_relative_to(cache)
    assert asset.identity == f"sha256:{hashlib.sha256(b'pixels' * 100_000).hexdigest()}"
    assert not list(cache.rglob("*.partial"))


def test_a_weak_etag_that_changes_fetches_the_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tif").write_bytes(b"pixels")
    with serve(tmp_path, etag="weak") as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        first = pin(ObjectRef.parse(server.url("a.tif")))
        (tmp_path / "a.tif").write_bytes(b"others")
        assert pin(ObjectRef.parse(server.url("a.tif"))).identity != first.identity


@pytest.mark.parametrize("dates", [True, False])
def test_a_file_without_an_etag_is_fetched_again_where_it_may_have_been_modified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dates: bool
) -> None:
    (tmp_path / "a.tif").write_bytes(b"pixels")
    os.utime(tmp_path / "a.tif", (10**9, 10**9))
    with serve(tmp_path, etag="none") as server:
        server.dates = dates
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        first = pin(ObjectRef.parse(server.url("a.tif")))
        (tmp_path / "a.tif").write_bytes(b"others")
        second = pin(ObjectRef.parse(server.url("a.tif")))
        assert second.identity != first.identity
        assert first.ref.path.read_bytes() == b"pixels", "another run may be reading it"


def test_a_missing_web_file_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        with pytest.raises(SceneError, match=r"gone\.tif does not exist"):
            pin(ObjectRef.parse(server.url("gone.tif")))


@pytest.mark.s3
@pytest.mark.usefixtures("s3_env")
def test_an_s3_object_is_pinned_by_etag_and_size() -> None:
    ref = ObjectRef.parse("s3://scenes/identity/a.tif")
    open_store(ref).put("", b"pixels")
    asset = pin(ref)
    assert asset.identity == f"etag:{hashlib.md5(b'pixels').hexdigest()}:6"  # what S3 promises for a plain PUT
    with pytest.raises(SceneError, match=r"s3://scenes/identity/b\.tif does not exist"):
        pin(ObjectRef.parse("s3://scenes/identity/b.tif"))
