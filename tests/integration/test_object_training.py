"""`earthloom train` of a detector: from marked boxes to a card that finds such objects, judged by what `run` publishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry import box, mapping

import earthloom
from earthloom.jobs.learning.boxes import box_source
from earthloom.jobs.learning.config import check_training
from earthloom.jobs.learning.detection_scores import Boxes, average_precision, counted
from earthloom.jobs.learning.labels import IGNORE, LabelClass, LabelOptions
from earthloom.jobs.learning.train import Trained
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.window import Window
from tests.jobs.learning.meadows import ORIGIN, tables
from tests.scenes import write_scene

pytestmark = pytest.mark.usefixtures("unmeasured_memory")

RUN: dict[str, Any] = {
    "executor": "local", "shard": 512, "block": 512, "scale": 1e-4, "quantity": "reflectance", "bands": "red=1,green=2,nir=3",
}  # fmt: skip


def harbour(folder: Path, name: str, seed: int, at_px: int) -> list[list[float]]:
    """192 x 160 px of dark ground with bright boats, which do not touch; returns their boxes."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(400, 900, (3, 160, 192)).astype(np.uint16)
    boxes: list[list[float]] = []
    while len(boxes) < 20:
        width, height = (int(side) for side in rng.integers(6, 13, 2))
        col, row = int(rng.integers(0, 192 - width)), int(rng.integers(0, 160 - height))
        if all(abs(col - x) > 16 or abs(row - y) > 16 for x, y, _, _ in boxes):
            boxes.append([col, row, width, height])
            pixels[:, row : row + height, col : col + width] += 3000
    transform = Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1] - 10 * at_px)
    write_scene(folder / f"{name}.tif", pixels, transform=transform, nodata=0)
    features = [
        {"type": "Feature", "properties": {"kind": "boat"},
         "geometry": mapping(box(*(transform * (x, y)), *(transform * (x + w, y + h))))}
        for x, y, w, h in boxes
    ]  # fmt: skip
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32617"}}
    document = {"type": "FeatureCollection", "crs": crs, "features": features}
    (folder / f"{name}.geojson").write_text(json.dumps(document))
    return boxes


def coco(pictures: dict[str, list[list[float]]]) -> dict[str, Any]:
    return {
        "images": [{"id": number, "file_name": f"{name}.tif"} for number, name in enumerate(pictures)],
        "categories": [{"id": 7, "name": "boat"}],
        "annotations": [
            {"id": 100 * number + place, "image_id": number, "category_id": 7, "bbox": each}
            for number, boxes in enumerate(pictures.values()) for place, each in enumerate(boxes)
        ],
    }  # fmt: skip


def laid_out(folder: Path) -> tuple[dict[str, Any], dict[str, list[list[float]]]]:
    boxes = {name: harbour(folder, name, seed, 3000 * seed) for seed, name in enumerate(("west", "mid", "east"))}
    (folder / "boats.json").write_text(json.dumps(coco(boxes)))
    values = tables(
        folder, *boxes, name="boats", split={"by": "scene", "validation": ["mid"], "test": ["east"]},
        objects={"size_px": 9.0}, labels={"classes": [{"value": 0, "name": "boat"}]},
        schedule={"steps": 60, "batch": 4, "validate_steps": 30, "balance": 1.0, "rate": 2e-2},
        model={"crop_px": 48},
    )  # fmt: skip
    for table in values["scenes"]:
        table["labels"] = str(folder / "boats.json")
    values["split"].pop("block_px")
    return values, boxes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Trained, list[list[float]]]:
    folder = tmp_path_factory.mktemp("boats")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("earthloom.models.measuring.measure._bytes_per_px", lambda *_: 300.0)
        values, boxes = laid_out(folder)
        return values, earthloom.train(values), boxes["east"]


def test_what_judged_it_is_what_a_run_publishes(
    made: tuple[dict[str, Any], Trained, list[list[float]]], tmp_path: Path
) -> None:
    values, trained, true = made
    scores = trained.record["seeds"][0]["test"]["scores"]
    assert scores["recall_boat"] > 0.7
    assert scores["precision_boat"] > 0.7
    east = values["scenes"][2]["scene"]
    result = earthloom.run(east, model=trained.out, out=tmp_path, precision="fp32", **RUN)
    table = geopandas.read_parquet(tmp_path / result.results["east"].prefix / "boats.parquet")
    left, top = table["left_px"].to_numpy(), table["top_px"].to_numpy()
    edges = np.stack([left, top, left + table["width_px"], top + table["height_px"]], axis=1)
    none = np.zeros(len(table), np.int64)
    wanted = np.array(true, np.float64)
    wanted[:, 2:] += wanted[:, :2]
    found = Boxes(edges=edges, classes=none, areas=np.zeros(len(table)), scores=table["score"].to_numpy())
    truth = Boxes(edges=wanted, classes=np.zeros(len(true), np.int64), areas=np.zeros(len(true)))
    at = counted([(found, truth)], 0, least_score=0.0)
    assert (round(at.precision, 4), round(at.recall, 4)) == (scores["precision_boat"], scores["recall_boat"])
    assert average_precision([(found, truth)], 0)[0] <= scores["ap50"] + 0.01, "less sure ones count for it too"


