"""Objects by the whole road: from a GeoTIFF to tables on a map."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import geopandas
import numpy as np
import pyarrow.parquet
import pystac
import pytest
import rasterio
from PIL import Image
from pyproj import Geod
from rio_cogeo.cogeo import cog_validate
from scipy import ndimage
from shapely.geometry import box

from earthloom.jobs.command import cli
from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.learning.coco import export_coco, parse_coco
from earthloom.jobs.upkeep.verify import verify
from earthloom.models.cards.file import write_card
from earthloom.models.zoo.rules import WATER_INDEX
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.vectors import pyogrio
from tests.integration.recognised import RULE, go, model_of, write_bay
from tests.jobs.products.stac_validate import validate
from tests.maps import go_until_commit, published
from tests.scenes import landscape, write_scene


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with model_of("finder", tmp_path_factory.mktemp("model") / "finder") as folder:
        yield folder


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bay(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def undisturbed(model: Path, scene: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    out = tmp_path_factory.mktemp("undisturbed")
    result = go(scene, out, model)
    assert result.exit_code == 0, result.scenes
    return out, result


def test_objects_are_published_as_tables_a_map_and_counts(undisturbed: tuple[Path, RunResult], scene: Path) -> None:
    out, result = undisturbed
    folder = out / result.results["bay"].prefix
    table = geopandas.read_parquet(folder / "finder.parquet")
    assert len(table) > 100
    assert table.crs == "OGC:CRS84"
    assert set(table["class"]) == {"class_0", "class_1"}
    assert table["score"].between(0.9, 1).all()
    assert (table[["row", "col"]].to_numpy() < (700, 1100)).all()
    assert not ((table["row"].between(100, 179)) & (table["col"].between(300, 459))).any(), "nothing lies in nodata"
    assert (
        table["shard"] == [f"{row // 512}_{col // 512}" for row, col in zip(table["row"], table["col"], strict=True)]
    ).all()
    geod = Geod(ellps="WGS84")
    for each in table.head(20).itertuples():
        area, _ = geod.geometry_area_perimeter(each.geometry)
        assert area == pytest.approx(each.area_m2, rel=1e-3), "counter-clockwise, as RFC 7946 wants it"
        assert each.length_m * each.width_m == pytest.approx(each.area_m2, rel=1e-2)
    with rasterio.open(scene) as source:
        here = table.to_crs(source.crs).geometry
        for place, each in zip(here.head(20), table.head(20).itertuples(), strict=True):
            assert (
                place.distance(box(*source.window_bounds(((each.row, each.row + 1), (each.col, each.col + 1))))) < 100
            )
    described = json.loads(pyarrow.parquet.read_schema(folder / "finder.parquet").metadata[b"geo"])
    assert described["version"] == "1.1.0"
    assert described["columns"]["geometry"]["covering"]["bbox"]
    features = pyogrio().read_dataframe(folder / "finder.fgb")
    assert len(features) == len(table)
    assert features.geometry.union_all().equals(table.geometry.union_all())
    assert cog_validate(folder / "finder-heat.tif", strict=True, quiet=True) == (True, [], [])
    with rasterio.open(folder / "finder-heat.tif") as cog:
        heat = cog.read(1)
        assert (heat[table["row"], table["col"]] == np.round(table["score"] * 250)).mean() > 0.5
        assert (heat[100:180, 300:460] == 255).all()
    item = pystac.Item.from_file(str(folder / "item.json"))
    validate(item.to_dict(include_self_link=False, transform_hrefs=False))
    counts = table["class"].value_counts().to_dict()
    assert item.properties["earthloom:objects"] == counts
    assert json.loads((folder / "result.json").read_bytes())["objects"] == counts
    assert item.assets["objects"].media_type == "application/vnd.apache.parquet"
    assert verify(ObjectRef.parse(str(out))).exit_code == 0
    with Image.open(io.BytesIO((folder / "quicklook.png").read_bytes())) as picture:
        assert picture.width > 500
        drawn = np.asarray(picture.convert("RGB"))[88 : 88 + 350, 28 : 28 + 550]  # every second pixel
    with rasterio.open(scene) as source:
        green = source.read(1)[::2, ::2]
    seen = (drawn[..., 0] > 0) & (green > 0)  # between hundreds of black boxes
    assert np.corrcoef(drawn[seen][:, 0], green[seen])[0, 1] > 0.9
    assert (drawn[62:78, 170:210] > 210).all(), "no data is hatched"


def test_published_objects_are_exported_as_coco_reads_them(undisturbed: tuple[Path, RunResult], tmp_path: Path) -> None:
    from hotcoco import COCO

    out, result = undisturbed
    asked = ["export", str(out), "--product", "finder", "--output", str(tmp_path / "found.json")]
    assert cli.main(asked, standalone_mode=False) is None
    document = json.loads((tmp_path / "found.json").read_text())
    assert document == export_coco(out, "finder") == export_coco(out, "finder", "bay")
    with pytest.raises(ConfigError, match="leave --crs out"):
        cli.main([*asked, "--crs", "EPSG:3857"], standalone_mode=False)
    with pytest.raises(ConfigError, match=r"holds objects and no map; they lie there as \.fgb and \.parquet"):
        cli.main([*asked[:-1], str(tmp_path / "found.gpkg")], standalone_mode=False)
    with pytest.raises(ConfigError, match="no scene 'cove' of 'finder'"):
        export_coco(out, "finder", "cove")
    (read,) = parse_coco(document, "found.json", ("class_0", "class_1"))
    table = geopandas.read_parquet(out / result.results["bay"].prefix / "finder.parquet")
    assert read.boxes == pytest.approx(table[["left_px", "top_px", "width_px", "height_px"]].to_numpy())
    assert COCO(str(tmp_path / "found.json")).get_cat_ids() == [1, 2]
    assert document["images"] == [{"id": 1, "file_name": "bay", "width": 1100, "height": 700}]


def test_damaged_rows_are_noticed_and_computed_again(
    undisturbed: tuple[Path, RunResult], model: Path, scene: Path, tmp_path: Path
) -> None:
    (begun,) = go_until_commit(scene, out=tmp_path, model=(model,))
    tiles = sorted(begun.glob("blocks/*.tiles"))[0]
    data = bytearray(tiles.read_bytes())
    data[-1] ^= 1
    tiles.write_bytes(data)
    broken = go(scene, tmp_path, model)
    assert broken.exit_code == 1
    assert "the rows of objects are not those that were written" in str(broken.scenes["bay"])
    assert go(scene, tmp_path, model).exit_code == 0
    assert published(tmp_path) == published(undisturbed[0])


def test_a_scene_without_objects_has_empty_tables(model: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "void.tif", np.full((2, 90, 70), 2500, np.uint16), ("green", "swir16"))
    with mock.patch("earthloom.models.inference.objects._peaks", side_effect=lambda *_: (_none(), _none())):
        result = go(scene, tmp_path / "out", model)
    folder = tmp_path / "out" / result.results["void"].prefix
    assert len(geopandas.read_parquet(folder / "finder.parquet")) == 0
    assert len(pyogrio().read_dataframe(folder / "finder.fgb")) == 0
    assert json.loads((folder / "item.json").read_bytes())["properties"]["earthloom:objects"] == {
        "class_0": 0,
        "class_1": 0,
    }


def _none() -> Any:
    import torch

    return torch.zeros(0, dtype=torch.long)


def test_a_mask_after_it_leaves_only_objects_near_water(
    undisturbed: tuple[Path, RunResult], model: Path, scene: Path, tmp_path: Path
) -> None:
    water = replace(WATER_INDEX[0], name="onwater", masks=(0,))
    write_card(tmp_path / "onwater", water)
    maps, chain = (
        go(scene, tmp_path / name, *each)
        for name, each in (("maps", [tmp_path / "onwater"]), ("chain", [model, tmp_path / "onwater"]))
    )
    assert (maps.exit_code, chain.exit_code) == (0, 0), chain.scenes
    with rasterio.open(tmp_path / "maps" / maps.results["bay"].prefix / "onwater.tif") as cog:
        is_near = ndimage.maximum_filter(cog.read(1) == 1, 2 * RULE.near_px + 1, mode="constant")
    unmasked = geopandas.read_parquet(undisturbed[0] / undisturbed[1].results["bay"].prefix / "finder.parquet")
    folder = tmp_path / "chain" / chain.results["bay"].prefix
    masked = geopandas.read_parquet(folder / "finder-onwater.parquet")
    places = [set(zip(table["row"], table["col"], table["class"], strict=True)) for table in (unmasked, masked)]
    near_water = {place for place in places[0] if is_near[place[:2]]}
    assert 0 < len(near_water) < len(places[0])
    assert near_water <= places[1], "what a merged box on land had taken may come back, and nothing is lost"
    assert all(is_near[place[:2]] for place in places[1])


def test_an_image_before_it_gives_the_same_objects_for_every_block(model: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "bay.tif", landscape(800, 300, 2), ("green", "swir16"))
    outs = []
    for block in (512, 1024):
        result = go(scene, tmp_path / str(block), "denoise", model, block=block)
        assert result.exit_code == 0, result.scenes
        outs.append(published(tmp_path / str(block)))
    assert outs[0] == outs[1]
    assert (
        len(
            geopandas.read_parquet(
                io.BytesIO(next(data for name, data in outs[0].items() if name.endswith(".parquet")))
            )
        )
        > 50
    )


def test_objects_of_mirror_images_averaged_are_the_same_for_every_block(
    model: Path, scene: Path, undisturbed: tuple[Path, RunResult], tmp_path: Path
) -> None:
    results = [go(scene, tmp_path / str(block), model, flips=True, block=block) for block in (512, 2048)]
    assert [result.exit_code for result in results] == [0, 0], results[0].scenes
    assert published(tmp_path / "512") == published(tmp_path / "2048")
    assert results[0].results["bay"].prefix != undisturbed[1].results["bay"].prefix, "they are other objects"
