from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import Resampling

from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.plausible import BLACK, DARKEST, HIGHEST, LOWEST, implausible, judged
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, expand, open_all
from earthloom.jobs.intake.wanted import Wanted
from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.sample import Sample, sample_apart
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.scene import Band
from earthloom.tiling.storage.objects import ObjectRef
from tests.scenes import write_scene

pytestmark = pytest.mark.usefixtures("own_cache")

_inspectors = Disposables()  # its child goes with this process


def opened(path: Path, **options: Any) -> OpenedScene | RefusedScene:
    (made,) = open_all(expand([str(path)]), SceneOptions.model_validate(options))
    return made


def pixels(low: int, high: int, *, side: int = 64, dtype: str = "uint16") -> NDArray[Any]:
    return np.random.default_rng(0).integers(low, high, (2, side, side)).astype(dtype)


def doubt(scene: OpenedScene | RefusedScene) -> str:
    return " ".join(note for note in said(scene) if "a sample of " in note)


def said(scene: OpenedScene | RefusedScene) -> tuple[str, ...]:
    assert isinstance(scene, OpenedScene), scene
    return scene.notes


@pytest.mark.parametrize("scale", [1e-5, 1e-4, 2e-4])
def test_plain_reflectance_says_nothing(tmp_path: Path, scale: float) -> None:
    path = write_scene(tmp_path / "x.tif", pixels(0, 12000), ("green", "nir"))
    assert not doubt(opened(path, scale=scale, quantity="reflectance"))


def test_values_that_no_reflectance_has_are_said_with_a_histogram(tmp_path: Path) -> None:
    held = pixels(300, 4000, dtype="float32")
    held[:, :, :40] /= 10000
    path = write_scene(tmp_path / "x.tif", held, ("green", "nir"))
    text = doubt(opened(path, quantity="boa_reflectance"))
    assert "38 % of a sample of 4096 pixels are below -1 or above 3, which no reflectance is" in text
    assert "(also nir)" in text
    assert "above 3: 38 %" in text
    for remedy in ({"scale": 1e-4, "quantity": "reflectance"}, {"quantity": "dn"}):
        assert not doubt(opened(path, **remedy))


def refusal(scene: OpenedScene | RefusedScene) -> str:
    assert isinstance(scene, RefusedScene), scene
    return scene.message


