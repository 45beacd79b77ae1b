"""Scenes onto a given grid, from reference to key: what is accepted, refused, told, and what the key holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from pyproj import Transformer

from earthloom.jobs.config import load
from earthloom.jobs.intake.grids import read_aoi
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.pairs import open_pairs
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, expand, open_all
from earthloom.jobs.planning.key import scene_key
from earthloom.jobs.planning.plan import RunPlan, plan
from earthloom.models.zoo.disaster import FLOOD
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.grid import Grid
from tests.maps import OPTIONS
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.usefixtures("own_cache")

SAYS = SceneOptions(scale=1e-4, quantity="reflectance")
CENTRE = (12.05, 50.45)
"""Between the zones 32 and 33."""


def at(crs: str, lon: float = CENTRE[0], lat: float = CENTRE[1]) -> tuple[float, float]:
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    return float(x), float(y)


def aoi_text(side_m: float = 5000, gsd: str = "10m") -> str:
    x, y = at("EPSG:32633")
    return f"EPSG:32633,{gsd},{x - side_m / 2:.0f},{y - side_m / 2:.0f},{x + side_m / 2:.0f},{y + side_m / 2:.0f}"


def make(
    path: Path, crs: str = "EPSG:32632", *, gsd: float = 10, side: int = 400, shift: float = 0, seed: int = 0,
    names: tuple[str, ...] = ("green", "swir16"), **options: Any,
) -> Path:  # fmt: skip
    x, y = at(crs)
    left, top = x - side * gsd / 2 + shift, y + side * gsd / 2
    if crs == "EPSG:32633":
        left, top = round(left / 10) * 10, round(top / 10) * 10
    transform = Affine(gsd, 0, left, 0, -gsd, top)
    return write_scene(path, landscape(side, side, len(names), seed), names, crs=crs, transform=transform, **options)


def grid(text: str | None = None) -> Grid:
    return read_aoi(text or aoi_text()).grid(512)


def opened(*scenes: Path | str, onto: Grid | None = None) -> list[OpenedScene | RefusedScene]:
    return open_all(expand([str(scene) for scene in scenes]), SAYS, onto=onto or grid())


def planned(*scenes: Path, out: Path, **options: Any) -> RunPlan:
    return plan(load({"scenes": tuple(map(str, scenes)), "out": str(out), **OPTIONS, **options}))


def test_scenes_of_every_crs_are_read_onto_one_grid(tmp_path: Path) -> None:
    scenes = [
        make(tmp_path / "a32.tif"),
        make(tmp_path / "b33.tif", "EPSG:32633"),
        make(tmp_path / "c.tif", "EPSG:4326", gsd=0.0001),
        make(tmp_path / "d20.tif", gsd=20, side=200),
        make(tmp_path / "e5.tif", gsd=5, side=800),
    ]
    made = opened(*scenes)
    assert all(isinstance(one, OpenedScene) for one in made)
    assert {one.scene.grid for one in made if isinstance(one, OpenedScene)} == {grid()}
    ways = [one.scene.bands[0].resampling for one in made if isinstance(one, OpenedScene)]
    assert ways == ["bilinear", "bilinear", "average", "bilinear", "average"]
    notes = ["; ".join(one.notes) for one in made if isinstance(one, OpenedScene)]
    assert "covers" in notes[0]
    assert "% of the grid; the rest is nodata" in notes[0]
    assert "pixels of d20 are 20 m and are interpolated to the grid's 10 m" in notes[3]
    assert "pixels of e5 are 5 m and are averaged to the grid's 10 m" in notes[4]


def test_a_scene_that_already_lies_on_the_grid_is_not_resampled(tmp_path: Path) -> None:
    aoi = grid()
    pixels = landscape(aoi.width, aoi.height, 2)
    (made,) = opened(write_scene(tmp_path / "s.tif", pixels, ("green", "nir"), crs=aoi.crs, transform=aoi.affine))
    assert isinstance(made, OpenedScene)
    assert [band.resampling for band in made.scene.bands] == [None, None]


def test_files_of_several_crss_are_one_scene_on_a_given_grid_and_the_refusal_names_one_that_works(
    tmp_path: Path,
) -> None:
    green = make(tmp_path / "g.tif", names=("green",))
    swir = make(tmp_path / "s.tif", "EPSG:32633", gsd=20, side=220, names=("swir16",))
    reference = f"green={green},swir16={swir}"
    (refused,) = open_all(expand([reference]), SAYS)
    assert isinstance(refused, RefusedScene)
    assert "several CRSs (g EPSG:32632, s EPSG:32633); name the grid that all are read onto, `onto=EPSG:32632,10," in (
        refused.message
    )
    remedy = refused.message.partition("`onto=")[2].partition("`")[0]
    (made,) = opened(reference, onto=read_aoi(remedy).grid(512))
    assert isinstance(made, OpenedScene)
    assert made.scene.grid.crs == "EPSG:32632"
    assert [band.resampling for band in made.scene.bands] == ["bilinear", "bilinear"]


def test_a_scene_elsewhere_is_refused_by_name_with_both_extents_and_stops_no_other(tmp_path: Path) -> None:
    near = make(tmp_path / "near.tif")
    far = make(tmp_path / "far.tif", shift=60_000)
    refused, made = opened(far, near)
    assert isinstance(made, OpenedScene)
    assert isinstance(refused, RefusedScene)
    assert refused.message.startswith("far: far covers 12.8")
    assert "and the grid of `onto` 11.9" in refused.message
    assert "they do not overlap" in refused.message


def test_pixels_so_fine_that_a_read_could_not_hold_them_are_refused_with_a_remedy(tmp_path: Path) -> None:
    (refused,) = opened(make(tmp_path / "drone.tif", gsd=0.25, side=300))
    assert isinstance(refused, RefusedScene)
    assert "pixels of 0.25 m, 4 bytes each in all bands, and the grid of `onto` of 10 m" in refused.message
    assert "a read would hold 40" in refused.message
    assert "MiB of it at once, more than 192; make it coarser first (gdalwarp -r average -tr 10 10)" in refused.message
    (coarser,) = opened(make(tmp_path / "plane.tif", gsd=0.5, side=300))
    assert isinstance(coarser, OpenedScene)


def test_a_pair_of_unlike_grids_is_read_onto_the_given_one(tmp_path: Path) -> None:
    names = ("green", "nir")
    late = make(tmp_path / "late.tif", names=names, date="2026:07:11 10:00:00")
    early = make(tmp_path / "early.tif", "EPSG:32633", gsd=5, side=900, names=names, seed=3, date="2026:07:01 10:00:00")
    scenes = opened(late)
    (made,) = open_pairs(scenes, [str(early)], SAYS, FLOOD, grid())
    assert isinstance(made, OpenedScene)
    assert made.scene.grid == grid()
    assert [(band.name, band.resampling) for band in made.scene.bands] == [
        ("green", "bilinear"), ("nir", "bilinear"), ("before_green", "average"), ("before_nir", "average"),
    ]  # fmt: skip


def test_the_same_scene_on_two_grids_has_two_keys(tmp_path: Path) -> None:
    scene = make(tmp_path / "s.tif", "EPSG:32633")
    own = planned(scene, out=tmp_path / "o").scenes[0]
    assert {band.resampling for band in own.chain.bands} == {None}
    first, again, coarser, wider = (
        planned(scene, out=tmp_path / "o", onto=onto).scenes[0].key
        for onto in (aoi_text(), aoi_text(4990), aoi_text(gsd="20m"), aoi_text(30_000))
    )
    assert first == again, "areas that touch the same shards are one grid"
    assert len({own.key, first, coarser, wider}) == 4


def test_how_a_band_is_resampled_is_in_the_key_of_what_is_resampled_and_in_no_other(tmp_path: Path) -> None:
    (made,) = planned(make(tmp_path / "s.tif"), out=tmp_path / "o", onto=aoi_text()).scenes

    def key(resampling: Any) -> str:
        bands = tuple(replace(band, resampling=resampling) for band in made.chain.bands)
        return scene_key(made.scene, bands, made.chain.stages, shard_px=512, device_class="cpu")

    assert len({key(way) for way in (None, "nearest", "bilinear", "average")}) == 4


def test_a_plan_tells_what_a_grid_costs_and_counts_its_shards(tmp_path: Path) -> None:
    made = planned(make(tmp_path / "s.tif"), out=tmp_path / "o", onto=aoi_text(3000), shard=1024, block=1024)
    (scene,) = made.scenes
    assert scene.grid.window.size_px == scene.n_blocks * 1024**2
    assert any(
        "times the area asked for, because it consists of whole shards of 1024 px" in text for _, text in made.notes
    )


def test_the_grid_of_a_run_comes_from_a_geojson_file_or_a_config_file(tmp_path: Path) -> None:
    lon, lat = CENTRE
    ring = [[lon, lat], [lon + 0.02, lat], [lon + 0.02, lat + 0.02], [lon, lat + 0.02], [lon, lat]]
    document = {
        "type": "Feature", "properties": {"crs": "EPSG:32633", "gsd": 10},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }  # fmt: skip
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps(document))
    scene = make(tmp_path / "s.tif")
    file = tmp_path / "run.toml"
    file.write_text(f'scenes = ["{scene}"]\nmodel = "water-index"\nout = "o"\nonto = "{area}"\n')
    assert load({}, file).onto == str(area)
    (made,) = planned(scene, out=tmp_path / "o", onto=str(area)).scenes
    assert (made.scene.grid.crs, made.scene.grid.transform[0]) == ("EPSG:32633", 10)
    left, _, right, _ = made.scene.grid.bounds
    assert left <= at("EPSG:32633", lon, lat)[0] < right
    with pytest.raises(ConfigError, match=r"there is no such file"):
        read_aoi(str(tmp_path / "nowhere.geojson"))
    area.write_bytes(b" " * (9 << 20))
    with pytest.raises(ConfigError, match="at most 8388608 bytes is read"):
        read_aoi(str(area))


def test_bands_of_several_sizes_and_a_quality_band_each_come_their_own_way(tmp_path: Path) -> None:
    qa = (np.indices((200, 200)).sum(axis=0) % 3).astype(np.uint8)[None]
    x, y = at("EPSG:32632")
    for name, gsd in (("green", 10.0), ("nir", 5.0), ("swir16", 20.0)):
        make(tmp_path / f"{name}.tif", gsd=gsd, side=int(4000 / gsd), names=(name,))
    write_scene(
        tmp_path / "scl.tif", qa, ("scl",), crs="EPSG:32632", transform=Affine(20, 0, x - 2000, 0, -20, y + 2000)
    )
    reference = ",".join(f"{name}={tmp_path}/{name}.tif" for name in ("green", "nir", "swir16", "scl"))
    (made,) = open_all(expand([reference]), SceneOptions(sensor="sentinel2-l2a"), onto=grid())
    assert isinstance(made, OpenedScene)
    ways = {band.name: band.resampling for band in made.scene.bands}
    assert ways == {"green": "bilinear", "nir": "average", "swir16": "bilinear", "scl": "nearest"}
