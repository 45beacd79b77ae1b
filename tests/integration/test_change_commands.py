"""An area whose shore moves, from scenes to series, changes, zones and areas, by the commands that users type."""

from __future__ import annotations

import csv
import datetime
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from earthloom.jobs.command import cli
from earthloom.jobs.products.areas import area_text
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.grid import Grid, pixel_areas_m2
from tests.maps import KEYS
from tests.scenes import write_scene

SIDE, GSD = 600, 10
LEFT, TOP = 60 * 5120, 880 * 5120  # where shards of 512 px of 10 m begin
GRID = f"EPSG:32617,10m,{LEFT},{TOP - 6000},{LEFT + 6000},{TOP}"
DATES = ("2020-07-01", "2021-07-03", "2021-08-20", "2022-07-02")
SHORES = (200, 260, 260, 330)  # columns that are water, from the west
PIXEL_M2 = 100.0

FILE = """
name = "shore"
onto = "{grid}"
shard = 512
[[product]]
model = "water-index"
scenes = ["{scenes}"]
composites = [{{ every = "year", rule = "mode" }}]
[product.options]
{keys}
date_pattern = "lake_%Y-%m-%d"
[[product.change]]
from = "2020"
to = "2022"
[[product.change]]
from = 2020
to = "2030"
[[product.change]]
every = "year"
min_area_m2 = 0
"""


def shore(n_columns: int) -> NDArray[np.uint16]:
    water = np.zeros((SIDE, SIDE), bool)
    water[50:550, :n_columns] = True
    pixels: NDArray[np.uint16] = np.stack([np.where(water, 3000, 1000), np.where(water, 500, 3000)]).astype(np.uint16)
    return pixels


def earthloom(*arguments: str | Path) -> Result:
    answer = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if answer.exception and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shore")
    for date, columns in zip(DATES, SHORES, strict=True):
        write_scene(folder / f"scenes/lake_{date}.tif", shore(columns), ("green", "swir16"), date=None,
                    transform=Affine(GSD, 0, LEFT, 0, -GSD, TOP))  # fmt: skip
    (folder / "shore.toml").write_text(FILE.format(keys=KEYS, grid=GRID, scenes=folder / "scenes/*.tif"))
    answer = earthloom("monitor", folder / "shore.toml", "--out", folder / "out", "--executor", "local", "--json")
    assert answer.exit_code == 0, answer.stderr
    (folder / "first.json").write_text(answer.stdout)
    return folder


def product(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "first.json").read_text())["products"][0]
    return found


def test_a_monitor_keeps_changes_up_to_date_and_names_the_current_ones(folder: Path) -> None:
    derived = product(folder)["derived"]["change"]
    assert sorted(derived) == ["2020--2021", "2020--2022", "2020--2030", "2021--2022"]
    assert derived["2020--2030"] is None
    assert derived["2020--2021"]["of"] == "2020: 2020-07-01; 2021: composite of 2 dates, mode"
    base = folder / "out" / product(folder)["prefix"]
    head = json.loads((base / "change/head.json").read_text())
    assert head["changes"]["2020--2022"] == derived["2020--2022"]
    with rasterio.open(folder / "out" / derived["2020--2022"]["prefix"] / "water-index-change.tif") as dataset:
        values = dataset.read(1)
    assert (values[50:550, 200:330] == 1).all()
    assert (values == 1).sum() == 500 * 130
    document = json.loads((folder / "out" / derived["2020--2022"]["prefix"] / "transitions.json").read_text())
    grown = next(row for row in document["transitions"] if (row["before"], row["after"]) == ("land", "water"))
    assert grown["area_m2"] == pytest.approx(500 * 130 * PIXEL_M2, rel=2e-3)  # true areas: UTM's scale is not 1
    assert document["polygons"] == 1


