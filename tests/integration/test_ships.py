"""The detector that ships: its chains as they are planned, and whole runs on ports."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

import earthloom
from earthloom.jobs.config import load
from earthloom.jobs.learning.evaluate import Evaluation
from earthloom.jobs.planning.plan import ScenePlan, plan
from earthloom.models.device.resolve import Device
from earthloom.models.zoo.trained import SHIPS
from tests.maps import fetched, published
from tests.scenes import landscape, real, write_scene

CPU = Device(kind="cpu", precision="fp32", device_class="cpu-test")
OPTIONS: dict[str, Any] = {"scale": 1e-4, "quantity": "boa_reflectance", "executor": "local", "device": "cpu"}
BANDS = {"blue": 1, "green": 2, "red": 3, "nir": 4, "swir16": 5}
PART = Window(400, 380, 512, 448)
"""Of Durban: the quays and a part of the roads."""


@pytest.fixture(scope="module")
def sea(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("sea") / "sea.tif", landscape(700, 500, 5), tuple(BANDS))


def planned(scene: Path, *model: str) -> ScenePlan:
    made = plan(load({"scenes": (str(scene),), "model": model, "out": "/nowhere", **OPTIONS}), CPU)
    assert not made.refused, made.refused
    return made.scenes[0]


@pytest.mark.parametrize(
    ("chain", "scale", "masks"),
    [
        (("ships",), 1, 0), (("cloudmask", "ships"), 1, 1), (("ships", "landwater@water"), 1, 1), (("sr-x2", "ships"), 2, 0),
        (("cloudmask", "ships", "landwater@water"), 1, 2), (("ships", "water-index@water"), 1, 1),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else str(value),
)  # fmt: skip
def test_a_chain_ends_in_ships(chain: tuple[str, ...], scale: int, masks: int, sea: Path) -> None:
    for name in chain:
        fetched(name.partition("@")[0])
    made = planned(sea, *chain)
    stages = made.chain.stages
    main = stages[made.chain.main]
    assert len(stages) == len(chain)
    assert main.card.name == "ships"
    assert main.card.objects == SHIPS.objects
    assert sum(stage.is_mask for stage in stages) == masks
    assert main.chips.scene.width == 700 * scale, "boxes are in the pixels that come out"
    assert main.chips.halo_px >= (SHIPS.halo_px or 0), "a chip sees all that the network looks at"
    for before, after in pairwise(stages):
        assert before.chips.margin_px * before.card.scale >= after.reach_px, (
            "a stage is told all that the next one reads"
        )


def cut_out(name: str, part: Window, folder: Path) -> Path:
    """A part of a port, and the ships that lie in it beside it; returns the folder."""
    with rasterio.open(real("ships_s2") / f"{name}.tif") as dataset:
        pixels, transform, crs = dataset.read(window=part), dataset.window_transform(part), dataset.crs
    profile = {"driver": "GTiff", "dtype": pixels.dtype, "count": 5, "width": part.width, "height": part.height}
    with rasterio.open(folder / "port.tif", "w", crs=crs, transform=transform, **profile) as dataset:
        dataset.write(pixels)
    marked = json.loads((real("ships_s2") / f"{name}_ships.json").read_bytes())["ships"]
    boxes = [[x - part.col_off, y - part.row_off, w, h] for x, y, w, h in (ship["bbox_xywh_px"] for ship in marked)]
    inside = [box for box in boxes if 0 <= box[0] < part.width - box[2] and 0 <= box[1] < part.height - box[3]]
    document = {
        "images": [{"id": 1, "file_name": "port.tif", "width": part.width, "height": part.height}],
        "categories": [{"id": 1, "name": "ship"}],
        "annotations": [
            {"id": place, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": 0} for place, box in enumerate(inside, 1)
        ],
    }  # fmt: skip
    (folder / "ships.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of Durban, which the weights have not seen."""
    return cut_out("durban", PART, tmp_path_factory.mktemp("port"))


def evaluated(port: Path, *model: str, out: str = "out", **options: Any) -> Evaluation:
    options = OPTIONS | {"bands": BANDS} | options
    done = earthloom.evaluate(port / "port.tif", model=model, out=port / out, labels=port / "ships.json", **options)
    assert done.exit_code == 0
    return done


def table_of(done: Evaluation) -> geopandas.GeoDataFrame:
    """Everything that was published."""
    (result,) = done.run.results.values()
    (path,) = (Path(done.run.out) / result.prefix).glob("*.parquet")
    return geopandas.read_parquet(path)


def found_in(done: Evaluation) -> set[tuple[int, int]]:
    """Row and column of the centre of everything that was published."""
    table = table_of(done)
    return set(zip(table["row"], table["col"], strict=True))


@pytest.mark.slow
def test_ships_are_found_in_a_port_that_was_held_back_and_a_mask_of_water_keeps_them(port: Path) -> None:
    alone = evaluated(port, "ships")
    scores = alone.report["scores"]["ship"]
    assert scores["true"] >= 20
    assert scores["published"]["0.3"]["recall"] >= 0.5
    assert scores["published"]["0.3"]["precision"] >= 0.4
    on_water = evaluated(port, "ships", "water-index@water")
    assert found_in(on_water) <= found_in(alone)
    kept = on_water.report["scores"]["ship"]["published"]["0.3"]["recall"]
    assert kept >= 0.9 * scores["published"]["0.3"]["recall"], "a ship is no water, but lies beside some"
    assert {name for name, _ in SHIPS.scores} >= {"ap50", "precision", "recall"}


@pytest.mark.long
def test_ships_lie_where_they_lay_in_pixels_half_as_large_and_in_blocks_of_any_size(tmp_path: Path) -> None:
    fetched("sr-x2")
    folder = cut_out("klang", Window(300, 560, 280, 160), tmp_path)
    alone = table_of(evaluated(folder, "ships"))
    whole, blocks = (
        evaluated(folder, "sr-x2", "ships", out=str(block_px), block=block_px, shard=512) for block_px in (1024, 512)
    )
    assert published(folder / "1024") == published(folder / "512")
    finer = table_of(whole)
    centres, finer_centres = (
        (table[["left_px", "top_px"]].to_numpy() + table[["width_px", "height_px"]].to_numpy() / 2) / scale
        for table, scale in ((alone, 1), (finer, 2))
    )
    away_px = np.linalg.norm(centres[:, None] - finer_centres, axis=-1)
    same = away_px.min(axis=1) < 4
    assert same.sum() >= 0.5 * len(alone) >= 3
    shifts_px = (finer_centres[away_px.argmin(axis=1)] - centres)[same]
    assert (np.abs(shifts_px) < 1).all(), "a box is no farther from its ship than a pixel of 10 m"
    assert np.abs(shifts_px.mean(axis=0)).max() < 0.5, "and to no side"
    assert whole.report["scores"]["ship"]["published"]["0.3"]["recall"] > 0.3, "marked boxes were moved onto its pixels"
    assert whole.report["scores"] == blocks.report["scores"]
