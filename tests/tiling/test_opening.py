"""Files opened by their pinned bytes and nothing else: changes, busy servers, threads, object storage."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from earthloom.tiling.errors import SceneError, StorageError
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.opening import open_asset
from earthloom.tiling.reading.preflight import inspect
from earthloom.tiling.scene import Asset
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.http_range_server import serve
from tests.scenes import landscape, write_scene
from tests.threads import side_by_side
from tests.tiling.headers import asset, header, ramp

pytestmark = pytest.mark.usefixtures("own_cache")


def test_a_web_scene_is_read_under_its_etag_and_refused_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(tmp_path / "a.tif", landscape(700, 500, 3), nodata=0)
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        remote = pin(ObjectRef.parse(server.url("a.tif")))
        server.requests.clear()
        assert inspect(remote).dtypes == ("uint16",) * 3
        assert server.requests
        tag = f'"{remote.identity.split(":")[1]}"'
        assert {headers.get("If-Match") for _, _, headers in server.requests} == {tag}
        with open_asset(remote) as dataset, rasterio.open(tmp_path / "a.tif") as local:
            np.testing.assert_array_equal(dataset.read(), local.read())

        write_scene(tmp_path / "a.tif", landscape(700, 500, 3, seed=5), nodata=0)
        with pytest.raises(SceneError, match=r"changed since it was checked: it was etag:"), open_asset(remote):
            pytest.fail("the old identity opened the new bytes")
        (tmp_path / "a.tif").unlink()
        with pytest.raises(SceneError, match=r"a\.tif is gone"), open_asset(remote):
            pytest.fail("nothing is there")


def test_a_change_between_two_reads_is_an_error_and_no_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(2).integers(1, 60_000, (1, 2048, 2048)).astype("uint16")
    write_scene(tmp_path / "a.tif", noise)
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        remote = pin(ObjectRef.parse(server.url("a.tif")))

        def read_across_the_change() -> None:
            with open_asset(remote) as dataset:
                dataset.read(1, window=Window(0, 0, 64, 64))
                write_scene(tmp_path / "a.tif", noise[:, ::-1])
                dataset.read(1, window=Window(0, 1800, 2048, 248))

        with pytest.raises(SceneError, match="changed since it was checked"):
            read_across_the_change()


def test_a_busy_server_is_worth_another_try_and_a_damaged_local_file_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_scene(
        tmp_path / "a.tif", np.random.default_rng(2).integers(1, 60_000, (1, 1024, 1024)).astype("uint16")
    )

    def read_the_end(pinned: Asset) -> None:
        with open_asset(pinned) as dataset:
            server.busy = True
            dataset.read(1, window=Window(0, 1000, 1024, 24))

    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        with pytest.raises(StorageError, match="the storage faltered, or the file is damaged") as caught:
            read_the_end(pin(ObjectRef.parse(server.url("a.tif"))))
        assert caught.value.transient
    with rasterio.open(path) as dataset:
        start = int(dataset.get_tag_item("BLOCK_OFFSET_3_3", "TIFF", bidx=1))
    damaged = bytearray(path.read_bytes())
    damaged[start : start + 2000] = bytes(2000)
    path.write_bytes(damaged)
    with pytest.raises(SceneError, match=r"cannot decode .*a\.tif: .*damaged"):
        read_the_end(asset(path))


def test_nothing_but_the_asset_can_be_read_while_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.tif", "secret.tif"):
        write_scene(tmp_path / name, ramp())
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        remote = pin(ObjectRef.parse(server.url("a.tif")))
        with open_asset(remote), pytest.raises(rasterio.errors.RasterioIOError):
            rasterio.open(f"/vsicurl/{server.url('secret.tif')}")
        assert server.asked("GET", "secret.tif") == 0


def test_assets_are_open_side_by_side_in_threads_without_mixing_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_threads = 6
    for number in range(n_threads):
        write_scene(tmp_path / f"{number}.tif", landscape(300, 300, 1, seed=number))
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        assets = [pin(ObjectRef.parse(server.url(f"{number}.tif"))) for number in range(n_threads)]
        barrier = threading.Barrier(n_threads)

        def read(number: int) -> None:
            barrier.wait(120)
            for _ in range(5):
                with open_asset(assets[number]) as dataset, rasterio.open(tmp_path / f"{number}.tif") as local:
                    np.testing.assert_array_equal(dataset.read(), local.read())

        with open_asset(assets[0]):  # options of the main thread must not reach the others
            side_by_side(read, range(n_threads))


def test_a_local_file_replaced_after_pinning_is_not_opened(tmp_path: Path) -> None:
    pinned = asset(write_scene(tmp_path / "a.tif", ramp()))
    write_scene(tmp_path / "a.tif", ramp(2))
    with pytest.raises(SceneError, match="changed since it was checked"), open_asset(pinned):
        pytest.fail("other bytes were opened")


@pytest.mark.s3
@pytest.mark.usefixtures("s3_env")
def test_an_s3_scene_is_read_under_its_etag_and_refused_when_it_changes(tmp_path: Path) -> None:
    ref = ObjectRef.parse("s3://scenes/preflight/a.tif")
    path = write_scene(tmp_path / "a.tif", landscape(700, 500, 2), nodata=0)
    open_store(ref).put("", path.read_bytes())
    remote = pin(ref)
    assert inspect(remote).grid == header(path).grid
    with open_asset(remote) as dataset, rasterio.open(path) as local:
        np.testing.assert_array_equal(dataset.read(), local.read())
    open_store(ref).put("", write_scene(tmp_path / "b.tif", landscape(700, 500, 2, seed=3)).read_bytes())
    with pytest.raises(SceneError, match="changed since it was checked"), open_asset(remote):
        pytest.fail("the old identity opened the new bytes")


def test_drivers_are_registered_by_one_thread_however_many_begin_together(tmp_path: Path) -> None:
    """In a fresh process. Each registration tells of the drivers that this build has not; that takes time here, so that the
    others come meanwhile. One that registers again takes a driver away that a warp of another thread belongs to."""
    code = """
import logging, sys, threading, time
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.opening import open_asset
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import apply
apply()
class Slow(logging.Handler):
    def emit(self, record):
        registering.add(record.threadName)
        time.sleep(1e-3)
registering, log = set(), logging.getLogger("rasterio._env")
log.filters.clear()
log.addHandler(Slow())
log.propagate = False
asset, together = pin(ObjectRef.parse(sys.argv[1])), threading.Barrier(4)
def read():
    together.wait()
    with open_asset(asset):
        pass
threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(registering))
"""
    file = write_scene(tmp_path / "a.tif", landscape(64, 64, 1))
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