def test_the_series_has_dates_and_years_and_is_not_written_again(folder: Path) -> None:
    base = folder / "out" / product(folder)["prefix"]
    table = pd.read_parquet(base / "series.parquet")
    water = table[table["class"] == "water"]
    assert water["period"].tolist() == [*DATES, "2020", "2021", "2022"]
    assert water["px"].tolist() == [500 * n for n in (*SHORES, 200, 260, 330)]
    assert water["confidence"].between(0.9, 1).all()
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in base.glob("series.*")}
    assert sorted(before) == ["series.csv", "series.json", "series.parquet", "series.png"]
    again = earthloom("monitor", folder / "shore.toml", "--out", folder / "out", "--executor", "local", "--json")
    said = json.loads(again.stdout)["products"][0]
    assert said["status"] == "up to date"
    assert said["derived"]["series"] == {"dates": 4, "written": False, "left_out": []}
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in base.glob("series.*")} == before
    (base / "series.csv").write_text("torn")
    earthloom("monitor", folder / "shore.toml", "--out", folder / "out", "--executor", "local", "--json")
    assert (base / "series.csv").read_bytes() == before["series.csv"][1]


def test_change_prints_a_matrix_in_one_unit_and_where_everything_is(folder: Path) -> None:
    answer = earthloom(
        "change", folder / "out", "--product", "water-index", "--aoi", "shore", "--from", "2020", "--to", "2022"
    )
    assert answer.exit_code == 0
    assert "2020 → 2022" in answer.stdout
    assert "land → water: 650 ha, 65,000 px, confidence 1.00" in answer.stdout
    assert answer.stdout.startswith("shore water-index: from (rows) to (columns)")
    listed = [Path(line) for line in answer.stdout.splitlines() if line.startswith("/")]
    assert {path.suffix for path in listed} == {".tif", ".parquet", ".json", ".png"}
    assert all(path.is_file() for path in listed)
    derived = product(folder)["derived"]["change"]["2020--2022"]["prefix"]
    assert listed[0].parent == folder / "out" / derived  # what the monitor made already, and not a second time


