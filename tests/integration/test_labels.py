"""Labels by the whole road: from a GeoTIFF to a coarse map and a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate
from shapely.geometry import box

import earthloom
from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.planning.plan import plan
from earthloom.jobs.planning.shape import result_sides
from earthloom.jobs.upkeep.verify import verify
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from tests.integration.recognised import SIDE_PX, go, model_of, write_bay
from tests.jobs.products.stac_validate import validate
from tests.maps import SMALL


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with model_of("kinds", tmp_path_factory.mktemp("model") / "kinds") as folder:
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


def test_labels_are_published_as_a_coarse_map_and_a_table(undisturbed: tuple[Path, RunResult], scene: Path) -> None:
    out, result = undisturbed
    folder = out / result.results["bay"].prefix
    with rasterio.open(scene) as source, rasterio.open(folder / "kinds.tif") as cog:
        classes = cog.read(1)
        assert classes.shape == (22, 35)
        assert cog.transform == source.transform * source.transform.scale(SIDE_PX)
        assert cog.crs == source.crs
        assert cog.overviews(1) == [2, 4]
    assert set(np.unique(classes)) == {0, 1, 2, 255}
    valid = np.zeros((22 * SIDE_PX, 35 * SIDE_PX), np.int64)
    valid[:700, :1100] = 1
    valid[100:180, 300:460] = 0
    share = valid.reshape(22, SIDE_PX, 35, SIDE_PX).mean((1, 3))
    assert ((classes != 255) == (share >= 0.5)).all(), "half of a core must have data"
    assert (share[classes == 255] > 0).any()
    for name in ("kinds.tif", "kinds-confidence.tif"):
        assert cog_validate(folder / name, strict=True, quiet=True) == (True, [], [])
    table = geopandas.read_parquet(folder / "kinds.parquet")
    assert len(table) == (classes != 255).sum()
    assert list(zip(table["row"], table["col"], strict=True)) == [
        tuple(at) for at in np.argwhere(classes != 255).tolist()
    ]
    probabilities = table[[f"probability_class_{value}" for value in range(3)]].to_numpy()
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=2e-4)
    assert (table["probability"] == probabilities.max(axis=1)).all()
    assert (table["class"] == [f"class_{value}" for value in classes[table["row"], table["col"]]]).all()
    assert table.crs == "OGC:CRS84"
    with rasterio.open(folder / "kinds.tif") as cog:
        here = table.to_crs(cog.crs).geometry
        for place, row, col in zip(here.iloc[::90], table["row"][::90], table["col"][::90], strict=True):
            assert place.symmetric_difference(box(*cog.window_bounds(((row, row + 1), (col, col + 1))))).area < 10
    with rasterio.open(folder / "kinds-confidence.tif") as cog:
        stored = cog.read(1)[table["row"], table["col"]]
    assert stored == pytest.approx(250 * table["probability"].to_numpy(), abs=0.52)
    item = pystac.Item.from_file(str(folder / "item.json"))
    validate(item.to_dict(include_self_link=False, transform_hrefs=False))
    assert item.assets["chips"].media_type == "application/vnd.apache.parquet"
    areas = json.loads((folder / "result.json").read_bytes())["class_areas"]
    assert [row["pixels"] for row in areas] == [int((classes == value).sum()) for value in range(3)]
    assert verify(ObjectRef.parse(str(out))).exit_code == 0
    opened = earthloom.open(str(out), "kinds", scene="bay")
    assert (opened.classes.to_numpy() == classes).all()


def test_a_map_restricts_labels_to_one_of_its_classes(
    undisturbed: tuple[Path, RunResult], model: Path, scene: Path, tmp_path: Path
) -> None:
    maps = go(scene, tmp_path / "maps", "water-index")
    chain = go(scene, tmp_path / "chain", model, "water-index@water")
    assert (maps.exit_code, chain.exit_code) == (0, 0), chain.scenes
    with rasterio.open(tmp_path / "maps" / maps.results["bay"].prefix / "water-index.tif") as cog:
        is_water = np.zeros((22 * SIDE_PX, 35 * SIDE_PX))
        is_water[:700, :1100] = cog.read(1) == next(
            each["value"] for each in maps.results["bay"].class_areas if each["name"] == "water"
        )
    found = []
    for out, result, name in ((*undisturbed, "kinds"), (tmp_path / "chain", chain, "kinds-water-index-water")):
        with rasterio.open(out / result.results["bay"].prefix / f"{name}.tif") as cog:
            found.append(cog.read(1))
    share = is_water.reshape(22, SIDE_PX, 35, SIDE_PX).mean((1, 3))
    assert 0 < (found[1] != 255).sum() < (found[0] != 255).sum()
    assert (found[1] == np.where(share >= 0.5, found[0], 255)).all()


def test_what_labels_cannot_do_is_said(model: Path, scene: Path, tmp_path: Path) -> None:
    for options, words in (
        ({"core": 64}, "labels squares of 32 px"),
        ({"keep": ("denoise",)}, "one pixel for each chip"),
    ):
        with pytest.raises(ConfigError, match=words):
            go(scene, tmp_path, "denoise", model, **options)
    with pytest.raises(ConfigError, match="'ice' is none of the classes of water-index"):
        go(scene, tmp_path, model, "water-index@ice")
    with pytest.raises(ConfigError, match="only a map of classes says where"):
        go(scene, tmp_path, "water-index", f"{model}@class_0")


def test_blocks_and_shards_of_labels_cover_the_ground_of_others() -> None:
    assert result_sides(2048, 2048, 1) == (2048, 2048)
    assert result_sides(2048, 2048, 64) == (32, 32)
    assert result_sides(4096, 2048, 64) == (64, 32)
    assert result_sides(2048, 2048, 48) == (32, 32), "a shard is made of whole tiles of 16"
    assert result_sides(2048, 2048, 512) == (16, 16), "and never smaller"
    assert result_sides(4096, 4096, 4) == (1024, 1024)


def test_memory_is_planned_for_the_ground_that_a_block_reads(model: Path, scene: Path, tmp_path: Path) -> None:
    made = plan(load({"scenes": (str(scene),), "model": (str(model),), "out": str(tmp_path), **SMALL}))
    (planned,) = made.scenes
    assert (planned.block_px, planned.shard_px, planned.n_blocks) == (16, 16, 6)
    assert planned.n_chips == 22 * 35
    assert planned.owned(next(planned.blocks()).core).shape == (512, 512)
    assert planned.memory.blocks_bytes > 512 * 512 * 2 * 2
    notes = [text for _, text in made.notes if "undecided" in text]
    assert notes == [
        "kinds leaves 22 of 770 chips undecided at the right and lower edge, where less than 50% of their 32 x 32 px lies in "
        "the scene"
    ]
