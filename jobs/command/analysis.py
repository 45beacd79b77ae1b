"""`earthloom sample`, `accuracy`, `export`, `report` and `items`, beside what they print. Decides nothing."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from earthloom.jobs.command.lines import plain
from earthloom.jobs.command.terminal import make_console, show_path

if TYPE_CHECKING:
    from earthloom.jobs.monitoring.composites.maps import ClassMap
    from earthloom.tiling.storage.store import Store

_Command = Callable[..., Any]
_DAY = click.DateTime(["%Y-%m-%d"])


def _of_maps(command: _Command) -> _Command:
    """The options that say which maps are meant."""
    for option in (
        click.option("--date", type=_DAY, help="a day of the area  [default: the last one]"),
        click.option("--aoi", "-a", help="name of a monitored area; without it, the committed scenes are used"),
        click.option("--scene", help="id of one scene"),
        click.option("--product", "-p", required=True, help="name of the product, as in OUT/collections: landwater"),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("out")
@_of_maps
@click.option("--points", "-n", type=int, default=500, show_default=True, help="number of points")
@click.option("--least", type=int, default=50, show_default=True, help="smallest number of points per class")
@click.option("--seed", type=int, default=0, show_default=True, help="seed of the random draw")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="file to write: FILE.gpkg")
def sample(out: str, points: int, least: int, seed: int, output: Path, **which: Any) -> None:
    """Draw a stratified random sample of points for interpretation.

    Writes a GeoPackage. Open it in QGIS over imagery, fill in the column `reference` of the layer `points` with names of
    classes, save, and give it to `earthloom accuracy`.
    """
    from earthloom.jobs.analysis.files import write_sample
    from earthloom.jobs.analysis.sample import draw_sample

    store, maps = _maps(out, **which)
    drawn = draw_sample(store, maps, points=points, least=least, seed=seed)
    write_sample(drawn, output)
    for row in drawn.strata.itertuples():
        make_console().print(f"{row[2]}: {row.points} points")
    show_path(str(output))


@click.command()
@click.argument("points", type=click.Path(path_type=Path))
@click.option("--reference", default="reference", show_default=True, help="column with the interpreted class")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on stdout")
def accuracy(points: Path, reference: str, as_json: bool) -> None:
    """Estimate accuracy and class areas from interpreted points.

    Gives 95 % intervals. POINTS is the GeoPackage of `earthloom sample`. The estimators are those of Olofsson et al.
    (2014).
    """
    from earthloom.jobs.analysis.accuracy import accuracy as judge
    from earthloom.jobs.analysis.files import read_sample

    found = judge(*read_sample(points), reference=reference)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        show_accuracy(found)


def show_accuracy(found: dict[str, Any]) -> None:
    """Each class with its accuracies and its area, mapped and estimated, and where these are less sure than they look."""
    from earthloom.jobs.analysis.accuracy import doubts
    from earthloom.jobs.products.areas import area_text, area_unit

    def percent(pair: list[float]) -> str:
        return f"{100 * pair[0]:.1f} ± {100 * pair[1]:.1f} %"

    table = Table()
    table.add_column("class")
    for heading in ("points", "user's accuracy", "producer's accuracy", "mapped", "estimated area"):
        table.add_column(heading, justify="right")
    unit = area_unit(max(max(row["mapped_m2"], row["area_m2"][0]) for row in found["classes"].values()))
    for name, row in found["classes"].items():
        area = f"{area_text(row['area_m2'][0], unit)} ± {area_text(row['area_m2'][1], unit)}"
        table.add_row(
            name, str(row["points"]), percent(row["users"]), percent(row["producers"]), area_text(row["mapped_m2"], unit), area
        )  # fmt: skip
    console = make_console(stderr=False)
    console.print(table)
    console.print(
        f"overall accuracy {percent(found['overall'])}; {found['interpreted']} of {found['points']} points are interpreted; "
        "± is half of a 95 % interval"
    )
    for text in doubts(found):
        console.print(f"[yellow]note[/] {plain(text)}", soft_wrap=True)


@click.command()
@click.argument("out")
@_of_maps
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True,
              help="file to write: FILE.tif, .gpkg, .shp, .fgb, .geojson (polygons), .png (a map to print), or .json (boxes of "
              "a detector, as COCO)")  # fmt: skip
@click.option("--clip", help="file of polygons; outside them is nodata")
@click.option("--crs", help="CRS of the output: EPSG:32612  [default: the map's own]")
@click.option("--min-area", "min_area_m2", type=float, default=0.0, help="area of the smallest polygon, in m²")
@click.option("--title", help="title of a picture")
def export(
    out: str, output: Path, clip: str | None, crs: str | None, min_area_m2: float, title: str | None, **which: Any
) -> None:
    """Export a map as GeoTIFF, polygons, a picture or COCO boxes.

    The map may be clipped and reprojected.
    """
    from earthloom.jobs.analysis.export import write_extract
    from earthloom.jobs.analysis.extract import extract
    from earthloom.jobs.monitoring.series.zonal import read_zones

    if output.suffix.lower() == ".json":
        others = {"--clip": clip, "--crs": crs, "--min-area": min_area_m2, "--title": title, "--aoi": which["aoi"],
                  "--date": which["date"]}  # fmt: skip
        _export_coco(out, output, which["product"], which["scene"], [name for name, value in others.items() if value])
        return
    store, maps = _maps(out, **which)
    found = extract(store, _one(maps), clip=read_zones(clip) if clip else None, crs=crs)
    for path in write_extract(found, output, title=title, min_area_m2=min_area_m2):
        show_path(str(path))


def _export_coco(out: str, output: Path, product: str, scene: str | None, others: list[str]) -> None:
    from earthloom.jobs.learning.coco import export_coco
    from earthloom.tiling.errors import ConfigError

    if others:
        raise ConfigError(f"{output} takes the boxes as they are published; leave {', '.join(others)} out")
    document = json.dumps(export_coco(out, product, scene))
    try:
        output.write_text(document)
    except OSError as error:
        raise ConfigError(f"`output={output}` cannot be written: {error.strerror or error}") from error
    show_path(str(output))


def _maps(
    out: str, *, product: str, scene: str | None, aoi: str | None, date: datetime.datetime | None
) -> tuple[Store, list[ClassMap]]:
    from earthloom.jobs.monitoring.questions import chosen_maps
    from earthloom.tiling.storage.objects import ObjectRef
    from earthloom.tiling.storage.store import open_store

    store, day = open_store(ObjectRef.parse(out)), date.date() if date else None
    maps = chosen_maps(store, product, aoi=aoi, scene=scene, since=day, until=day)
    return store, maps[-1:] if aoi and not day else maps


def _one(maps: list[ClassMap]) -> ClassMap:
    from earthloom.tiling.errors import ConfigError

    if len(maps) > 1:
        named = ", ".join(one.name for one in maps[:10])
        raise ConfigError(f"{len(maps)} maps are meant, and an export is of one; give `scene`, one of {named}")
    return maps[0]


@click.command()
@click.argument("out")
@click.option("--product", "-p", required=True, help="name of the product, as in OUT/collections: landwater")
@click.option("--aoi", "-a", required=True, help="name of a monitored area")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), required=True, help="file to write: FILE.html or FILE.pdf"
)
def report(out: str, product: str, aoi: str, output: Path) -> None:
    """Write a page about a monitored area.

    It shows areas, maps, changes and alerts. A file name that ends in .pdf gives a PDF, printed with Chromium or
    Chrome, which must be on PATH.
    """
    from earthloom.jobs.analysis.pdf import find_browser, print_pdf
    from earthloom.jobs.analysis.report import area_report
    from earthloom.tiling.errors import ConfigError
    from earthloom.tiling.storage.objects import ObjectRef
    from earthloom.tiling.storage.store import open_store

    browser = find_browser() if output.suffix.lower() == ".pdf" else None
    page = area_report(open_store(ObjectRef.parse(out)), product, aoi)
    made = print_pdf(page, browser) if browser else page.encode()
    try:
        output.write_bytes(made)
    except OSError as error:
        raise ConfigError(f"`output={output}` cannot be written: {error.strerror}") from error
    show_path(str(output))


@click.command()
@click.argument("out")
@click.option("--product", "-p", required=True, help="name of the product, as in OUT/collections: landwater")
@click.option("--public-url", help="https:// address at which a web server publishes OUT")
def items(out: str, product: str, public_url: str | None) -> None:
    """Print STAC items with absolute hrefs as one ItemCollection.

    Load them into a STAC API, for example. Each scene appears once, without superseded results. With --public-url, each
    asset has that address, and its address in the bucket as an alternate.
    """
    from earthloom.jobs.analysis.items import items_of

    print(json.dumps(items_of(out, product, public_url=public_url), indent=1))