@pytest.mark.parametrize(("high", "peak"), [(101, 100), (256, 255), (9000, 10000), (20000, 10000)])
def test_a_scene_that_is_mostly_no_reflectance_is_refused_with_the_scale_that_would_make_it_so(
    high: int, peak: int, tmp_path: Path
) -> None:
    path = write_scene(tmp_path / "x.tif", pixels(high // 3, high, dtype="float32"), ("green", "nir"))
    text = refusal(opened(path, quantity="reflectance"))
    assert "100 % of a sample of 4096 pixels are below -1 or above 3" in text
    assert f"`scale={1 / peak:.6g}`, if {peak} stands for 1" in text
    assert not doubt(opened(path, quantity="reflectance", scale=float(f"{1 / peak:.6g}"))), "the remedy works"


@pytest.mark.parametrize(("n_columns", "refuses"), [(31, False), (34, True)])
def test_more_than_half_of_a_sample_is_refused_and_less_is_said(n_columns: int, refuses: bool, tmp_path: Path) -> None:
    held = pixels(300, 4000)
    held[:, :, :n_columns] = 65535
    path = write_scene(tmp_path / "x.tif", held, ("green", "nir"), nodata=None)
    found = opened(path, scale=1e-4, quantity="reflectance")
    assert isinstance(found, RefusedScene) is refuses
    text = refusal(found) if refuses else doubt(found)
    assert "If it is fill, give `nodata`" in text
    assert "stands for 1" not in text, "no scale makes reflectance of fill"
    assert not doubt(opened(path, scale=1e-4, quantity="reflectance", nodata=65535))


@pytest.mark.parametrize(
    ("dtype", "high", "remedy"), [("float32", 256, "`scale=0.00392157`, if 255 stands"), ("float64", 9000, "if 10000")]
)
def test_values_that_pass_as_shares_and_are_none_are_refused_with_the_scale(
    dtype: str, high: int, remedy: str, tmp_path: Path
) -> None:
    path = write_scene(tmp_path / "x.tif", pixels(1, high, dtype=dtype), ("red", "green"))
    refused = opened(path, quantity="unit")
    assert isinstance(refused, RefusedScene)
    assert "`quantity=unit` says that values are from 0 to 1, but in red 100 % of a sample of 4096" in refused.message
    assert remedy in refused.message
    scale = float(refused.message.partition("`scale=")[2].partition("`")[0])
    assert isinstance(opened(path, quantity="unit", scale=scale), OpenedScene), "the remedy works"


@pytest.mark.parametrize(("dtype", "scale"), [("uint8", 1 / 255), ("uint16", 1 / 65535)])
def test_whole_numbers_are_shares_of_their_range_without_a_scale(dtype: str, scale: float, tmp_path: Path) -> None:
    path = write_scene(tmp_path / "x.tif", pixels(0, 256, dtype=dtype), ("red", "green"))
    found = opened(path, quantity="unit")
    assert isinstance(found, OpenedScene)
    assert {band.scale for band in found.scene.bands} == {scale}
    assert found.scene.quantity == "unit"


def test_an_offset_that_is_ten_times_too_large_is_said(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "x.tif", pixels(300, 4000), ("green", "nir"))
    text = refusal(opened(path, scale=1e-4, offset=-9, quantity="reflectance"))
    assert "with scale 0.0001 and offset -9: below -1: 100 %" in text


@pytest.mark.parametrize("fill", [65535, 40000])
def test_fill_that_nothing_declares_is_said_with_a_histogram(tmp_path: Path, fill: int) -> None:
    held = pixels(300, 4000)
    held[:, :, 44:] = fill
    path = write_scene(tmp_path / "x.tif", held, ("green", "nir"), nodata=None)
    text = doubt(opened(path, scale=1e-4, quantity="reflectance"))
    assert "0 to 0.5: 68 %, above 3: 32 %" in text
    assert "If it is fill, give `nodata`" in text
    assert not doubt(opened(path, scale=1e-4, quantity="reflectance", nodata=fill))


def test_a_value_that_fills_the_sample_may_be_fill(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "x.tif", np.full((2, 64, 64), 65535, np.uint16), ("green", "nir"), nodata=None)
    text = refusal(opened(path, scale=1e-4, quantity="reflectance"))
    assert "above 3: 100 %" in text
    assert "If it is fill, give `nodata`" in text
    assert not doubt(opened(path, scale=1e-4, quantity="reflectance", nodata=65535))


def test_a_few_pixels_of_glint_prove_nothing(tmp_path: Path) -> None:
    held = pixels(300, 4000)
    held[:, 30, :20] = 60000
    assert not doubt(
        opened(write_scene(tmp_path / "x.tif", held, ("green", "nir")), scale=1e-4, quantity="reflectance")
    )


@pytest.mark.parametrize("name", ["lwir11", "dem", "elevation", "scl", "b17"])
def test_what_is_no_reflected_light_is_not_asked(tmp_path: Path, name: str) -> None:
    path = write_scene(tmp_path / "x.tif", pixels(280, 320, dtype="float32"), (name, name + "2"))
    assert not doubt(opened(path, quantity="reflectance"))


def test_a_small_overview_stands_for_the_whole_scene(tmp_path: Path) -> None:
    """The middle holds reflectance, and most of the rest does not."""
    held = np.full((2, 1024, 1024), 60000, np.uint16)
    held[:, 400:624, 400:624] = 2000
    path = write_scene(tmp_path / "x.tif", held, ("green", "nir"))
    (plain,) = sample_apart(_inspectors, pin(ObjectRef.parse(str(path))))
    assert plain is not None
    assert plain.span == (2000, 2000)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4, 8], Resampling.nearest)
    (whole,) = sample_apart(_inspectors, pin(ObjectRef.parse(str(path))))
    assert whole is not None
    assert (whole.count, whole.span) == (128 * 128, (2000, 60000))


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=500),
    st.sampled_from((1e-5, 1e-4, 2.75e-5, 1.0, -1.0)),
    st.floats(-2, 2),
)
def test_a_doubt_is_raised_by_more_than_a_few_pixels_and_never_without_any(
    stored: list[float], scale: float, offset: float
) -> None:
    band = Band(name="red", asset=0, index=1, dtype="float32", scale=scale, offset=offset)
    sample = Sample(len(stored), tuple(np.percentile(stored, np.arange(101), method="inverted_cdf").tolist()))
    values = np.array(stored) * scale + offset
    share = float(np.mean((values < LOWEST) | (values > HIGHEST)))
    try:
        said = implausible({band: sample}, "reflectance")
    except SceneError as error:
        said = [str(error)]
        assert share > 0.45
    else:
        assert share < 0.55
    assert said or share < 0.05
    dark = float(np.mean(values < DARKEST)) > 0.45 or values.max() <= BLACK
    assert share > 0 or dark or not said


