"""gs:// and az:// through fsspec: fetched once to pinned bytes, or refused with the package to install."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from earthloom.jobs.intake.references import find
from earthloom.tiling.errors import ConfigError, SceneError, StorageError
from earthloom.tiling.reading import identity
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.opening import open_asset
from earthloom.tiling.storage.objects import FOREIGN, ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.scenes import landscape, write_scene


class Cloud(MemoryFileSystem):
    """A file system of fsspec under another name, which counts what it is asked for."""

    cachable = False
    opened = 0
    denied = False

    def open(self, *arguments: object, **options: object) -> object:
        if Cloud.denied:
            raise PermissionError("anonymous callers may not read: token=5171a7u3e")
        Cloud.opened += "rb" in arguments
        return super().open(*arguments, **options)

    def info(self, path: str, **options: object) -> object:
        found = super().info(path, **options)
        return (
            found if found["type"] == "directory" else found | {"etag": str(hash(self.store[found["name"]].getvalue()))}
        )


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(identity, "_seen", {})
    monkeypatch.setattr(Cloud, "opened", 0)
    monkeypatch.setattr(fsspec, "filesystem", lambda _protocol: Cloud())
    yield Cloud()
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.mark.parametrize("scheme", FOREIGN)
def test_a_file_is_fetched_once_to_pinned_bytes(scheme: str, tmp_path: Path, cloud: MemoryFileSystem) -> None:
    pixels = landscape(300, 200, 2)
    data = write_scene(tmp_path / "a.tif", pixels).read_bytes()
    cloud.pipe("/bucket/in/a b.tif", data)
    cloud.pipe("/bucket/in/notes.txt", b"")
    (request,) = find(f"{scheme}://bucket/in/")
    ref = request.parts[0].ref
    assert ref.url == f"{scheme}://bucket/in/a b.tif"
    first = pin(ref)
    assert first.identity.startswith("sha256:")
    assert first.ref.scheme == "file"
    assert pin(ref) == first
    assert Cloud.opened == 1
    with open_asset(first) as dataset:
        assert np.array_equal(dataset.read(), pixels)
    cloud.pipe("/bucket/in/a b.tif", data + b"\0")
    assert pin(ref).identity != first.identity, "another version is fetched anew"
    assert [request.id for request in find(f"{scheme}://bucket/in/*.tif")] == ["a-b"]
    with pytest.raises(SceneError, match=f"{scheme}://bucket/in/none.tif does not exist"):
        pin(ObjectRef.parse(f"{scheme}://bucket/in/none.tif"))


def test_what_the_package_raises_becomes_ours(cloud: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.pipe("/bucket/a.tif", b"pixels")
    monkeypatch.setattr(Cloud, "denied", True)
    with pytest.raises(
        StorageError, match=r"cannot read gs://bucket/a\.tif: PermissionError.*gcsfs finds credentials"
    ) as result:
        open_store(ObjectRef.parse("gs://bucket/a.tif")).get()
    assert not result.value.transient


@pytest.mark.parametrize(("scheme", "package"), FOREIGN.items())
def test_without_the_package_it_is_named(scheme: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(protocol: str) -> None:
        raise ImportError(f"Please install {package}")

    monkeypatch.setattr(fsspec, "filesystem", absent)
    with pytest.raises(ConfigError, match=rf"{scheme}://bucket/a\.tif: .*pip install {package}"):
        pin(ObjectRef.parse(f"{scheme}://bucket/a.tif"))


def test_nothing_is_written_there() -> None:
    store = open_store(ObjectRef.parse("gs://bucket/maps"))
    with pytest.raises(ConfigError, match="outputs go to a folder or s3://; gs:// is only read"):
        store.put("a", b"")
    with pytest.raises(ConfigError, match="outputs go to a folder or s3://; gs:// is only read"):
        store.copy("a", "b")