def test_change_of_two_dates_for_machines(folder: Path) -> None:
    arguments = ("--product", "water-index", "--aoi", "shore", "--from", "2021-07-03", "--to", "2022-07-02", "--json")
    answer = earthloom("change", folder / "out", *arguments, "--min-area", "1e9")
    document = json.loads(answer.stdout)
    assert document["polygons"] == 0
    assert document["of"] == "2021-07-03: date; 2022-07-02: date"
    assert Path(document["files"]["transitions.json"]).is_file()
    assert {(row["before"], row["after"]): row["pixels"] for row in document["transitions"]}[
        "land", "water"
    ] == 500 * 70
    plain = json.loads(earthloom("change", folder / "out", *arguments).stdout)
    assert plain["folder"] != document["folder"]
    assert plain["polygons"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--product", "water-index", "--aoi", "shore", "--from", "1999", "--to", "2022"), "there is no date in 1999"),
        (("--product", "water-index", "--aoi", "sea", "--from", "2020", "--to", "2022"), "has no area 'sea'"),
        (("--product", "buildings", "--aoi", "shore", "--from", "2020", "--to", "2022"), "no cube of 'buildings'"),
        (
            ("--product", "water-index", "--aoi", "shore", "--from", "2022", "--to", "2020"),
            "name the earlier one first",
        ),
        (("--product", "water-index", "--aoi", "shore", "--from", "2020", "--to", "2020"), "are the same map"),
    ],
)
def test_what_cannot_be_answered_is_told(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        earthloom("change", folder / "out", *arguments)


def test_zones_over_time_and_of_scenes(folder: Path) -> None:
    box = [[LEFT + 1000, TOP - 1000], [LEFT + 4000, TOP - 1000], [LEFT + 4000, TOP - 2000], [LEFT + 1000, TOP - 2000]]
    feature = {
        "type": "Feature",
        "properties": {"what": "bay"},
        "geometry": {"type": "Polygon", "coordinates": [[*box, box[0]]]},
    }
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32617"}}
    (folder / "zones.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    where = (folder / "zones.geojson", folder / "out", "--product", "water-index", "--name", "what")
    answer = earthloom("zonal", *where, "--aoi", "shore", "--since", "2021-01-01")
    rows = [row for row in csv.DictReader(io.StringIO(answer.stdout)) if row["class"] == "water"]
    assert [row["map"] for row in rows] == list(DATES[1:])
    areas = [float(row["area_m2"]) for row in rows]
    assert areas == pytest.approx([100 * n * PIXEL_M2 for n in (160, 160, 230)], rel=2e-3)
    assert {row["name"] for row in rows} == {"bay"}
    file = folder / "zones.parquet"
    assert earthloom("zonal", *where, "--output", file).exit_code == 0
    table = pd.read_parquet(file)
    assert table["map"].drop_duplicates().tolist() == [f"lake_{date}" for date in DATES]
    water = table[table["class"] == "water"]["area_m2"].tolist()
    assert water[1:] == pytest.approx(areas, rel=1e-9)


def test_python_asks_the_same_questions(folder: Path) -> None:
    import geopandas as gpd

    import earthloom as face

    derived = product(folder)["derived"]["change"]["2020--2022"]
    made = face.change(folder / "out", "water-index", aoi="shore", before="2020", after="2022")
    assert made.prefix == derived["prefix"]
    assert made.note == derived["of"]
    zones = gpd.GeoDataFrame(geometry=gpd.GeoSeries.from_wkt([f"POINT ({LEFT} {TOP})"], crs="EPSG:32617").buffer(500))
    table = face.zonal(zones, folder / "out", "water-index", aoi="shore", until=datetime.date(2020, 12, 31))
    assert table["map"].unique().tolist() == ["2020-07-01"]
    assert table["covered_percent"].iloc[0] == pytest.approx(25.0, abs=0.1)


def test_areas_count_each_scene_once(folder: Path) -> None:
    options = ("--scale", "1e-4", "--quantity", "reflectance", "--precision", "fp32", "--device", "cpu", "--executor", "local",
               "--shard", "512", "--block", "512", "--date-pattern", "lake_%Y-%m-%d")  # fmt: skip
    scene = folder / f"scenes/lake_{DATES[0]}.tif"
    before = earthloom("areas", folder / "out", "--product", "water-index").stdout
    rows = list(csv.DictReader(io.StringIO(before)))
    assert [row["scene"] for row in rows if row["class"] == "water"] == [f"lake_{date}" for date in DATES]
    kept = scene.read_bytes()
    try:
        write_scene(scene, shore(100), ("green", "swir16"), date=None, transform=Affine(GSD, 0, LEFT, 0, -GSD, TOP))
        assert earthloom("run", scene, "--model", "water-index", "--out", folder / "out", *options).exit_code == 0
        after = list(csv.DictReader(io.StringIO(earthloom("areas", folder / "out", "--product", "water-index").stdout)))
    finally:
        scene.write_bytes(kept)
    assert len(after) == len(rows)
    changed = next(row for row in after if row["scene"] == f"lake_{DATES[0]}" and row["class"] == "water")
    assert int(changed["px"]) == 500 * 100


def test_one_page_tells_of_an_area_with_its_true_numbers(folder: Path) -> None:
    file = folder / "shore.html"
    answer = earthloom("report", folder / "out", "--product", "water-index", "--aoi", "shore", "--output", file)
    assert (answer.exit_code, answer.stdout.strip()) == (0, str(file)), answer.stderr
    text = file.read_text()
    assert text.count("data:image/png;base64,") == 3
    assert "http://" not in text
    assert "https://" not in text
    for date in DATES:
        assert f"<td>{date}</td>" in text
    grown_m2 = (SHORES[-1] - SHORES[0]) * 500 * PIXEL_M2
    grid = Grid(crs="EPSG:32617", transform=(10, 0, LEFT, 0, -10, TOP), width=600, height=600)
    scale = pixel_areas_m2(grid, grid.window).mean() / PIXEL_M2
    assert f"<td>{area_text(grown_m2 * scale, ('km²', 1e6))}</td>" in text, "land that has become water"


def test_a_sample_and_an_export_are_of_the_date_that_is_meant(folder: Path) -> None:
    answer = earthloom("sample", folder / "out", "-p", "water-index", "-a", "shore", "-n", "60", "--least", "20",
                       "--date", DATES[0], "-o", folder / "points.gpkg")  # fmt: skip
    assert answer.exit_code == 0, answer.stderr
    with pytest.raises(ConfigError, match="fewer than two points of each have a reference class"):
        earthloom("accuracy", folder / "points.gpkg", "--json")
    answer = earthloom("export", folder / "out", "-p", "water-index", "-a", "shore", "-o", folder / "last.tif")
    assert answer.exit_code == 0, answer.stderr
    with rasterio.open(folder / "last.tif") as found:
        names = {found.tags(1)[f"CLASS_{value}"]: value for value in (0, 1)}
        assert int((found.read(1) == names["water"]).sum()) == SHORES[-1] * 500