def test_masks_and_raw_numbers_are_not_asked() -> None:
    bands = [
        Band(name=name, asset=0, index=1, dtype="uint8", categorical=name == "red") for name in ("red", "nir", "qa")
    ]
    assert [band.name for band in judged(bands, "reflectance")] == ["nir"]
    assert judged(bands, "dn") == []


def radar(path: Path, power: NDArray[np.float64], *, decibels: bool) -> Path:
    values = 10 * np.log10(power) if decibels else power
    return write_scene(path, values[None].astype(np.float32), ("vv",))


POWER = np.random.default_rng(0).gamma(4, 0.08 / 4, (64, 64))
"""Of fields, with the speckle of four looks."""


def test_power_and_decibels_are_not_taken_for_each_other(tmp_path: Path) -> None:
    power = radar(tmp_path / "power.tif", POWER, decibels=False)
    db = radar(tmp_path / "db.tif", POWER, decibels=True)
    for right in (opened(power, sensor="sentinel1-grd"), opened(db, sensor="sentinel1-grd-db")):
        assert not doubt(right)
        assert isinstance(right, OpenedScene)
    refused = opened(db, sensor="sentinel1-grd")
    assert isinstance(refused, RefusedScene)
    assert "vv is said to be backscatter as power, which is not below 0, but in a sample of 4096" in refused.message
    assert "`sensor=sentinel1-grd-db`" in refused.message
    (note,) = [note for note in said(opened(power, sensor="sentinel1-grd-db")) if note.startswith("a sample of 4096")]
    assert "half of it not below 0, as decibels of ground are" in note
    assert "`sensor=sentinel1-grd`" in note


def test_fill_that_no_measurement_is_like_is_not_taken_for_reflectance(tmp_path: Path) -> None:
    values = np.full((1, 80, 80), -3.4e38, np.float32)
    values[:, :10] = 0.2
    path = write_scene(tmp_path / "collar.tif", values, ("red",))
    assert isinstance(opened(path, quantity="reflectance"), OpenedScene)


def test_power_less_its_noise_is_power_though_half_of_it_is_below_zero(tmp_path: Path) -> None:
    sea = radar(tmp_path / "sea.tif", np.random.default_rng(0).normal(-1e-5, 5e-4, (64, 64)), decibels=False)
    assert isinstance(opened(sea, sensor="sentinel1-grd"), OpenedScene)


def test_power_with_a_few_negative_pixels_is_not_taken_for_decibels(tmp_path: Path) -> None:
    values = np.where(np.random.default_rng(1).random(POWER.shape) < 0.03, -POWER, POWER)
    file = radar(tmp_path / "few.tif", values, decibels=False)
    assert any("`sensor=sentinel1-grd`" in note for note in said(opened(file, sensor="sentinel1-grd-db")))


def test_power_that_nobody_calibrated_is_said(tmp_path: Path) -> None:
    numbers = radar(tmp_path / "numbers.tif", POWER * 1000, decibels=False)
    assert any("half of it is above 10 dB" in note for note in said(opened(numbers, quantity="backscatter")))


