"""Learned change over time: each scene is compared with the composite of the year before, by the AOI file alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

import earthloom
from earthloom.jobs.monitoring.pairs import has_failures
from tests.scenes import landscape, write_scene

GSD, LEFT, TOP, SIDE = 10, 60 * 5120, 880 * 5120, 512
DATES = ("2019-07-01", "2020-06-20", "2020-08-01", "2021-07-01")
SAID = {"bands": "swir22=1,nir=2", "scale": 1e-4, "quantity": "reflectance", "precision": "fp32", "device": "cpu",
        "shard": 512, "block": 512, "date_pattern": "scene_%Y-%m-%d"}  # fmt: skip

FILE = """
name = "forest"
onto = "EPSG:32617,10m,{left},{bottom},{right},{top}"
shard = 512
[[product]]
model = "bands"
scenes = ["{scenes}"]
composites = [{{ every = "year", rule = "best" }}]
options = {options}
[[product]]
model = "burn-severity"
scenes = ["{scenes}"]
before = {{ product = "bands", every = "year", rule = "best" }}
options = {options}
"""


def forest(year: int, seed: int) -> NDArray[np.uint16]:
    """(swir22, nir): a wood of which a square burns in 2020, with a corner that was never seen."""
    pixels = landscape(SIDE, SIDE, 2, seed)[:, :, :] // 8 + np.array([800, 3500], np.uint16)[:, None, None]
    if year >= 2020:
        pixels[:, 100:300, 150:400] = pixels[::-1, 100:300, 150:400]
    pixels[:, :20, :30] = 0
    return pixels.astype(np.uint16)


def written(folder: Path, date: str, pixels: NDArray[np.uint16]) -> Path:
    return write_scene(folder / f"scenes/scene_{date}.tif", pixels, nodata=0, date=None,
                       transform=Affine(GSD, 0, LEFT, 0, -GSD, TOP))  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forest")
    for seed, date in enumerate(DATES):
        written(folder, date, forest(int(date[:4]), seed))
    options = "{ " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in SAID.items()) + " }"
    corners = {"left": LEFT, "top": TOP, "right": LEFT + SIDE * GSD, "bottom": TOP - SIDE * GSD}
    (folder / "forest.toml").write_text(FILE.format(scenes=folder / "scenes/*.tif", options=options, **corners))
    return folder


def monitor(folder: Path) -> dict[str, Any]:
    result = earthloom.monitor(folder / "forest.toml", out=folder / "out", executor="local")
    assert result.exit_code == 0, [one.errors for one in result.products]
    return {one.product: one for one in result.products}


@pytest.fixture(scope="module")
def first(folder: Path) -> dict[str, Any]:
    return monitor(folder)


def classes(folder: Path, one: Any, scene: str) -> NDArray[np.uint8]:
    with rasterio.open(folder / "out" / one.run.results[scene].prefix / "burn-severity.tif") as dataset:
        return np.asarray(dataset.read(1))


def test_each_scene_is_compared_with_the_year_before_and_the_first_with_nothing(
    folder: Path, first: dict[str, Any]
) -> None:
    bands, burn = first["bands"], first["burn-severity"]
    assert len(bands.update.cube.steps) == 4
    assert [str(step.date) for step in burn.update.cube.steps] == list(DATES[1:])
    assert burn.run.exit_code == 3
    assert not has_failures(burn.run)
    assert burn.notes[-1].startswith("scene_2019-07-01: no composite of bands (best, year) ends before")
    for scene, year in (("scene_2020-06-20", 2019), ("scene_2020-08-01", 2019), ("scene_2021-07-01", 2020)):
        item = json.loads((folder / "out" / burn.run.results[scene].prefix / "item.json").read_text())
        links = [link["href"] for link in item["links"] if link["rel"] == "derived_from"]
        (composite,) = [href for href in links if "/composites/" in href]
        assert f"/monitors/forest/bands/{bands.prefix.rpartition('/')[2]}/composites/best-year/{year}/" in composite
        assert Path(composite.removeprefix("file://")).is_file()


def test_the_map_is_that_of_a_pair_named_by_hand(folder: Path, first: dict[str, Any]) -> None:
    options = {**SAID, "executor": "local"}
    scene, earlier = (str(folder / f"scenes/scene_{date}.tif") for date in ("2020-08-01", "2019-07-01"))
    by_hand = earthloom.run(scene, before=earlier, model="burn-severity", out=folder / "by-hand", **options)
    with rasterio.open(
        folder / "by-hand" / by_hand.results["scene_2020-08-01"].prefix / "burn-severity.tif"
    ) as dataset:
        expected = dataset.read(1)
    made = classes(folder, first["burn-severity"], "scene_2020-08-01")
    assert np.array_equal(made, expected)
    assert (made[110:290, 160:390] == 6).all()  # high severity
    assert (made[:20, :30] == 255).all()


def test_bands_are_published_as_they_are_and_say_what_they_are(folder: Path, first: dict[str, Any]) -> None:
    one = first["bands"].run.results["scene_2021-07-01"]
    with rasterio.open(folder / "out" / one.prefix / "bands.tif") as made:
        assert made.descriptions == ("swir22", "nir")
        assert made.scales == (1e-4, 1e-4)
        assert np.array_equal(made.read(), forest(2021, 3))
    item = json.loads((folder / "out" / one.prefix / "item.json").read_text())
    assert {band["earthloom:quantity"] for band in item["assets"]["image"]["bands"]} == {"reflectance"}


@pytest.mark.long
def test_again_nothing_is_mapped_and_a_new_composite_maps_what_was_compared_with_the_old_one(
    folder: Path, first: dict[str, Any]
) -> None:
    again = monitor(folder)
    assert {one.status for one in again.values()} == {"up to date"}
    assert sorted(p.status for p in again["burn-severity"].run.scenes.values()) == ["already published"] * 3 + [
        "refused"
    ]
    written(folder, "2020-07-01", forest(2019, 9))  # nearer to the middle of 2020, and before the fire
    late = monitor(folder)["burn-severity"]
    statuses = {name: progress.status for name, progress in late.run.scenes.items()}
    assert statuses == {
        "scene_2019-07-01": "refused", "scene_2020-07-01": "published", "scene_2020-06-20": "already published",
        "scene_2020-08-01": "already published", "scene_2021-07-01": "published",
    }  # fmt: skip
    assert [str(step.date) for step in late.update.cube.steps] == [DATES[1], "2020-07-01", *DATES[2:]]
    step = next(step for step in late.update.cube.steps if str(step.date) == "2021-07-01")
    assert step.scenes == (late.run.results["scene_2021-07-01"].prefix,)
    assert (classes(folder, late, "scene_2021-07-01")[110:290, 160:390] == 6).all()
    assert not (classes(folder, first["burn-severity"], "scene_2021-07-01")[110:290, 160:390] == 6).any()


def test_a_product_that_the_area_does_not_watch_is_told(folder: Path) -> None:
    text = (folder / "forest.toml").read_text().replace('product = "bands", every', 'product = "bars", every')
    (folder / "wrong.toml").write_text(text)
    result = earthloom.monitor(folder / "wrong.toml", out=folder / "wrong", executor="local")
    assert result.exit_code == 3
    (error,) = result.products[1].errors[:1]
    assert error == ("mapping scenes", "ConfigError", "before: the area has no cube of 'bars'; it has bands")
