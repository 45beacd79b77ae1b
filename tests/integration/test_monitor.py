"""An area from its file to its cube: scenes are mapped, dates appear whole, and again only what is new is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from click.testing import CliRunner

import earthloom
from earthloom.jobs.command import cli
from earthloom.jobs.monitoring.monitor import MonitorResult
from earthloom.jobs.report.operation import Operation
from earthloom.tiling.errors import ConfigError
from tests.jobs.products.stac_validate import validate
from tests.maps import KEYS
from tests.maps import go as run
from tests.scenes import landscape, write_scene


def write(folder: Path, name: str, date: str, *, seed: int = 0, zone: int = 17) -> Path:
    """A scene of 300 x 260 px at 20 m around one place, in either of two UTM zones."""
    transform = Affine(20, 0, 500_000, 0, -20, 4_500_000) if zone == 17 else Affine(20, 0, -6_400, 0, -20, 4_512_000)
    return write_scene(
        folder / f"{name}.tif", landscape(300, 260, 2, seed), ("green", "swir16"), crs=f"EPSG:326{zone}",
        transform=transform, date=f"{date.replace('-', ':')} 10:00:00",
    )  # fmt: skip


def area_file(folder: Path, *, name: str = "lake", scenes: str | None = "in/*.tif", more: str = "") -> Path:
    path = folder / f"{name}.toml"
    sources = f"scenes = ['{folder / scenes}']" if scenes else ""
    path.write_text(
        f"name = '{name}'\nonto = 'EPSG:32617,20m,500000,4494000,506000,4500000'\nshard = 512\n[[product]]\n"
        f"model = 'water-index'\n{sources}\n{more}\n[product.options]\n{KEYS}\n"
    )
    return path


def go(*files: Path, out: Path | str, **options: Any) -> MonitorResult:
    return earthloom.monitor(files, out=out, executor="local", **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MonitorResult]:
    """An area with three dates, of which one has two scenes in two zones."""
    folder = tmp_path_factory.mktemp("monitor")
    write(folder / "in", "july", "2020-07-01")
    write(folder / "in", "august", "2020-08-01", seed=1)
    write(folder / "in", "august18", "2020-08-01", seed=2, zone=18)
    write(folder / "in", "october", "2020-10-01", seed=3)
    return folder, go(area_file(folder), out=folder / "out")


def days(result: MonitorResult, number: int = 0) -> list[str]:
    cube = result.products[number].update.cube
    assert cube is not None
    return [step.date.isoformat() for step in cube.steps]


def test_scenes_are_mapped_and_their_dates_are_in_the_cube(made: tuple[Path, MonitorResult]) -> None:
    folder, result = made
    (product,) = result.products
    assert (result.exit_code, product.status, product.errors) == (0, "updated", [])
    assert days(result) == ["2020-07-01", "2020-08-01", "2020-10-01"]
    assert product.update.cube is not None
    assert len(product.update.cube.steps[1].scenes) == 2
    item = json.loads((folder / "out" / product.prefix / "item.json").read_text())
    validate(item)
    assert (folder / "out" / product.prefix / item["assets"]["data"]["href"] / "zarr.json").exists()
    catalog = json.loads((folder / "out/catalog.json").read_text())
    assert "./monitors/lake/collection.json" in [link["href"] for link in catalog["links"]]


def test_the_cube_opens_lazily_with_integers_flags_and_crs_and_alone(made: tuple[Path, MonitorResult]) -> None:
    folder, result = made
    lazy = earthloom.open(folder / "out", "water-index", aoi="lake")
    assert lazy.classes.dims == ("time", "y", "x")
    assert lazy.classes.dtype == np.uint8
    assert lazy.classes.chunks is not None
    assert lazy.rio.crs.to_epsg() == 32617
    assert lazy.classes.attrs["flag_meanings"] == "land water"
    assert lazy.time.values.astype("M8[D]").astype(str).tolist() == days(result)
    assert lazy.attrs["EARTHLOOM_AOI"] == "lake"
    cube = result.products[0].update.cube
    assert cube is not None
    alone = xr.open_zarr(folder / "out" / cube.prefix, mask_and_scale=False)
    assert np.array_equal(alone.classes.values, lazy.classes.values)
    assert alone.time.values.tolist() == lazy.time.values.tolist()
    assert lazy.classes.attrs["flag_values"].dtype == np.uint8
    held = [value for one in (lazy, lazy.classes, lazy.confidence) for value in one.attrs.values()]
    assert not [
        value for value in held if isinstance(value, dict) or (isinstance(value, list) and isinstance(value[0], dict))
    ], "NetCDF has no objects"
    by_key = earthloom.open(folder / "out", "water-index", aoi="lake", key=result.products[0].prefix.rpartition("/")[2])
    assert by_key.attrs == lazy.attrs
    for arguments, words in (
        ({"aoi": "sea"}, "has no area 'sea'"), ({"aoi": "lake", "scene": "july"}, "leave out scene="),
        ({"aoi": "lake", "key": "abc"}, "is not the first 16 or more hex digits"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            earthloom.open(folder / "out", "water-index", **arguments)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has no cube of 'flood' over lake; there is water-index"):
        earthloom.open(folder / "out", "flood", aoi="lake")


def test_again_nothing_is_done_and_later_only_what_is_new(made: tuple[Path, MonitorResult], tmp_path: Path) -> None:
    folder, first = made
    before = {path: path.read_bytes() for path in (folder / "out/monitors").rglob("*") if path.is_file()}
    again = go(area_file(folder), out=folder / "out")
    assert (again.exit_code, again.products[0].status) == (0, "up to date")
    assert {path: path.read_bytes() for path in (folder / "out/monitors").rglob("*") if path.is_file()} == before
    then = go(area_file(folder), out=folder / "out", until="2020-08-31")
    assert days(then) == days(first)[:2]
    assert then.products[0].prefix != first.products[0].prefix
    assert earthloom.open(folder / "out", "water-index", aoi="lake").sizes["time"] == 3, (
        "what is known now stays the default"
    )
    write(folder / "late", "september", "2020-09-01", seed=4)
    write(folder / "late", "november", "2020-11-01", seed=5)
    late = go(area_file(folder, scenes="late/*.tif"), out=folder / "out")
    assert days(late) == ["2020-07-01", "2020-08-01", "2020-09-01", "2020-10-01", "2020-11-01"]
    assert (late.products[0].update.generation, late.products[0].update.renewed) == (2, True)
    assert earthloom.open(folder / "out", "water-index", aoi="lake").sizes["time"] == 5


def test_a_night_without_the_source_keeps_the_results_that_the_own_run_made(tmp_path: Path) -> None:
    write(tmp_path / "in", "july", "2020-07-01")
    (first,) = go(area_file(tmp_path), out=tmp_path / "out").products
    tried = run(tmp_path / "in/july.tif", out=tmp_path / "out", core=256)
    assert first.update.cube
    (own,) = first.update.cube.steps[0].scenes
    assert tried.results["july"].prefix != own
    (again,) = go(area_file(tmp_path), out=tmp_path / "out").products
    (without,) = go(area_file(tmp_path, scenes="gone/*.tif"), out=tmp_path / "out").products
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/august.tif").write_bytes(b"no TIFF")
    (refused,) = go(area_file(tmp_path, scenes="bad/*.tif"), out=tmp_path / "out").products
    assert (again.status, without.status, refused.status) == ("up to date", "failed", "up to date")
    assert refused.run
    assert not refused.run.results
    for night in (without, refused):
        assert night.update.cube
        assert (night.update.cube.steps[0].scenes, night.update.generation) == ((own,), 1)


def test_masks_are_those_that_the_own_run_made(tmp_path: Path) -> None:
    wet = "index:wet=(green-swir16)/(green+swir16) > 0.1"
    write(tmp_path / "in", "july", "2020-07-01")
    sources = f"scenes = ['{tmp_path / 'in/*.tif'}']"
    masked = "mask = { product = 'wet', classes = ['wet'] }\n[product.options]\n" + KEYS
    masked += f"\n[[product]]\nmodel = '{wet}'\n{sources}"
    file = area_file(tmp_path, more=masked)
    first, _ = go(file, out=tmp_path / "out").products
    assert first.update.cube
    (own,) = first.update.cube.steps[0].masks
    assert run(tmp_path / "in/july.tif", out=tmp_path / "out", model=wet, core=256).results["july"].prefix != own
    again, _ = go(file, out=tmp_path / "out").products
    assert again.update.cube
    assert (again.errors, again.update.cube.steps[0].masks, again.update.generation) == ([], (own,), 1)


def test_a_night_without_budget_watches_the_product_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in", "july", "2020-07-01")
    file = area_file(tmp_path)
    file.write_text(file.read_text().replace("'water-index'", "'index:wet=(green-swir16)/(green+swir16)'"))
    (first,) = go(file, out=tmp_path / "out").products
    monkeypatch.setattr(Operation, "over_budget", lambda _: "all is spent")
    (again,) = go(file, out=tmp_path / "out").products
    assert (again.product, again.prefix) == (first.product, first.prefix)
    assert again.errors == [("mapping scenes", "ConfigError", "all is spent")]
    assert days(MonitorResult(out="", products=(again,))) == ["2020-07-01"]


def test_one_bad_product_or_file_does_not_stop_the_others(made: tuple[Path, MonitorResult], tmp_path: Path) -> None:
    folder, _ = made
    good = area_file(folder, name="pond", scenes=None)
    bad = area_file(folder, name="bad", scenes="nowhere/*.tif")
    (tmp_path / "wrong.toml").write_text("name = 'wrong'\nbbx = 3\n")
    result = go(bad, tmp_path / "wrong.toml", good, out=folder / "out")
    assert result.exit_code == 3
    assert "bbx: there is no such key (did you mean 'bbox'?)" in result.refused[0][1]
    failed, fine = result.products
    assert (failed.status, fine.status) == ("failed", "updated")
    assert failed.errors[0][:2] == ("mapping scenes", "NoSceneError")
    assert failed.update.cube is not None, "what is committed is watched all the same"
    with pytest.raises(ConfigError, match="both describe an area called 'pond'"):
        go(good, good, out=folder / "out")


def test_the_command_prints_where_the_cube_is_and_speaks_json(made: tuple[Path, MonitorResult], tmp_path: Path) -> None:
    folder, _ = made
    file = str(area_file(folder, name="basin", scenes=None))
    plain = CliRunner().invoke(cli, ["monitor", file, "-o", str(folder / "out"), "--executor", "local"])
    assert plain.exit_code == 0, plain.output
    assert "cube.zarr" in plain.stdout
    again = CliRunner().invoke(cli, ["monitor", file, "-o", str(folder / "out"), "--executor", "local"])
    assert (again.exit_code, again.stdout) == (0, ""), "what is as it was is counted, and not listed"
    assert len(again.stderr.splitlines()) <= 3
    assert "1 up to date" in again.stderr.splitlines()[-1]
    told = CliRunner().invoke(
        cli, ["monitor", file, "-o", str(folder / "out"), "--executor", "local", "--until", "2020-07-15", "--json"]
    )
    document = json.loads(told.stdout)
    assert (told.exit_code, document["products"][0]["dates"]) == (0, ["2020-07-01"])
    none = CliRunner().invoke(
        cli, ["monitor", str(tmp_path / "no.toml"), "-o", str(tmp_path / "out"), "--executor", "local"]
    )
    assert none.exit_code == 2
    empty = CliRunner().invoke(cli, ["monitor", file, "-o", str(tmp_path / "out"), "--executor", "local", "--json"])
    assert (empty.exit_code, json.loads(empty.stdout)["products"][0]["status"]) == (0, "empty")


@pytest.mark.s3
def test_the_same_on_a_bucket(made: tuple[Path, MonitorResult], s3_env: None) -> None:
    folder, first = made
    out = "s3://outputs/test-monitor"
    result = go(area_file(folder), out=out)
    assert (result.exit_code, days(result)) == (0, days(first))
    here = earthloom.open(folder / "out", "water-index", aoi="lake", key=first.products[0].prefix.rpartition("/")[2])
    there = earthloom.open(out, "water-index", aoi="lake")
    assert np.array_equal(there.sel(time="2020-08-01").classes.values, here.sel(time="2020-08-01").classes.values)
    assert go(area_file(folder), out=out).products[0].status == "up to date"


def test_on_ray_workers_the_bytes_are_the_same(
    made: tuple[Path, MonitorResult], tmp_path: Path, ray_session: Any
) -> None:
    folder, first = made
    result = earthloom.monitor(area_file(folder), out=tmp_path / "out", workers=1)
    assert (result.exit_code, days(result)) == (0, days(first))
    ours, theirs = (one.products[0].update.cube for one in (result, first))
    assert ours is not None
    assert theirs is not None
    shards = [
        path.relative_to(tmp_path / "out" / ours.prefix)
        for path in (tmp_path / "out" / ours.prefix).glob("classes/c/*/*/*")
    ]
    assert shards
    for shard in shards:
        held = tmp_path / "out" / ours.prefix / shard
        assert held.read_bytes() == (folder / "out" / theirs.prefix / shard).read_bytes()