@pytest.mark.parametrize(("sensor", "says"), [("sentinel2-l2a", False), ("sentinel2-l2a-0400", True)])
def test_an_offset_that_is_taken_off_twice_is_said_with_a_remedy(tmp_path: Path, sensor: str, says: bool) -> None:
    """Vegetation in a harmonised copy: red around 0.04, which the offset of baseline 04.00 makes -0.06."""
    held = np.stack([pixels(250, 550)[0], pixels(2500, 3500)[0]])
    path = write_scene(tmp_path / "x.tif", held, ("B04", "B08"))
    assert ("red: 100 % of a sample of 4096 pixels are below -0.03" in doubt(opened(path, sensor=sensor))) == says
    assert ("give `offset=0`" in doubt(opened(path, sensor=sensor))) == says
    assert not doubt(opened(path, sensor=sensor, offset=0.0))


def test_dark_pixels_of_landsat_are_said_without_the_remedy_of_sentinel_2(tmp_path: Path) -> None:
    """Its offset is in every file: without it, dark water would be as bright as sand."""
    path = write_scene(tmp_path / "x.tif", pixels(4000, 5500), ("SR_B4", "SR_B5"))
    found = doubt(opened(path, sensor="landsat8-c2l2"))
    assert "100 % of a sample of 4096 pixels are below -0.03" in found
    assert "offset=0" not in found


def test_a_band_that_no_model_computes_with_is_not_asked(tmp_path: Path) -> None:
    path = write_scene(
        tmp_path / "x.tif", np.concatenate([pixels(100, 5000), pixels(100, 5000)]), ("green", "blue", "red", "nir")
    )
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = (1, 1, 1e-4, 1e-4)
    requests = expand([str(path)])
    (whole,) = open_all(requests, SceneOptions())
    assert isinstance(whole, RefusedScene)
    (asked,) = open_all(requests, SceneOptions(), models=Wanted(models=((frozenset(("red", "nir")),),)))
    assert not doubt(asked)


def test_reflectance_that_is_scaled_twice_is_said_with_a_remedy(tmp_path: Path) -> None:
    """As programs write it that scale the values and keep the tags."""
    path = write_scene(tmp_path / "x.tif", (pixels(100, 6000) / 1e4).astype(np.float32), ("green", "nir"))
    assert not doubt(opened(path, scale=1.0))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = (1e-4, 1e-4)
    assert "brighter than 6e-05" in doubt(opened(path))
    assert "give `scale=1`" in doubt(opened(path))
    assert not doubt(opened(path, scale=1.0))


@pytest.mark.parametrize(
    ("dtype", "most", "options", "remedy"),
    [
        ("uint16", 1900, {"quantity": "unit"}, "`scale=0.00048852`, if 2047 stands for 1"),
        ("uint8", 250, {"quantity": "reflectance", "scale": 1e-4}, "`scale=0.00392157`, if 255 stands for 1"),
        ("uint16", 60000, {"quantity": "unit"}, ""),
        ("uint8", 20, {"quantity": "unit"}, ""),
        ("uint16", 400, {"quantity": "reflectance", "scale": 1e-4}, ""),
    ],
)
def test_a_factor_that_leaves_all_but_black_is_said_with_the_usual_one(
    tmp_path: Path, dtype: str, most: int, options: dict[str, Any], remedy: str
) -> None:
    """11 bits of 16 taken as shares, and 8 bits by the factor of 16; not a dark photograph, nor water in 16 bits."""
    path = write_scene(tmp_path / "x.tif", pixels(1, most, dtype=dtype), ("red", "nir"))
    found = doubt(opened(path, **options))
    assert remedy in found
    assert bool(found) == bool(remedy)


@pytest.mark.parametrize("declared", [True, False])
def test_a_scene_without_data_in_its_middle_is_looked_at_elsewhere(tmp_path: Path, declared: bool) -> None:
    held = np.zeros((2, 512, 512), np.float32)
    held[:, :, :150] = pixels(100, 6000, side=512)[:, :, :150]
    path = write_scene(tmp_path / "x.tif", held, ("green", "nir"), nodata=0 if declared else None)
    found = opened(path, quantity="reflectance", **({} if declared else {"nodata": 0}))
    assert isinstance(found, RefusedScene)
    assert "green (also nir): 100 % of a sample of 2432 pixels" in found.message