def test_its_card_is_exact_and_its_record_says_what_was_judged(
    made: tuple[dict[str, Any], Trained, list[list[float]]],
) -> None:
    values, trained, true = made
    assert trained.card.objects is not None
    assert trained.card.objects.size_px == 9
    assert trained.record["tiling"]["tiled_is_whole"]["identical"]
    (seed,) = trained.record["seeds"]
    assert seed["test"]["objects"] == len(true)
    assert [look["step"] for look in seed["validation"]["looks"]] == [30, 60]
    assert dict(trained.card.scores) == seed["test"]["scores"]
    assert earthloom.train(values).was_there


def test_boxes_of_vectors_and_of_coco_are_the_same(tmp_path: Path) -> None:
    boxes = harbour(tmp_path, "port", 3, 0)
    (tmp_path / "port.json").write_text(json.dumps(coco({"port": boxes, "other": []})))
    options = LabelOptions(classes=(LabelClass(value=0, name="boat"),))
    named = LabelOptions(classes=options.classes, class_column="kind")
    grid = Grid(crs="EPSG:32617", transform=(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]), width=192, height=160)
    listed = box_source(str(tmp_path / "port.json"), options, "port", grid)
    drawn = box_source(str(tmp_path / "port.geojson"), named, "port", grid)
    np.testing.assert_allclose(listed.marked(grid).boxes, np.array(boxes))
    np.testing.assert_allclose(drawn.marked(grid).boxes, np.array(boxes), atol=0.01)
    labels = listed.read(grid, grid.window)
    assert (labels == drawn.read(grid, grid.window)).mean() > 0.99
    assert (labels == 0).sum() == sum(w * h for _, _, w, h in boxes)
    with pytest.raises(SceneError, match=r"has 0 pictures called lake; it has port.tif, other.tif"):
        box_source(str(tmp_path / "port.json"), options, "lake", grid)
    with pytest.raises(ConfigError, match="is a raster; objects are boxes"):
        box_source(str(tmp_path / "port.tif"), options, "port", grid)


OWN = Grid(crs="EPSG:32617", transform=(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]), width=192, height=160)


@pytest.mark.parametrize(
    "grid",
    [
        OWN.refine(2), OWN.rescale(0.7), OWN.crop(Window(37, 21, 120, 90)),
        Grid(crs="EPSG:32616", transform=(10, 0, 807_300, 0, -10, 4_503_800), width=240, height=200),
    ],
    ids=["finer", "rescaled", "a part", "another CRS"],
)  # fmt: skip
def test_boxes_of_coco_lie_on_the_ground_that_they_were_drawn_on_whatever_grid_it_is_read_onto(
    grid: Grid, tmp_path: Path
) -> None:
    document = coco({"port": harbour(tmp_path, "port", 3, 0)})
    document["annotations"].append(document["annotations"][0] | {"bbox": [60, 40, 60, 50], "iscrowd": 1})
    (tmp_path / "port.json").write_text(json.dumps(document))
    options = LabelOptions(classes=(LabelClass(value=0, name="boat"),))
    listed = box_source(str(tmp_path / "port.json"), options, "port", OWN)
    drawn = box_source(str(tmp_path / "port.geojson"), options.model_copy(update={"class_column": "kind"}), "port", OWN)
    assert len(listed.marked(grid).classes) >= 5
    np.testing.assert_allclose(listed.marked(grid).boxes, drawn.marked(grid).boxes, atol=0.02)

    places = np.random.default_rng(0).uniform(0, (192, 160), (2000, 2))
    x, y = OWN.affine * tuple(places.T)
    x, y = Transformer.from_crs(OWN.crs, grid.crs, always_xy=True).transform(x, y)
    there = np.stack(~grid.affine * (x, y), axis=1)
    agree = listed.in_crowd(OWN, places) == listed.in_crowd(grid, there)
    assert agree[((there > 0) & (there < (grid.width, grid.height))).all(axis=1)].mean() > 0.97


def test_in_a_crowd_only_what_is_marked_is_known(tmp_path: Path) -> None:
    document = coco({"port": [[20.0, 10, 8, 6], [80, 90, 9, 9]]})
    document["annotations"].append(document["annotations"][0] | {"bbox": [10, 5, 40, 30], "iscrowd": 1})
    (tmp_path / "port.json").write_text(json.dumps(document))
    options = LabelOptions(classes=(LabelClass(value=0, name="boat"),))
    grid = Grid(crs="EPSG:32617", transform=(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]), width=192, height=160)
    source = box_source(str(tmp_path / "port.json"), options, "port", grid)
    assert len(source.marked(grid).classes) == 2
    labels = source.read(grid, grid.window)
    assert (labels == 0).sum() == 8 * 6 + 9 * 9
    assert (labels[5:35, 10:50] == IGNORE).sum() == 40 * 30 - 8 * 6 == (labels == IGNORE).sum()
    cols, rows = np.meshgrid(np.arange(192), np.arange(160))
    places: NDArray[np.float64] = np.stack([cols.ravel() + 0.5, rows.ravel() + 0.5], axis=1, dtype=np.float64)
    np.testing.assert_array_equal(source.in_crowd(grid, places), labels.ravel() == IGNORE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment": {"mixed": 0.5}}, "'augment.mixed' would cut objects in two"),
        ({"loss": {"dice": 0.5}}, "objects have a loss of their own"),
    ],
)
def test_what_has_no_meaning_for_objects_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        check_training(tables(tmp_path, "a", objects={}, **changes))
