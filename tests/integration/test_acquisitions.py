"""Acquisitions as delivered, from a folder to a map, with nothing said but the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import from_bounds

from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import RunResult, run
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests import acquisitions
from tests.acquisitions import L2_NAME, S2_NAME, read_band
from tests.maps import fetched


def go(scene: str, out: str, model: str, **options: object) -> RunResult:
    return run(load({"scenes": (scene,), "out": out, "model": model, "executor": "local", "device": "cpu", **options}))


@pytest.fixture(scope="module")
def landsat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return acquisitions.landsat(tmp_path_factory.mktemp("landsat"))


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return acquisitions.sentinel2(tmp_path_factory.mktemp("sentinel2"))


@pytest.mark.parametrize("model", ["landwater", "cloudmask", "water-index"])
@pytest.mark.parametrize("name", [L2_NAME, S2_NAME])
def test_one_word_maps_an_acquisition(model: str, name: str, landsat: Path, safe: Path, tmp_path: Path) -> None:
    folder, image = (
        (landsat, landsat / f"{L2_NAME}_SR_B3.TIF") if name == L2_NAME else
        (safe, next(safe.glob("GRANULE/*/IMG_DATA/R10m/*_B03_10m.jp2")))
    )  # fmt: skip
    result = go(f"{folder}/", str(tmp_path), fetched(model))
    assert result.exit_code == 0
    with rasterio.open(tmp_path / result.results[name].prefix / f"{model}.tif") as cog:
        classes, green = cog.read(1), read_band(image)
        assert ((classes == 255) == (green == 0)).all(), "fill, and nothing else, is nodata"


def test_the_map_is_that_of_the_same_reflectance_in_a_tiff(safe: Path, tmp_path: Path) -> None:
    """An index of two bands, computed here from what rasterio decodes."""
    result = go(
        str(safe), str(tmp_path), "water-index", precision="fp32", onto="EPSG:32633,20m,300000,5396400,303600,5400000"
    )
    assert result.exit_code == 0
    images = next(safe.glob("GRANULE/*/IMG_DATA"))
    green, swir = (
        read_band(next(images.glob(f"R20m/*_{band}_20m.jp2"))).astype(np.float64) * 1e-4 - 0.1
        for band in ("B03", "B11")
    )
    with rasterio.open(tmp_path / result.results[S2_NAME].prefix / "water-index.tif") as cog:
        classes = cog.read(1, window=from_bounds(300_000, 5_396_400, 303_600, 5_400_000, cog.transform))
    sure = (classes != 255) & (np.abs(green - swir) > 0.01)
    assert sure.sum() > 0.5 * classes.size
    assert ((classes == 1) == (green > swir))[sure].all()


@pytest.mark.s3
def test_a_prefix_in_object_storage_is_the_same_scene(s3_env: None, landsat: Path, safe: Path, tmp_path: Path) -> None:
    for folder, name, reference in (
        (landsat, L2_NAME, f"s3://scenes/acquired/{L2_NAME}/"), (safe, S2_NAME, f"s3://scenes/acquired/{safe.name}"),
    ):  # fmt: skip
        store = open_store(ObjectRef.parse("s3://scenes/acquired"))
        for path in folder.rglob("*"):
            if path.is_file():
                store.put(path.relative_to(folder.parent).as_posix(), path.read_bytes())
        there, here = (
            go(reference, str(tmp_path / "there"), "water-index"),
            go(str(folder), str(tmp_path / "here"), "water-index"),
        )
        assert there.exit_code == here.exit_code == 0
        maps = [
            tmp_path / place / result.results[name].prefix / "water-index.tif"
            for place, result in (("there", there), ("here", here))
        ]
        with rasterio.open(maps[0]) as remote, rasterio.open(maps[1]) as local:
            assert (remote.read(1) == local.read(1)).all()
