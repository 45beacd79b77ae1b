"""Quality bands of scenes that users put together themselves: of any type, name and pixel size. Numpy says what is clear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray

from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, expand, open_all
from earthloom.jobs.intake.wanted import Wanted
from earthloom.tiling.reading.read import read_pixels
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.usefixtures("own_cache")

CLOUDS = (0, 1, 3, 8, 9, 10)  # of SCL, with shadows and defects


def opened(reference: object, **options: Any) -> OpenedScene | RefusedScene:
    asks = Wanted(models=((frozenset(("red", "nir")),),))
    (found,) = open_all(
        expand([str(reference)]), SceneOptions(mask="qa", scale=1e-4, quantity="reflectance", **options), models=asks
    )
    return found


def valid(scene: OpenedScene | RefusedScene) -> NDArray[np.bool_]:
    assert isinstance(scene, OpenedScene), scene
    return read_pixels(scene.scene, scene.scene.select(("red", "nir")), scene.scene.grid.window, 0).valid


@pytest.mark.parametrize("name", ["scl", "SCL"])
def test_a_quality_band_in_a_stack_of_floating_point_is_read(tmp_path: Path, name: str) -> None:
    classes = np.random.default_rng(0).integers(0, 12, (1, 64, 64))
    stack = np.concatenate([landscape(64, 64, 2), classes]).astype(np.float32)
    found = opened(write_scene(tmp_path / "a.tif", stack, ("red", "nir", name)))
    assert np.array_equal(valid(found), ~np.isin(classes[0], CLOUDS))


def test_bits_in_a_stack_of_floating_point_are_read(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2**16, (1, 64, 64))
    stack = np.concatenate([landscape(64, 64, 2), bits]).astype(np.float32)
    found = opened(write_scene(tmp_path / "a.tif", stack, ("red", "nir", "QA_PIXEL")))
    assert np.array_equal(valid(found), bits[0] & 0b11111 == 0)


@pytest.mark.parametrize("bands", [(), (("red", 1), ("nir", 2), ("scl", 3))])
def test_a_coarse_quality_band_that_is_named_by_hand_is_not_averaged(tmp_path: Path, bands: Any) -> None:
    for number, name in enumerate(("red", "nir")):
        write_scene(tmp_path / f"{name}.tif", landscape(64, 64, 2)[number : number + 1])
    classes = np.random.default_rng(0).integers(2, 12, (1, 32, 32)).astype(np.uint8)
    write_scene(tmp_path / "q.tif", classes, transform=Affine(20, 0, 300000, 0, -20, 4500000))
    files = [f"{tmp_path}/{name}.tif" for name in ("red", "nir", "q")]
    reference = ",".join(files if bands else map("{}={}".format, ("red", "nir", "scl"), files))
    clear = np.kron(~np.isin(classes[0], CLOUDS), np.ones((2, 2), bool))
    for option in ({}, {"nodata": 300.0}):  # which no band of 8 bits holds
        assert np.array_equal(valid(opened(reference, bands=bands, **option)), clear)


def test_a_quality_band_under_another_name_is_asked_for_by_one_that_works(tmp_path: Path) -> None:
    stack = np.concatenate([landscape(64, 64, 2), np.full((1, 64, 64), 4)]).astype(np.uint16)
    path = write_scene(tmp_path / "a.tif", stack, ("red", "nir", "quality"))
    found = opened(path)
    assert isinstance(found, RefusedScene)
    assert "`bands=scl=<number>`" in found.message
    assert valid(opened(path, bands=(("scl", 3),))).all()
