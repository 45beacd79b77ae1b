"""The GSD that a scene is mapped at, and the earlier date of a pair read from where its ground lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage

from earthloom.jobs.config import load
from earthloom.jobs.intake.registered import MOST_PX
from earthloom.jobs.planning.binding import fitting_grid
from earthloom.jobs.planning.plan import RunPlan, plan
from earthloom.models.zoo.landwater import LANDWATER
from earthloom.models.zoo.rules import WATER_INDEX
from earthloom.models.zoo.trained import BUILDINGS, DEFORESTATION
from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.window import Window
from tests.maps import go, published
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.usefixtures("own_cache")

RGB = ("red", "green", "blue")
OPTIONS: dict[str, Any] = {"scale": 1 / 255, "quantity": "unit", "device": "cpu"}
LATER, EARLIER = "2026:07:11 10:00:00", "2026:07:01 10:00:00"


def grid(gsd_m: float, side: int = 600) -> Grid:
    return Grid(
        crs="EPSG:32617", transform=(gsd_m, 0.0, 500000.0, 0.0, -gsd_m, 4500000.0), width=side, height=side + 100
    )


def town(side: int, seed: int = 0) -> NDArray[np.uint8]:
    """Bright roofs on dark ground with grain, (3, side, side)."""
    rng = np.random.default_rng(seed)
    roofs = ndimage.zoom((rng.random((side // 16, side // 16)) > 0.7).astype(float), 16, order=0)
    ground = 60 + 120 * roofs + ndimage.gaussian_filter(rng.normal(0, 60, (side, side)), 2)
    return np.stack([np.clip(ground + tint, 1, 255) for tint in (0, -10, -20)]).astype(np.uint8)


def write(path: Path, pixels: NDArray[np.uint8], gsd_m: float, date: str = LATER, **options: Any) -> Path:
    return write_scene(path, pixels, RGB, transform=grid(gsd_m).affine, date=date, **options)


def planned(*scenes: Path, **options: Any) -> RunPlan:
    return plan(load({"scenes": tuple(map(str, scenes)), "out": "/nowhere", **OPTIONS, **options}))


# ---- GSD


@pytest.mark.parametrize(
    ("gsd_m", "wanted_m"), [(0.1, 0.2), (0.199, None), (0.3, None), (0.4502, None), (0.5, 0.45), (1.3, 0.45)]
)
def test_a_scene_outside_the_range_of_a_card_gets_the_nearest_gsd_of_it(gsd_m: float, wanted_m: float | None) -> None:
    found = fitting_grid(grid(gsd_m), BUILDINGS)
    if wanted_m is None:
        assert found is None
        return
    assert found is not None
    assert found.gsd_m() == pytest.approx(wanted_m, rel=1e-3)
    assert (found.transform[2], found.transform[5]) == (500000.0, 4500000.0)
    ends, own = (np.array([one.bounds[2], one.bounds[1]]) for one in (found, grid(gsd_m)))
    assert np.abs(ends - own).max() <= wanted_m / 2 * 1.001
    assert fitting_grid(found, BUILDINGS) is None


def test_only_networks_that_know_things_by_their_size_have_a_gsd_of_their_own() -> None:
    assert fitting_grid(grid(3), DEFORESTATION) is not None
    assert fitting_grid(grid(3), LANDWATER[0]) is None
    assert fitting_grid(grid(3), WATER_INDEX[0]) is None
    assert fitting_grid(grid(0.6), BUILDINGS, scale=2) is None  # `sr-x2` before it


def test_pixels_that_cannot_show_what_is_looked_for_are_refused_and_the_remedy_works(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"10 m are too coarse for buildings, which was made for 0\.2 to 0\.45 m"):
        fitting_grid(grid(10), BUILDINGS)
    scene = write(tmp_path / "a.tif", town(64), 10)
    (refused,) = planned(scene, model="buildings").refused
    onto = SceneError(refused.message).options["onto"]
    made = planned(scene, model="buildings", onto=onto)
    assert made.scenes[0].scene.grid.gsd_m() == pytest.approx(10, rel=1e-2)


def test_the_choice_is_told_in_one_line_and_a_grid_of_the_users_own_stands(tmp_path: Path) -> None:
    scene = write(tmp_path / "a.tif", town(320), 0.15)
    made = planned(scene, model="buildings")
    (one,) = made.scenes
    assert (one.scene.grid.width, one.grid.width) == (240, 240)
    assert {band.resampling for band in one.chain.bands} == {"average"}
    (told,) = [note for _, note in made.notes if "0.2-0.45 m" in note]
    assert told.startswith("pixels of 0.15 m lie outside")
    assert "averaged to 0.2 m" in told
    own = planned(scene, model="buildings", onto="EPSG:32617,0.15,500000,4499970,500030,4500000")
    assert own.scenes[0].scene.grid.gsd_m() == pytest.approx(0.15, rel=1e-3)
    assert own.scenes[0].key != one.key


def test_the_values_are_those_of_one_warp_over_the_whole_scene(tmp_path: Path) -> None:
    pixels = town(320)
    scene = planned(write(tmp_path / "a.tif", pixels, 0.1), model="buildings").scenes[0].scene
    whole = read_pixels(scene, scene.bands, scene.grid.window, 0)
    means = pixels.reshape(3, 160, 2, 160, 2).astype(float).mean(axis=(2, 4))
    assert np.abs(whole.values - means).max() <= 0.51
    for cut in (Window(0, 0, 31, 160), Window(31, 7, 100, 99), Window(150, 150, 10, 10)):
        part = read_pixels(scene, scene.bands, cut, 0)
        assert np.array_equal(part.values, whole.values[(slice(None), *cut.slices(scene.grid.window))])


def test_the_map_of_a_resampled_scene_has_the_same_bytes_however_it_is_cut(tmp_path: Path) -> None:
    scene = write(tmp_path / "a.tif", town(1504), 0.1)  # 752 x 752 px at 0.2 m: two by two shards
    small = {"model": "buildings", **OPTIONS, "core": 256}
    outs = [tmp_path / "one", tmp_path / "other"]
    for out, block in zip(outs, (512, 1024), strict=True):
        assert go(scene, out=out, block=block, **small).exit_code == 0
    first, second = map(published, outs)
    assert first == second
    with rasterio.open(next(outs[0].glob("scenes/a/*/buildings.tif"))) as made:
        assert (made.width, made.transform.a) == (752, pytest.approx(0.2, rel=1e-3))


# ---- pairs


def pair_of(folder: Path, rows: float, cols: float, *, later: Affine | None = None, **options: Any) -> RunPlan:
    """Two dates of one town, the ground of the earlier one lying so far down and to the right in its file."""
    ground = town(512)
    moved = np.stack([ndimage.shift(band.astype(float), (rows, cols), order=1, mode="reflect") for band in ground])
    before = write(folder / "before.tif", np.clip(moved * 0.8 + 10, 1, 255).astype(np.uint8), 0.3, EARLIER)
    after = write_scene(folder / "after.tif", ground, RGB, transform=later or grid(0.3).affine, date=LATER)
    return planned(after, before=(str(before),), model="building-change", **options)


def test_the_earlier_date_is_read_from_where_its_ground_lies_to_the_pixel(tmp_path: Path) -> None:
    made = pair_of(tmp_path, 5, -3)
    scene = made.scenes[0].scene
    assert scene.before_shift_px == pytest.approx((5, -3), abs=0.1)
    assert {band.shift_px for band in made.scenes[0].chain.bands} == {(0, 0), (5, -3)}
    (told,) = [note for _, note in made.notes if "further down" in note]
    assert "5.00 px further down and -3.00 px to the right" in told
    bands = scene.select(("before_red", "before_green"))
    read = read_pixels(scene, bands, scene.grid.window, 0)
    with rasterio.open(tmp_path / "before.tif") as file:
        stored = file.read([1, 2])
    assert np.array_equal(read.values[:, :-5, 3:], stored[:, 5:, :-3])
    assert read.valid[:-5, 3:].all()
    assert not read.valid[-5:].any()
    assert not read.valid[:, :3].any()
    cut = Window(100, 400, 77, 112)
    part = read_pixels(scene, bands, cut, 0)
    assert np.array_equal(part.values, read.values[(slice(None), *cut.slices(scene.grid.window))])
    assert np.array_equal(part.valid, read.valid[cut.slices(scene.grid.window)])


def test_less_than_half_a_pixel_is_measured_and_left_alone(tmp_path: Path) -> None:
    made = pair_of(tmp_path, 0.3, -0.2)
    scene = made.scenes[0].scene
    assert scene.before_shift_px == pytest.approx((0.3, -0.2), abs=0.15)
    assert {band.shift_px for band in scene.bands} == {(0, 0)}
    assert {band.resampling for band in scene.bands} == {None}
    assert not any("further down" in note for _, note in made.notes)


def test_a_pair_far_beside_each_other_is_refused_with_both_numbers_and_a_remedy_that_works(tmp_path: Path) -> None:
    rows, cols = MOST_PX + 14, -(MOST_PX + 4)
    (refused,) = pair_of(tmp_path, rows, cols).refused
    assert f"{rows:.1f} px further down and {cols:.1f} px to the right" in refused.message
    assert f"at most {MOST_PX} px" in refused.message
    left, top, right, bottom = (float(word) for word in refused.message.partition("-a_ullr ")[2].split()[:4])
    with rasterio.open(tmp_path / "before.tif", "r+") as file:  # what gdal_edit.py -a_ullr does
        file.transform = Affine((right - left) / file.width, 0, left, 0, (bottom - top) / file.height, top)
    made = planned(tmp_path / "after.tif", before=(str(tmp_path / "before.tif"),), model="building-change")
    assert made.scenes[0].scene.before_shift_px == pytest.approx((0, 0), abs=0.1)


def test_dates_that_have_nothing_in_common_are_left_where_they_are_and_that_is_told(tmp_path: Path) -> None:
    fields = [np.clip(landscape(512, 512, 3, seed) / 40, 1, 255).astype(np.uint8) for seed in (0, 1)]
    write(tmp_path / "before.tif", fields[0], 0.3, EARLIER)
    after = write(tmp_path / "after.tif", fields[1], 0.3)
    made = planned(after, before=(str(tmp_path / "before.tif"),), model="building-change")
    assert made.scenes[0].scene.before_shift_px is None
    assert any("cannot be told: they have too little in common" in note for _, note in made.notes)


def test_the_shift_is_measured_on_the_grid_that_is_mapped(tmp_path: Path) -> None:
    """The scene of 0.15 m is averaged to 0.2 m: 8 px of it are 6 of the map's."""
    ground = town(512)
    before = write(tmp_path / "before.tif", np.roll(ground, 8, axis=1), 0.15, EARLIER)
    after = write(tmp_path / "after.tif", ground, 0.15)
    scene = planned(after, before=(str(before),), model="building-change").scenes[0].scene
    assert scene.before_shift_px == pytest.approx((6, 0), abs=0.15)
    assert scene.select(("before_red",))[0].shift_px == (6, 0)
    assert scene.select(("before_red",))[0].resampling == "average"


def test_the_shift_stands_in_the_item(tmp_path: Path) -> None:
    before = write(tmp_path / "before.tif", np.roll(town(320), (2, 4), (1, 2)), 0.3, EARLIER)
    after = write(tmp_path / "after.tif", town(320), 0.3)
    result = go(after, out=tmp_path / "out", before=(str(before),), core=256, **OPTIONS | {"model": "building-change"})
    assert result.exit_code == 0
    item = json.loads(next((tmp_path / "out").glob("scenes/after/*/item.json")).read_bytes())
    assert item["properties"]["earthloom:before_shift_px"] == pytest.approx([2, 4], abs=0.1)
