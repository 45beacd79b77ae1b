"""Runs onto one grid: every CRS, every cut, the same bytes; products, areas and items lie on the grid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import zarr
from affine import Affine
from pyproj import Transformer

from earthloom.jobs.intake.grids import read_aoi
from tests.maps import go, published
from tests.scenes import write_scene

LON, LAT, SIDE_M = 12.05, 50.45, 4000
NAMES = ("green", "swir16")


def at(crs: str) -> tuple[float, float]:
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(LON, LAT)
    return float(x), float(y)


X, Y = at("EPSG:32633")
AREA = f"EPSG:32633,10m,{X - 3000:.0f},{Y - 3000:.0f},{X + 3000:.0f},{Y + 3000:.0f}"
GRID = read_aoi(AREA).grid(512)


def scene_in(folder: Path, name: str, crs: str, gsd: float, *, south_up: bool = False) -> Path:
    """A round lake of 1 km around one place on Earth, seen on some grid; land around it, nodata in a corner."""
    x, y = at(crs)
    width_m = SIDE_M / 111_320 if crs == "EPSG:4326" else SIDE_M
    side = round(width_m / gsd)
    transform = Affine(gsd, 0, x - width_m / 2, 0, -gsd, y + width_m / 2)
    if south_up:
        transform = Affine(gsd, 0, x - width_m / 2, 0, gsd, y - width_m / 2)
    cols, rows = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5)
    xs, ys = transform * (cols, rows)
    east, north = Transformer.from_crs(crs, "EPSG:32633", always_xy=True).transform(xs, ys)
    water = np.hypot(np.asarray(east) - X, np.asarray(north) - Y) < 1000
    pixels = np.stack([np.where(water, 3000, 1000), np.where(water, 500, 3000)]).astype(np.uint16)
    pixels[:, :30, :30] = 0
    return write_scene(folder / f"{name}.tif", pixels, NAMES, crs=crs, transform=transform, nodata=0)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scenes")
    return [
        scene_in(folder, "utm32", "EPSG:32632", 10),
        scene_in(folder, "utm33", "EPSG:32633", 10),
        scene_in(folder, "lonlat", "EPSG:4326", 0.0001),
        scene_in(folder, "southup", "EPSG:32632", 10, south_up=True),
        scene_in(folder, "fine", "EPSG:32632", 4),
    ]


@pytest.fixture(scope="module")
def out(scenes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert go(*scenes, out=out, onto=AREA).exit_code == 0
    return out


def result_of(out: Path, scene: str) -> Path:
    (folder,) = (out / "scenes" / scene).iterdir()
    return folder


def test_every_scene_is_mapped_on_the_one_grid(out: Path, scenes: list[Path]) -> None:
    maps = {}
    for scene in scenes:
        with rasterio.open(result_of(out, scene.stem) / "water-index.tif") as cog:
            assert (cog.crs.to_string(), cog.transform, cog.shape) == (GRID.crs, GRID.affine, GRID.shape)
            maps[scene.stem] = cog.read(1)
        layer = zarr.open_group(result_of(out, scene.stem) / "data.zarr", mode="r")["0/classes"]
        assert isinstance(layer, zarr.Array)
        assert layer.shape[-2:] == GRID.shape
    lake = np.hypot(*np.meshgrid(GRID.xs() - X, GRID.ys() - Y)) < 1000
    water = maps["utm33"][lake & (maps["utm33"] != 255)].max()
    for name, classes in maps.items():
        found = classes == water
        assert np.mean(found != lake) < 2e-4, f"{name}: the lake is where it is on Earth, to a pixel"
        assert (classes == 255).mean() > 0.8, "the grid beyond the scene has no data"


def test_areas_and_items_are_those_of_the_grid(out: Path, scenes: list[Path]) -> None:
    for scene in scenes:
        item: dict[str, Any] = json.loads((result_of(out, scene.stem) / "item.json").read_text())
        asset = next(asset for asset in item["assets"].values() if asset["href"].endswith("water-index.tif"))
        assert asset["proj:code"] == "EPSG:32633"
        assert asset["proj:shape"] == list(GRID.shape)
        assert asset["proj:transform"][:6] == list(GRID.transform)
        sources = [link["href"] for link in item["links"] if link["rel"] == "derived_from"]
        assert any(href.endswith(f"/{scene.name}") for href in sources)
        (left, bottom), (right, top) = at_lonlat(GRID.bounds)
        assert item["bbox"] == pytest.approx([left, bottom, right, top], abs=0.02)
    result = go(*scenes, out=out, onto=AREA)
    for name, scene_result in result.results.items():
        areas = {row["name"]: row["area_m2"] for row in scene_result.class_areas}
        assert areas["water"] == pytest.approx(np.pi * 1e6, rel=0.01), f"{name}: true square metres"


def at_lonlat(bounds: tuple[float, float, float, float]) -> tuple[tuple[float, float], tuple[float, float]]:
    move = Transformer.from_crs(GRID.crs, "EPSG:4326", always_xy=True).transform
    return move(bounds[0], bounds[1]), move(bounds[2], bounds[3])


def test_the_bytes_do_not_depend_on_the_block(out: Path, scenes: list[Path], tmp_path: Path) -> None:
    assert go(*scenes, out=tmp_path, onto=AREA, block=1024).exit_code == 0
    first, second = published(out), published(tmp_path)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_one_scene_on_two_grids_has_two_results_side_by_side(scenes: list[Path], tmp_path: Path) -> None:
    go(scenes[0], out=tmp_path, onto=AREA)
    go(scenes[0], out=tmp_path)
    go(scenes[0], out=tmp_path, onto=AREA.replace("10m", "20m"))
    assert len(list((tmp_path / "scenes" / "utm32").iterdir())) == 3
