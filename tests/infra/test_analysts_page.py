"""The recipes of the page for analysts, as they stand there, over a small OUT of the layout that they are about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import matplotlib
import matplotlib.pyplot
import pandas as pd
import pytest

from infra.s3_server import Server
from tests.infra.recipes import blocks_of, run_python
from tests.maps import go, lake

matplotlib.use("agg")


def blocks(language: str) -> list[str]:
    return [block.replace("landwater", "water-index") for block in blocks_of("analysts.md", language)]


def rows(query: str) -> list[Any]:
    found = duckdb.sql(query)
    assert found is not None
    return list(found.fetchall())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`maps/` with two scenes, of one of which there are two results."""
    base = tmp_path_factory.mktemp("analysts")
    scenes = [lake(base / "in"), lake(base / "in", "pond", width=600, height=600, seed=1)]
    assert go(scenes[0], out=base / "maps", flips=True).exit_code == 0
    assert go(*scenes, out=base / "maps").exit_code == 0
    return base


def committed(folder: Path) -> dict[str, float]:
    """Water by scene as the last result of each says it."""
    found = {}
    for path in sorted(folder.glob("maps/scenes/*/*/result.json"), key=lambda path: path.stat().st_mtime_ns):
        document = json.loads(path.read_text())
        found[document["scene_id"]] = next(r["area_m2"] for r in document["class_areas"] if r["name"] == "water")
    assert set(found) == {"lake", "pond"}
    return found


def test_tables_sum_to_the_true_area_of_each_scene_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    by_scene, total, on_ground = (rows(query) for query in blocks("sql"))
    truth = committed(folder)
    assert {row[0]: row[2] for row in by_scene} == pytest.approx({name: m2 / 1e6 for name, m2 in truth.items()})
    assert total[0][0] == pytest.approx(sum(truth.values()) / 1e6)
    everything = "SELECT count(*), count(DISTINCT scene) FROM 'maps/collections/water-index/items.parquet'"
    assert rows(everything) == [(3, 2)]
    assert {row[0] for row in on_ground} == {"lake", "pond"}
    keys = dict(on_ground)
    assert keys["lake"] in {path.name for path in folder.glob("maps/scenes/lake/*")}


def test_every_block_of_python_runs_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    for block in blocks("python"):
        run_python(block, names, "docs/analysts.md")
    truth = committed(folder)
    assert dict(zip(names["table"]["scene"], names["table"]["water_m2"], strict=True)) == pytest.approx(truth)
    assert names["footprints"].geometry.is_valid.all()
    water = names["areas"].set_index("class").loc["water", "area_m2"]
    assert water == pytest.approx(truth["lake"], rel=1e-9)
    assert Path("lake.png").stat().st_size > 5000
    assert Path("lake.nc").is_file()
    assert Path("half.nc").is_file()
    assert float(names["decoded"].confidence.max()) <= 1
    matplotlib.pyplot.close("all")


@pytest.mark.s3
def test_the_same_is_read_from_a_bucket(folder: Path, s3: Server, s3_env: None) -> None:
    import xarray as xr
    from fsspec.implementations.local import LocalFileSystem

    import earthloom
    from earthloom.tiling.storage.objects import ObjectRef
    from earthloom.tiling.storage.store import open_store

    store = open_store(ObjectRef.parse("s3://outputs/analysts"))
    for path in LocalFileSystem().find(str(folder / "maps")):
        store.put(Path(path).relative_to(folder / "maps").as_posix(), Path(path).read_bytes())
    table = pd.read_parquet(
        "s3://outputs/analysts/collections/water-index/latest.parquet", columns=["scene", "water_m2"]
    )
    assert dict(zip(table["scene"], table["water_m2"], strict=True)) == pytest.approx(committed(folder))
    ours = earthloom.open("s3://outputs/analysts", "water-index", scene="pond")
    address = f"s3://outputs/analysts/scenes/pond/{ours.attrs['EARTHLOOM_KEY']}/data.zarr"
    with xr.open_zarr(address, group="0", mask_and_scale=False) as plain:
        assert (plain.classes.values == ours.classes.values).all()
