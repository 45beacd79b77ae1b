"""The page in a browser: colours where they belong, dates, the line between two maps, what a click tells, and no error."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import geopandas as gpd
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pyproj import Transformer

from earthloom.jobs.learning.report_page import data_url, html
from earthloom.jobs.page.libraries import LIBRARIES, kept
from earthloom.jobs.products.areas import area_text, area_unit, percent_text
from tests.apps.chromium import Shown, opened
from tests.apps.published import ELSEWHERE, Map, publish, read, served
from tests.integration.test_alerts import DATES

pytestmark = pytest.mark.apps

TILE_M = 2 * np.pi * 6_378_137 / 256
"""Metres per pixel of Web Mercator at zoom 0."""
_mercator = Transformer.from_crs("OGC:CRS84", "+proj=webmerc +datum=WGS84 +over", always_xy=True)
"""Of longitudes that may go on beyond 180 degrees."""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if any(kept(library) is None for library in LIBRARIES):
        pytest.skip("the page's libraries are not in the cache: earthloom view OUT fetches them")
    return publish(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def url(out: Path) -> Iterator[str]:
    with served(str(out)) as made:
        yield made


@contextmanager
def page(browser: Any, address: str, **options: Any) -> Iterator[Shown]:
    """An opened page whose map is drawn; at the end nothing may have gone wrong in it."""
    with opened(browser, address, **options) as shown:
        drawn(shown)
        yield shown
        assert shown.complaints == []


def drawn(shown: Shown) -> None:
    shown.wait_until("Number(document.body.dataset.drawn) > 0")


def address(url: str, made: Map, zoom: float, day: str, **more: str) -> str:
    lon, lat = made.lonlat.reshape(-1, 2).mean(axis=0)
    said = {"g": "water-index", "d": day, "at": f"{lon:.5f},{lat:.5f},{zoom}", **more}
    return f"{url}#{'&'.join(f'{name}={quote(value)}' for name, value in said.items())}"


def on_screen(shown: Shown, lonlat: NDArray[np.float64]) -> NDArray[np.int64]:
    """Columns and rows of the window at which places lie, by what the page's address says of its view."""
    at = re.search(r"at=([-\d.]+)%2C([-\d.]+)%2C([-\d.]+)", shown.page.url)
    assert at
    lon, lat, zoom = map(float, at.groups())
    box = shown.page.locator("#map").bounding_box()
    middle = np.array(_mercator.transform(lon, lat))
    away = np.stack(_mercator.transform(lonlat[..., 0], lonlat[..., 1]), axis=-1) - middle
    pixels = away / (TILE_M / 2**zoom) * (1, -1) + (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    found: NDArray[np.int64] = np.floor(pixels).astype(np.int64)
    return found


def agreement(shown: Shown, made: Map, side: tuple[int, int] = (350, 1190), *, by: int = 0) -> float:
    """Part of the map's pixels, of those in the window, whose middle has the colour that the file gives it.

    A line of the graticule, two pixels wide, may run through a middle; the colour beside it counts as well.

    Args:
        side: columns of the window that are looked at.
        by: colours are held against those of the pixel so many columns further on.
    """
    places, window = on_screen(shown, made.lonlat), shown.pixels()
    cols, rows = places[..., 0], places[..., 1]
    seen = (cols > side[0]) & (cols < side[1]) & (rows > 110) & (rows < window.shape[0] - 120)
    assert seen.sum() > 500
    wanted = np.roll(made.colors, -by, axis=1)[seen]
    same = [(window[rows[seen] + off, cols[seen] + off] == wanted).all(axis=-1) for off in (0, 2)]
    return float((same[0] | same[1]).mean())


@pytest.mark.parametrize("scene", sorted(ELSEWHERE.keys() - {"across"}))  # docs/page.md, Limits
def test_every_pixel_has_its_colour_at_its_place(browser: Any, url: str, out: Path, scene: str) -> None:
    made = read(out, scene)
    with page(browser, address(url, made, 14.3, "2026-07-01")) as shown:
        at_its_place = agreement(shown, made)
        assert at_its_place > 0.97  # of a map in degrees, OpenLayers draws a pixel up to half a pixel away
        assert at_its_place - max(agreement(shown, made, by=by) for by in (-1, 1)) > 0.03


def test_each_date_shows_its_own_map_and_the_keys_go_through_them(browser: Any, url: str, out: Path) -> None:
    first = read(out, "d1")
    with page(browser, address(url, first, 13.5, DATES[1])) as shown:
        assert agreement(shown, first) > 0.97
        for key, number in (("]", 2), ("]", 3), ("[", 2)):
            before = shown.page.evaluate("document.body.dataset.drawn")
            shown.page.locator("#map").press(key)
            shown.wait_until(f"Number(document.body.dataset.drawn) > {before}")
            assert agreement(shown, read(out, f"d{number}")) > 0.97
            assert shown.page.locator("#day-label").inner_text() == f"{DATES[number]} ({number + 1} of 4 in view)"
        assert f"d={DATES[2]}" in shown.page.url
        assert shown.page.locator("#day").input_value() == "2"
        for name in (
            "Earlier",
            "Later",
            "Play the dates",
            "Dark or light",
        ):  # as a screen reader calls what shows a sign
            assert shown.page.get_by_role("button", name=name, exact=True).count() == 1


def test_the_line_divides_two_dates_and_can_be_moved(browser: Any, url: str, out: Path) -> None:
    first, last = read(out, "d0"), read(out, "d2")
    with page(browser, address(url, first, 13.5, DATES[0], og="water-index", od=DATES[2], w="500")) as shown:
        box = shown.page.locator("#map").bounding_box()
        for split in (500, 300):
            shown.page.locator("#split").fill(str(split))
            edge = int(box["x"] + box["width"] * split / 1000)
            assert agreement(shown, first, (350, edge - 4)) > 0.97
            assert agreement(shown, last, (edge + 4, 1190)) > 0.97


def test_a_click_tells_what_the_files_say_of_that_place(browser: Any, url: str, out: Path) -> None:
    maps = [read(out, f"d{number}") for number in range(4)]
    names, (row, col) = ("land", "water"), (100, 80)
    with page(browser, address(url, maps[3], 13.5, DATES[3])) as shown:
        x, y = on_screen(shown, maps[3].lonlat[row, col])
        shown.page.mouse.click(int(x), int(y))
        strip = shown.page.locator("#answer svg[aria-label]")
        strip.wait_for()
        said = shown.page.locator("#answer").inner_text()
        assert re.search(rf"class\s+{names[maps[3].values[row, col]]}\s", said)
        sure = maps[3].confidence[row, col] * 0.004
        told = re.findall(r"confidence\s+([\d.]+) %", said)
        assert float(told[0]) == pytest.approx(100 * sure, abs=0.06)
        series = "; ".join(f"{day}: {names[made.values[row, col]]}" for day, made in zip(DATES, maps, strict=True))
        assert strip.get_attribute("aria-label") == series
        assert len({made.values[row, col] for made in maps}) == 2
        shown.page.keyboard.press("Escape")
        assert shown.page.locator("#answer").is_hidden()


@pytest.mark.parametrize("scene", ["across", "across-mercator"])
def test_a_click_on_either_side_of_180_degrees_tells_what_lies_there(
    browser: Any, url: str, out: Path, scene: str
) -> None:
    made = read(out, scene)
    with page(browser, address(url, made, 13.3, "2026-07-01")) as shown:
        for col in (40, 120):
            assert (made.lonlat[60, col, 0] > 180) == (col == 120)
            x, y = on_screen(shown, made.lonlat[60, col])
            shown.page.mouse.click(int(x), int(y))
            shown.page.locator("#answer dl").first.wait_for()
            said = shown.page.locator("#answer").inner_text()
            assert f"°{' E' if col == 40 else ' W'}" in said
            assert re.search(rf"class\s+{('land', 'water')[made.values[60, col]]}\s", said)
            told = re.findall(r"confidence\s+([\d.]+) %", said)
            assert float(told[0]) == pytest.approx(made.confidence[60, col] * 0.4, abs=0.06)
            shown.page.keyboard.press("Escape")


def test_the_legend_has_the_areas_of_the_result_and_hides_classes(browser: Any, url: str, out: Path) -> None:
    made = read(out, "d2")
    with page(browser, address(url, made, 13.5, DATES[2])) as shown:
        lines = [line.replace("\n", " ") for line in shown.page.locator("#legend li").all_inner_texts()]
        (path,) = out.glob("scenes/d2/*/result.json")
        areas = {one["name"]: one for one in json.loads(path.read_text())["class_areas"] if one["pixels"]}
        unit = area_unit(max(one["area_m2"] for one in areas.values()))
        assert [line.split()[0] for line in lines] == ["land", "water"]
        for line in lines:
            one = areas[line.split()[0]]
            assert line.endswith(f"{area_text(one['area_m2'], unit)} · {percent_text(one['percent'])}")
        (water,) = np.unique(made.colors[made.values == 1], axis=0)
        assert (shown.pixels()[120:680, 400:] == water).all(axis=-1).sum() > 1000
        shown.page.locator("#legend li", has_text="water").locator("input").uncheck()
        assert (shown.pixels()[120:680, 400:] == water).all(axis=-1).sum() == 0


def test_classes_of_unlike_size_have_one_unit_and_a_small_one_is_not_nothing(
    browser: Any, out: Path, tmp_path: Path
) -> None:
    (row, *_) = json.loads((out / "collections" / "water-index" / "page.json").read_text())["rows"]
    folder = changed_index(out, tmp_path / "out", [row | {"areas": {"0": 1.2e9, "1": 54_321.0}}])
    with served(str(folder)) as url, page(browser, f"{url}#g=water-index") as shown:
        assert shown.page.locator("#legend .size").all_inner_texts() == ["1,200 km² · 100.0 %", "0.05 km² · <0.1 %"]


def test_areas_and_shares_are_rounded_as_in_tables_and_pictures(browser: Any, url: str) -> None:
    rng = np.random.default_rng(0)
    areas = [0.0, 8.125, 99.5, 999.9, 1000.0, 9_995.0, 122_500.0, 9_999_999.0, 1e7, 12_250_000.0, 1_234_500_000.0]
    areas += (10 ** rng.uniform(-1, 11, 200)).round(3).tolist()
    shares = [0.0, 0.04, 0.05, 0.25, 0.35, 41.25, 99.95, 100.0, *rng.uniform(0, 100, 100).round(6).tolist()]
    with opened(browser, url) as shown:
        said = shown.page.evaluate(
            """async ([areas, shares]) => {
              const {area, areaUnit, percent} = await import('./page/catalogue.js');
              return [areas.map((m2) => area(m2)), areas.map((m2) => area(m2, areaUnit(5e6))), shares.map(percent)];
            }""",
            [areas, shares],
        )
    hectares = area_unit(5e6)
    assert said == [
        [area_text(m2) for m2 in areas], [area_text(m2, hectares) for m2 in areas], [percent_text(one) for one in shares]
    ]  # fmt: skip


def test_a_date_that_knows_little_of_the_ground_is_no_point_of_the_chart(browser: Any, url: str) -> None:
    days = ["2020-07-01", "2020-07-11", "2020-07-21"]
    areas = [{"0": 8e6, "1": 2e6}, {"0": 3e6, "1": 1e6}, {"0": 7.5e6, "1": 2.4e6}]
    rows = [{"day": day, "areas": known} for day, known in zip(days, areas, strict=True)]
    raster = {"classes": [{"value": value, "name": str(value), "color": "#1f78b4"} for value in (0, 1)]}
    with opened(browser, url) as shown:
        text, points = shown.page.evaluate(
            """async ([rows, raster]) => {
              const {areasOverTime} = await import('./page/legend.js');
              const chart = areasOverTime(rows, raster, new Set());
              return [chart.querySelector('p').textContent, chart.querySelectorAll('circle').length];
            }""",
            [rows, raster],
        )
    assert text.startswith("km² over the dates in view; without 1 of 3 dates, which know less than 90 %")
    assert points == 4


def test_alerts_are_drawn_and_asked(browser: Any, url: str, out: Path) -> None:
    made = read(out, "d3")
    with page(browser, address(url, made, 13.5, DATES[3])) as shown:
        shown.page.locator("#features li", has_text="flooded").locator("input").check()
        count = shown.page.locator("#features .size").first
        shown.wait_until("document.querySelector('#features .size').textContent")
        assert count.inner_text() == "2"
        x, y = on_screen(shown, made.lonlat[55, 80])  # in the lake's part north of the strip that fell dry
        shown.page.wait_for_timeout(500)
        shown.page.mouse.click(int(x), int(y))
        shown.page.locator("#answer h3", has_text="Alert").wait_for()
        said = shown.page.locator("#answer").inner_text()
        assert re.search(r"state\s+confirmed", said)
        assert re.search(rf"first date\s+{DATES[1]}\s", said)


def test_an_address_that_was_shared_opens_the_same_view(browser: Any, url: str, out: Path) -> None:
    made = read(out, "d2")
    with page(browser, address(url, made, 13.5, DATES[2], og="water-index", od=DATES[0], w="400", o="70")) as shown:
        seen, shared = shown.pixels(), shown.page.url
        chosen = {
            name: shown.page.locator(f"#{name}").input_value()
            for name in ("group", "day", "opacity", "split", "other-day")
        }
    with page(browser, shared) as shown:
        assert {name: shown.page.locator(f"#{name}").input_value() for name in chosen} == chosen
        assert (shown.pixels() == seen).all(axis=-1).mean() > 0.999


def test_dark_is_dark_and_light_is_light(browser: Any, url: str) -> None:
    for scheme, low, high in (("dark", 0, 80), ("light", 170, 256)):
        with page(browser, url, color_scheme=scheme) as shown:
            assert low <= np.median(shown.pixels()[:, :330]) < high
            shown.page.locator("#map").press("d")
            assert not low <= np.median(shown.pixels()[:, :330]) < high


def test_on_a_telephone_nothing_leaves_its_box(browser: Any, url: str, out: Path) -> None:
    made = read(out, "d2")
    with page(browser, address(url, made, 12, DATES[2]), width=360, height=700) as shown:
        time = shown.page.locator("#time").bounding_box()
        assert time["x"] >= 0
        assert time["x"] + time["width"] <= 360
        for part in shown.page.locator("#time > *").all():
            box = part.bounding_box()
            assert time["x"] <= box["x"]
            assert box["x"] + box["width"] <= time["x"] + time["width"]
        assert shown.page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_page_of_a_run_can_be_read_on_a_telephone(browser: Any, url: str, out: Path) -> None:
    run = next(out.glob("runs/*/index.html")).relative_to(out)
    with opened(browser, f"{url}{run}", width=360, height=700) as shown:
        assert shown.page.evaluate("document.documentElement.scrollWidth") == 360
        names = shown.page.locator("td:first-child")
        assert min(cell.bounding_box()["width"] for cell in names.all()) > 100
        letters = shown.page.locator("svg text").first
        assert letters.bounding_box()["height"] > 7


def test_pictures_of_an_evaluation_fit_a_telephone(browser: Any) -> None:
    png = io.BytesIO()
    Image.new("RGB", (700, 700)).save(png, "PNG")
    figure = f'<figure><img alt="errors" src="{data_url(png.getvalue())}"><figcaption>lake</figcaption></figure>'
    with opened(browser, "about:blank", width=360, height=700) as shown:
        shown.page.set_content(html("lake", f'<div class="scenes">{figure}</div>'))
        assert shown.page.evaluate("document.documentElement.scrollWidth") == 360


def changed_index(out: Path, folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A copy of OUT whose index of `water-index` says something else."""
    shutil.copytree(out, folder, ignore=shutil.ignore_patterns("*.zarr", "blocks", "runs"))
    path = folder / "collections" / "water-index" / "page.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rows": rows}))
    return folder


def test_names_are_text_whatever_they_hold(browser: Any, out: Path, tmp_path: Path) -> None:
    evil = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\'"&amp;'
    (row, *_) = json.loads((out / "collections" / "water-index" / "page.json").read_text())["rows"]
    row |= {"id": evil, "scene": evil, "group": evil, "title": evil}
    row["rasters"][0]["classes"][1]["name"] = evil
    with (
        served(str(changed_index(out, tmp_path / "out", [row]))) as url,
        page(browser, f"{url}#g={quote(evil)}") as shown,
    ):
        shown.page.mouse.click(770, 400)
        shown.page.locator("#answer dl").first.wait_for()
        assert evil in shown.page.locator("#legend").inner_text()
        assert evil in shown.page.locator("#scenes").inner_text()
        assert evil in shown.page.locator("#answer").inner_text()
        assert shown.page.evaluate("window.hacked") is None
        assert shown.page.locator("img").count() == 0


def test_outlines_that_are_too_many_are_counted(browser: Any, out: Path, tmp_path: Path) -> None:
    (row, *_) = json.loads((out / "collections" / "water-index" / "page.json").read_text())["rows"]
    folder = changed_index(out, tmp_path / "out", [row | {"features": ["many.fgb"]}])
    west, south, *_ = row["bbox"]
    places = gpd.points_from_xy(west + np.arange(20_001) * 1e-6, np.full(20_001, south))
    frame = gpd.GeoDataFrame({"number": range(20_001)}, geometry=places, crs="EPSG:4326")
    frame.to_file(folder / row["path"] / "many.fgb", driver="FlatGeobuf", engine="pyogrio")
    with served(str(folder)) as url, page(browser, f"{url}#g=water-index") as shown:
        shown.page.locator("#features input").first.check()
        shown.wait_until("document.querySelector('#features .size').textContent")
        assert shown.page.locator("#features .size").first.inner_text() == "first 20,000 of 20,001"


def test_a_monitored_area_has_the_dates_of_its_cube(browser: Any, url: str, out: Path) -> None:
    first = read(out, "d1")
    with page(browser, address(url, first, 13.5, DATES[1], g="lake · water-index")) as shown:
        assert agreement(shown, first) > 0.97
        assert shown.page.locator("#day-label").inner_text() == f"{DATES[1]} (2 of 4 in view)"
        assert shown.page.locator("#scenes li").count() == 4


def test_the_newest_result_of_a_scene_is_drawn_and_an_older_one_when_it_is_chosen(
    browser: Any, out: Path, tmp_path: Path
) -> None:
    older, newest = read(out, "d0"), read(out, "d2")  # stand in for two results of one scene
    rows = json.loads((out / "collections" / "water-index" / "page.json").read_text())["rows"]
    by_scene = {row["scene"]: row for row in rows}
    both = [
        by_scene["d0"] | {"scene": "lake", "superseded": True},
        by_scene["d2"] | {"scene": "lake", "start": by_scene["d0"]["start"], "end": by_scene["d0"]["end"]},
    ]
    with (
        served(str(changed_index(out, tmp_path / "out", both))) as url,
        page(browser, address(url, newest, 13.5, DATES[0])) as shown,
    ):
        assert agreement(shown, newest) > 0.97
        items = shown.page.locator("#scenes li")
        assert [("older result" in text) for text in items.all_inner_texts()] == [True, False]
        before = shown.page.evaluate("document.body.dataset.drawn")
        items.nth(0).locator("button").click()
        shown.wait_until(f"Number(document.body.dataset.drawn) > {before}")
        shown.page.wait_for_timeout(1000)
        assert agreement(shown, older) > 0.97
        assert shown.page.locator("#scenes [aria-current=true]").count() == 1


def test_a_thousand_scenes_come_with_a_handful_of_requests(browser: Any, out: Path, tmp_path: Path) -> None:
    (row, *_) = json.loads((out / "collections" / "water-index" / "page.json").read_text())["rows"]
    west, south, east, north = row["bbox"]
    rows = [
        row | {"id": f"scene-{number:04}", "scene": f"scene-{number:04}", "start": f"2020-01-{1 + number % 28:02}T00:00:00Z",
               "bbox": [west + number // 28 * 2 - 70, south, east + number // 28 * 2 - 70, north]}
        for number in range(1000)
    ]  # fmt: skip
    with served(str(changed_index(out, tmp_path / "out", rows))) as url, page(browser, f"{url}#g=water-index") as shown:
        assert "200 of 1000" in shown.page.locator("#scenes-note").inner_text()
        assert len(shown.requests) < 60
        shown.page.locator("#search").fill("scene-0777")
        assert shown.page.locator("#scenes li").count() == 1
        shown.page.locator("#scenes button").click()
        shown.page.wait_for_timeout(1000)
        assert f"d={rows[777]['start'][:10]}" in shown.page.url
