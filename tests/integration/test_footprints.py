"""Classes of given polygons by the whole road: from pictures around buildings to tables of them, the same whatever the cut."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from unittest import mock

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from numpy.typing import NDArray
from pyproj import Geod
from rasterio.features import geometry_mask
from safetensors.torch import load_file
from shapely.geometry import MultiPolygon, Polygon, box

import earthloom
from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import RunResult, run
from earthloom.jobs.learning.train import Trained
from earthloom.jobs.planning.plan import plan
from earthloom.jobs.upkeep.verify import verify
from earthloom.models.networks import registry
from earthloom.tiling.errors import ConfigError, StorageError
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.vectors import pyogrio
from tests.jobs.products.stac_validate import validate
from tests.maps import SMALL, published
from tests.models.nets import TinyClassifier
from tests.scenes import write_scene

pytestmark = pytest.mark.long  # the models that they share are trained for half a minute

SIDE_PX, SIZE = 24, (900, 1100)
"""Of a chip, and rows and columns of a scene."""
BEFORE = Affine(0.5, 0, 500_000, 0, -0.5, 4_500_000)
BANDS = ("red", "green", "blue")
OPTIONS = SMALL | {"scale": 1 / 255, "quantity": "unit"}


def small(*, encoder_name: str, in_channels: int, classes: int) -> TinyClassifier:
    """In the place of a network of timm."""
    assert encoder_name
    return TinyClassifier(in_channels=in_channels, classes=classes)


@pytest.fixture(autouse=True)
def _a_small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """And tests/models measures memory, which takes a minute."""
    monkeypatch.setattr("earthloom.models.measuring.measure._bytes_per_px", lambda *_: 300.0)
    monkeypatch.setitem(registry.REGISTRY, "chip-classifier", small)


def paint(pixels: NDArray[np.uint8], kind: str, row: int, col: int, dice: np.random.Generator) -> None:
    """A building with what happened to it: water around it, debris beside it, or nothing."""
    half = SIDE_PX // 2
    around = np.s_[:, max(row - half, 0) : row + half, max(col - half, 0) : col + half]
    if kind == "flood":
        pixels[around] = np.array([60, 70, 160])[:, None, None]
    elif kind == "wind":
        shape = pixels[around].shape
        pixels[around] = np.where(dice.random(shape[1:]) < 0.5, 230, 40)[None]
    pixels[:, max(row - 4, 0) : row + 4, max(col - 4, 0) : col + 4] = 180


def grass(dice: np.random.Generator, *shape: int) -> NDArray[np.uint8]:
    return (np.array([80, 130, 70])[:, None, None] + dice.integers(0, 12, (3, *shape))).astype(np.uint8)


KINDS = ("unharmed", "flood", "wind")


def learned(folder: Path) -> Path:
    """A card folder trained from folders of pairs: six bands, before and after."""
    dice = np.random.default_rng(1)
    for part, n in (("train", 24), ("test", 8)):
        for kind in KINDS:
            (folder / part / kind).mkdir(parents=True)
            for number in range(n):
                before, after = grass(dice, 32, 32), grass(dice, 32, 32)
                paint(before, "unharmed", 16, 16, dice)
                paint(after, kind, 16, 16, dice)
                write_scene(folder / part / kind / f"{number}.tif", np.concatenate([before, after]), nodata=None)
    bands = {f"before_{name}": number for number, name in enumerate(BANDS, 1)}
    bands |= {name: number for number, name in enumerate(BANDS, 4)}
    tables = [
        {"folder": str(folder / part), "name": part, "gsd_m": 0.5, "bands": bands, "scale": 1 / 255, "quantity": "unit"}
        for part in ("train", "test")
    ]
    classes = [{"value": value, "name": name} for value, name in enumerate(KINDS)]
    trained: Trained = earthloom.train(
        {
            "name": "damage", "out": str(folder / "model"), "folders": tables, "labels": {"classes": classes},
            "chips": {"core_px": SIDE_PX}, "split": {"by": "scene", "validation": 0, "test": ["test"]},
            "model": {"architecture": "classifier", "encoder": "resnet10t", "bands": list(bands)}, "loss": {"dice": 0},
            "schedule": {"steps": 150, "batch": 12, "rate": 2e-2, "precision": "fp32"},
            "compute": {"threads": 1, "readers": 1},
        }
    )  # fmt: skip
    assert dict(trained.card.scores)["accuracy"] > 0.9, trained.card.scores
    return folder / "model"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("earthloom.models.measuring.measure._bytes_per_px", lambda *_: 300.0)
        patch.setitem(registry.REGISTRY, "chip-classifier", small)
        return learned(tmp_path_factory.mktemp("learned"))


MIDDLES = [(40 + 60 * (n // 17), 30 + 60 * (n % 17)) for n in range(14 * 17)]
"""Rows and columns of buildings; shards of 512 px cut through some of them."""


class Town:
    """Two dates of one place, and its buildings in a file."""

    def __init__(self, folder: Path) -> None:
        dice = np.random.default_rng(5)
        self.before, self.after = grass(dice, *SIZE), grass(dice, *SIZE)
        self.kinds = [KINDS[int(kind)] for kind in dice.integers(0, 3, len(MIDDLES))]
        outlines: list[Any] = []
        for (row, col), kind in zip(MIDDLES, self.kinds, strict=True):
            paint(self.before, "unharmed", row, col, dice)
            paint(self.after, kind, row, col, dice)
            outlines.append(box(col - 4, row - 4, col + 4, row + 4))
        outlines[3] = Polygon(outlines[3].exterior.coords, [box(*(outlines[3].buffer(-2).bounds)).exterior.coords])
        outlines[5] = MultiPolygon([shapely.affinity.translate(outlines[5], dx) for dx in (-5, 5)])
        outlines[7] = box(
            MIDDLES[7][1] + 0.1, MIDDLES[7][0] + 0.1, MIDDLES[7][1] + 0.3, MIDDLES[7][0] + 0.3
        )  # no centre
        outlines[0] = box(
            MIDDLES[0][1] - 4, -30, MIDDLES[0][1] + 4, 38
        )  # begins above the scene; its middle is in row 4
        self.after[:, 400:430, 200:260] = 0  # no data: nothing is said of what lies there
        self.outlines = [*outlines, box(5000, 5000, 5008, 5008)]
        self.scenes = [
            write_scene(folder / f"{name}.tif", pixels, BANDS, transform=BEFORE, nodata=0, date=date)
            for name, pixels, date in (("after", self.after, "2026:07:02 10:00:00"), ("before", self.before, None))
        ]
        frame = geopandas.GeoDataFrame(geometry=self.outlines, crs="EPSG:32617")
        a = BEFORE
        frame = frame.set_geometry(frame.affine_transform([a.a, a.b, a.d, a.e, a.c, a.f]))
        pyogrio()  # geopandas writes by it, with the drivers that it names
        self.file = folder / "buildings.gpkg"
        frame.to_file(self.file)
        self.degrees = folder / "buildings.geojson"
        frame.to_crs("EPSG:4326").to_file(self.degrees)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return Town(tmp_path_factory.mktemp("town"))


def go(town: Town, out: Path, *models: str | Path, **options: Any) -> RunResult:
    after, before = map(str, town.scenes)
    given = {"scenes": (after,), "before": (before,), "model": tuple(map(str, models)), "out": str(out),
             "footprints": str(town.file)}  # fmt: skip
    return run(load({**given, **OPTIONS, **options}))


@pytest.fixture(scope="module")
def undisturbed(town: Town, model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    out = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.REGISTRY, "chip-classifier", small)
        result = go(town, out, model)
    assert result.exit_code == 0, result.scenes
    return out, result


def wanted(town: Town, model: Path) -> dict[int, tuple[int, float]]:
    """Class and probability of each building that can be decided, chip by chip from the arrays."""
    card = json.loads((model / "card.json").read_bytes())["properties"]
    network = TinyClassifier(in_channels=6, classes=3)
    network.load_state_dict(load_file(model / "weights.safetensors"))
    statistics = card["mlm:input"][0]["value_scaling"]
    mean, std = (
        np.array([band[name] for band in statistics], np.float32)[:, None, None] for name in ("mean", "stddev")
    )
    valid = (town.after != 0).all(axis=0)
    stack = (np.concatenate([town.before, town.after]).astype(np.float32) * np.float32(1 / 255) - mean) / std
    stack[:, ~valid] = 0
    half = SIDE_PX // 2
    wide, known = np.pad(stack, ((0, 0), (half, half), (half, half)), mode="reflect"), np.pad(valid, half)
    found = {}
    for number, outline in enumerate(town.outlines):
        left, top, right, bottom = outline.bounds
        row, col = int((top + bottom) // 2), int((left + right) // 2)
        if not (0 <= row < SIZE[0] and 0 <= col < SIZE[1] and valid[row, col]):
            continue
        here = np.s_[row : row + SIDE_PX, col : col + SIDE_PX]
        if known[here].sum() >= SIDE_PX**2 / 2:
            with torch.inference_mode():
                values = network(torch.from_numpy(wide[:, *here])[None])[0, :, 0, 0].softmax(0).numpy()
            found[number] = int(values.argmax()), float(values.max())
    return found


def test_each_polygon_gets_the_class_of_the_chip_around_it(
    undisturbed: tuple[Path, RunResult], town: Town, model: Path
) -> None:
    out, result = undisturbed
    folder, expected = out / result.results["after"].prefix, wanted(town, model)
    table = geopandas.read_parquet(folder / "damage.parquet")
    assert table["feature"].tolist() == sorted(expected)
    assert len(expected) == len(MIDDLES) - 1, "one building lies under what has no data"
    assert table["class"].tolist() == [KINDS[expected[n][0]] for n in table["feature"]]
    assert table["probability"].to_numpy() == pytest.approx([expected[n][1] for n in table["feature"]], abs=2e-4)
    right = [town.kinds[n] == kind for n, kind in zip(table["feature"], table["class"], strict=True)]
    assert np.mean(right) > 0.95, "flood and wind are told apart"
    assert table[[f"probability_{kind}" for kind in KINDS]].sum(axis=1).to_numpy() == pytest.approx(1, abs=2e-4)
    features = geopandas.read_file(folder / "damage.fgb").sort_values("feature", ignore_index=True)
    assert features["class"].tolist() == table["class"].tolist()
    own = geopandas.read_file(town.file).geometry.iloc[table["feature"]].reset_index(drop=True)
    apart = table.to_crs("EPSG:32617").geometry.symmetric_difference(own).area
    assert apart.max() < 0.2, "what comes out lies on what went in"
    expected_m2 = [
        abs(Geod(ellps="WGS84").geometry_area_perimeter(shapely.orient_polygons(g))[0]) for g in table.geometry
    ]
    assert table["area_m2"].to_numpy() == pytest.approx(expected_m2, abs=0.06)


def test_the_map_holds_the_class_of_the_footprint_over_each_pixel(
    undisturbed: tuple[Path, RunResult], town: Town, model: Path
) -> None:
    out, result = undisturbed
    folder, expected = out / result.results["after"].prefix, wanted(town, model)
    drawn = np.full(SIZE, 255, np.uint8)
    for number, (value, _) in expected.items():
        outline = town.outlines[number]
        drawn[geometry_mask([outline], SIZE, Affine.identity(), invert=True)] = value
    for number, (value, _) in expected.items():  # none is lost for being small, or for having a court
        left, top, right, bottom = town.outlines[number].bounds
        middle = int((top + bottom) // 2), int((left + right) // 2)
        drawn[middle] = value if drawn[middle] == 255 else drawn[middle]
    drawn[(town.after == 0).any(axis=0)] = 255
    with rasterio.open(folder / "damage.tif") as cog, rasterio.open(folder / "damage-confidence.tif") as trust:
        assert (cog.read(1) == drawn).all()
        assert ((trust.read(1) != 255) == (drawn != 255)).all()
    item = pystac.Item.from_file(str(folder / "item.json"))
    validate(item.to_dict(include_self_link=False, transform_hrefs=False))
    assert item.assets["footprints"].media_type == "application/vnd.apache.parquet"
    assert verify(ObjectRef.parse(str(out))).exit_code == 0
    assert (earthloom.open(str(out), "damage", scene="after").classes.to_numpy() == drawn).all()


@pytest.mark.parametrize("changes", [{"block": 1024}, {"block": 1536, "batch": 5}])
def test_footprints_have_the_same_bytes_for_every_block_and_batch(
    changes: dict[str, Any], undisturbed: tuple[Path, RunResult], town: Town, model: Path, tmp_path: Path
) -> None:
    assert go(town, tmp_path, model, **changes).exit_code == 0
    assert published(tmp_path) == published(undisturbed[0])


def test_footprints_of_a_run_that_died_and_went_on_with_other_blocks_are_the_same(
    undisturbed: tuple[Path, RunResult], town: Town, model: Path, tmp_path: Path
) -> None:
    with mock.patch("earthloom.jobs.publish.files.commit", side_effect=StorageError("the driver dies here")):
        assert go(town, tmp_path, model).exit_code == 1
    for marker in sorted(tmp_path.glob("scenes/*/*/blocks/*.json"))[::2]:
        marker.unlink()
    assert go(town, tmp_path, model, block=1024).exit_code == 0
    assert published(tmp_path) == published(undisturbed[0])


def test_polygons_of_another_crs_get_the_same_classes_under_another_key(
    undisturbed: tuple[Path, RunResult], town: Town, model: Path, tmp_path: Path
) -> None:
    result = go(town, tmp_path, model, footprints=str(town.degrees))
    one, other = (each.results["after"] for each in (undisturbed[1], result))
    assert one.key != other.key
    tables = [
        geopandas.read_parquet(folder / each.prefix / "damage.parquet")
        for folder, each in ((undisturbed[0], one), (tmp_path, other))
    ]
    assert tables[0]["class"].tolist() == tables[1]["class"].tolist()


def test_polygons_elsewhere_leave_an_empty_table(town: Town, model: Path, tmp_path: Path) -> None:
    far = tmp_path / "far.gpkg"
    geopandas.GeoDataFrame(geometry=[box(9, 9, 9.01, 9.01)], crs="EPSG:4326").to_file(far)
    result = go(town, tmp_path, model, footprints=str(far))
    assert result.exit_code == 0, result.scenes
    folder = tmp_path / result.results["after"].prefix
    assert len(geopandas.read_parquet(folder / "damage.parquet")) == 0
    assert len(geopandas.read_file(folder / "damage.fgb")) == 0


def test_without_polygons_the_model_labels_chips_and_has_its_old_key(town: Town, model: Path, tmp_path: Path) -> None:
    after, before = map(str, town.scenes)
    made = plan(
        load({"scenes": (after,), "before": (before,), "model": (str(model),), "out": str(tmp_path), **OPTIONS})
    )
    assert made.scenes[0].card.kind == "labels"
    assert made.scenes[0].grid.width == ceil_div(SIZE[1], SIDE_PX)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "get their classes from a model that labels chips, and dark makes"),
        ({"footprints": "", "footprints_layer": "roofs"}, "`footprints_layer=roofs` is of a file"),
    ],
)
def test_what_cannot_be_given_classes_says_why(
    options: dict[str, Any], message: str, town: Town, tmp_path: Path
) -> None:
    after, before = map(str, town.scenes)
    given = {"scenes": (after,), "before": (before,), "model": ("index:dark=red < 0.2",), "out": str(tmp_path), **OPTIONS,
             "footprints": str(town.file)}  # fmt: skip
    with pytest.raises(ConfigError, match=message):
        plan(load({name: value for name, value in {**given, **options}.items() if value}))


def test_a_footprint_as_large_as_a_district_is_refused(town: Town, model: Path, tmp_path: Path) -> None:
    frame = geopandas.read_file(town.file)
    frame.loc[2, "geometry"] = frame.geometry[2].buffer(600)
    large = tmp_path / "large.gpkg"
    frame.to_file(large)
    after, before = map(str, town.scenes)
    given = {"scenes": (after,), "before": (before,), "model": (str(model),), "out": str(tmp_path), **OPTIONS}
    (refused,) = plan(load({**given, "footprints": str(large)})).refused
    assert re.search(
        r"large.gpkg: feature 2 reaches 120\d px from its middle, and a footprint at most 1024", refused.message
    )
