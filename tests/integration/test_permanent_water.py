"""One date and a map of permanent water: what is water now and not there is flooded, whatever grid the map lies on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize, shapes
from rasterio.warp import reproject

from earthloom.jobs.upkeep.verify import verify
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.vectors import pyogrio
from tests.maps import go, published
from tests.scenes import real, write_scene

DRY, FLOODED, PERMANENT, RECEDED = range(4)
NODATA = 255
OF_SCENE = Affine(10, 0, 300_000, 0, -10, 4_500_000)
SIDE = 600


def flood(scene: Path, water: Path, out: Path, **options: Any) -> Any:
    return go(scene, out=out, model="flood", permanent_water=str(water), **options)


def classes(out: Path, scene: str) -> NDArray[np.uint8]:
    (path,) = out.glob(f"scenes/{scene}/*/flood.tif")
    with rasterio.open(path) as dataset:
        made: NDArray[np.uint8] = dataset.read(1)
    return made


def expected(now: NDArray[np.bool_], always: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.select([now & ~always, now & always, ~now & always], [FLOODED, PERMANENT, RECEDED], DRY).astype(np.uint8)


@pytest.fixture(scope="module")
def wet() -> NDArray[np.bool_]:
    rows, cols = np.mgrid[:SIDE, :SIDE]
    return np.asarray(np.sin(rows / 31) + np.cos(cols / 47) > 0.6)


@pytest.fixture(scope="module")
def scene(wet: NDArray[np.bool_], tmp_path_factory: pytest.TempPathFactory) -> Path:
    green, swir = np.where(wet, 2500, 1500), np.where(wet, 300, 3000)
    pixels = np.stack([green, swir]).astype(np.uint16)
    folder = tmp_path_factory.mktemp("scene")
    return write_scene(folder / "bay.tif", pixels, ("green", "swir16"), transform=OF_SCENE)


def map_of(path: Path, pixels: NDArray[np.uint8], **where: Any) -> Path:
    return write_scene(path, pixels[None], **where)


def vectors(path: Path, geometries: list[Any], crs: str | None = None) -> Path:
    """A file of geometries of EPSG:32617, in that CRS or another one."""
    import geopandas

    pyogrio()
    frame = geopandas.GeoDataFrame(geometry=geometries, crs="EPSG:32617")
    (frame.to_crs(crs) if crs else frame).to_file(path)
    return path


def test_the_map_comes_onto_the_scene_by_nearest_neighbour_and_ends_where_it_ends(
    scene: Path, wet: NDArray[np.bool_], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.choice(np.array([0, 0, 1, 80, NODATA], np.uint8), size=(150, 210))
    where = {"crs": "EPSG:32617", "transform": Affine(28, 0, 299_900, 0, -28, 4_500_100), "nodata": NODATA}
    water = map_of(tmp_path / "water.tif", pixels, **where)
    assert flood(scene, water, tmp_path / "out").exit_code == 0
    at = np.full((SIDE, SIDE), NODATA, np.uint8)
    reproject(
        pixels, at, src_crs=where["crs"], src_transform=where["transform"], dst_crs=where["crs"],
        dst_transform=OF_SCENE, src_nodata=NODATA, dst_nodata=NODATA,
    )  # fmt: skip
    found = classes(tmp_path / "out", "bay")
    assert (at[-190:] == NODATA).all(), "the map ends above the scene's last rows"
    assert np.array_equal(found, np.where(at == NODATA, NODATA, expected(wet, at != 0)))
    assert not verify(ObjectRef.parse(str(tmp_path / "out"))).problems


def test_blocks_do_not_change_a_byte_and_the_maps_bytes_are_part_of_the_key(scene: Path, tmp_path: Path) -> None:
    there = np.zeros((SIDE, SIDE), np.uint8)
    there[:, :300] = 1
    water = map_of(tmp_path / "water.tif", there, transform=OF_SCENE)
    for name, block in (("small", 512), ("large", 1024)):
        assert flood(scene, water, tmp_path / name, block=block).exit_code == 0
    assert published(tmp_path / "small") == published(tmp_path / "large")
    map_of(water, 1 - there, transform=OF_SCENE)
    assert flood(scene, water, tmp_path / "small").exit_code == 0
    assert len(list(tmp_path.glob("small/scenes/bay/*/flood.tif"))) == 2


@pytest.mark.parametrize("kind", ["gpkg", "geojson"])
def test_polygons_of_any_crs_are_the_water_that_always_is(
    kind: str, scene: Path, wet: NDArray[np.bool_], tmp_path: Path
) -> None:
    """Against rasterio's own rasterising on the scene's grid, in blocks of two sizes."""
    lakes = [
        shapely.Point(302_000, 4_497_500).buffer(900), shapely.box(303_000, 4_495_000, 307_000, 4_496_000),
        shapely.Polygon([(300_000, 4_500_000), (301_000, 4_499_990), (300_500, 4_498_100)]),
    ]  # fmt: skip
    water = vectors(tmp_path / f"water.{kind}", lakes, None if kind == "gpkg" else "EPSG:4326")
    for name, block in (("small", 512), ("large", 1024)):
        assert flood(scene, water, tmp_path / name, block=block).exit_code == 0
    assert published(tmp_path / "small") == published(tmp_path / "large")
    always = rasterize(lakes, out_shape=(SIDE, SIDE), transform=OF_SCENE).astype(bool)
    differs = classes(tmp_path / "small", "bay") != expected(wet, always)
    assert differs.sum() <= (0 if kind == "gpkg" else 30), "edges that are straight in degrees are curves on the grid"
    assert not verify(ObjectRef.parse(str(tmp_path / "small"))).problems


def test_one_radar_image_and_polygons_tell_a_flood_from_a_lake(wet: NDArray[np.bool_], tmp_path: Path) -> None:
    speckle = np.random.default_rng(0).gamma(4, 1 / 4, wet.shape)
    power = (10 ** (np.where(wet, -20.0, -8.0) / 10) * speckle).astype(np.float32)
    image = write_scene(tmp_path / "radar.tif", power[None], ("vv",), transform=OF_SCENE)
    lake = shapely.box(300_000, 4_494_000, 303_000, 4_500_000)
    water, said = vectors(tmp_path / "lake.gpkg", [lake]), {"scale": None, "quantity": None}
    result = go(
        image, out=tmp_path / "out", model="flood-sar", permanent_water=str(water), sensor="sentinel1-grd", **said
    )
    assert result.exit_code == 0, result.scenes
    (path,) = tmp_path.glob("out/scenes/radar/*/flood-sar.tif")
    with rasterio.open(path) as dataset:
        found = dataset.read(1)
    always = rasterize([lake], out_shape=(SIDE, SIDE), transform=OF_SCENE).astype(bool)
    assert (found == expected(wet, always)).mean() > 0.98
    assert np.array_equal(np.isin(found, (PERMANENT, RECEDED)), always)


def test_polygons_that_lie_elsewhere_are_noted_and_what_is_none_is_refused(scene: Path, tmp_path: Path) -> None:
    far = vectors(tmp_path / "far.gpkg", [shapely.box(500_000, 4_000_000, 500_010, 4_000_010)])
    elsewhere = flood(scene, far, tmp_path / "out")
    assert elsewhere.exit_code == 0
    assert any("no area of far.gpkg lies in bay" in note for _, note in elsewhere.notes)
    river = shapely.LineString([(300_000, 4_497_000), (303_000, 4_497_000)])
    line = flood(scene, vectors(tmp_path / "line.gpkg", [river]), tmp_path / "out")
    assert line.exit_code == 2
    assert "line.gpkg holds LineString; areas of water are polygons" in str(line.scenes["bay"])


@pytest.mark.parametrize("text", ['{"features": 5}', '{"features": [null]}', '{"type": "FeatureCollection"}', '{"a"'])
def test_a_damaged_vector_file_is_refused_in_words(text: str, scene: Path, tmp_path: Path) -> None:
    (broken := tmp_path / "broken.geojson").write_text(text)
    try:
        result = flood(scene, broken, tmp_path / "out")
        said = str(result.scenes["bay"]) if result.exit_code == 2 else "mapped"
    except ConfigError as error:  # where it is not even JSON
        said = str(error)
    assert "broken.geojson" in said


def test_polygons_on_real_scenes_are_what_was_water_before(tmp_path: Path) -> None:
    now, before = (real(f"timeseries_landsat_pucallpa/{year}.tif") for year in (2020, 2015))

    def mndwi_sign(path: Path) -> NDArray[np.int16]:
        with rasterio.open(path) as dataset:
            swir, green = dataset.read([1, 4]).astype(np.int16)
        return np.asarray(np.sign(green - swir))

    was_wet, sign = mndwi_sign(before) > 0, mndwi_sign(now)
    with rasterio.open(before) as dataset:
        found = shapes(was_wet.astype(np.uint8), mask=was_wet, transform=dataset.transform)
    features = [{"type": "Feature", "properties": {}, "geometry": geometry} for geometry, _ in found]
    with rasterio.open(before) as dataset:
        crs = {"type": "name", "properties": {"name": str(dataset.crs)}}
    water = tmp_path / "water.geojson"
    water.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    said = {"bands": "swir16=1,nir=2,red=3,green=4", "scale": 1 / 255, "nodata_in": "all"}
    assert flood(now, water, tmp_path / "out", **said).exit_code == 0
    made = classes(tmp_path / "out", "2020")
    sure = sign != 0  # where the index is 0, land and water are as likely as each other
    assert sure.mean() > 0.99
    assert np.array_equal(made[sure], expected(sign > 0, was_wet)[sure])
    assert {DRY, FLOODED, PERMANENT, RECEDED} == set(np.unique(made).tolist())


def test_the_item_of_a_map_leads_to_the_map_of_permanent_water(scene: Path, tmp_path: Path) -> None:
    bands = [{"name": name, "eo:common_name": name} for name in ("green", "swir16")]
    document: dict[str, Any] = {
        "type": "Feature", "stac_version": "1.1.0", "id": "bay", "geometry": None, "links": [],
        "properties": {"datetime": "2026-07-01T10:00:00Z"},
        "assets": {"image": {"href": "./bay.tif", "type": "image/tiff", "roles": ["data"], "bands": bands}},
    }  # fmt: skip
    (tmp_path / "item.json").write_text(json.dumps(document))
    shutil.copy(scene, tmp_path / "bay.tif")
    water = map_of(tmp_path / "water.tif", np.ones((SIDE, SIDE), np.uint8), transform=OF_SCENE)
    assert flood(tmp_path / "item.json", water, tmp_path / "out").exit_code == 0
    (item,) = tmp_path.glob("out/scenes/bay/*/item.json")
    sources = [link["title"] for link in json.loads(item.read_text())["links"] if link["rel"] == "derived_from"]
    assert sources[:2] == ["Source scene bay", "Permanent water water.tif"]


def test_what_cannot_be_used_is_said(scene: Path, tmp_path: Path) -> None:
    far = map_of(tmp_path / "far.tif", np.ones((50, 50), np.uint8), transform=Affine(10, 0, 700_000, 0, -10, 4_500_000))
    result = flood(scene, far, tmp_path / "out")
    assert result.exit_code == 2
    assert "they do not overlap; give a map of the same ground" in str(result.scenes["bay"])
    with pytest.raises(ConfigError, match="for `model=flood` and `model=flood-sar`; water-index does not look"):
        go(scene, out=tmp_path / "out", permanent_water=str(far))
    with pytest.raises(ConfigError, match=r"none\.tif"):
        flood(scene, tmp_path / "none.tif", tmp_path / "out")
    with pytest.raises(ConfigError, match="only one was given"):
        go(scene, out=tmp_path / "out", model="flood")
