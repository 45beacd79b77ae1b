"""`earthloom change`, `zonal` and `areas`, beside what they print. Decides nothing; heavy modules are imported inside."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from earthloom.jobs.command.options import SectionedCommand, options_of
from earthloom.jobs.command.terminal import make_console, show_path
from earthloom.jobs.config import EngineOptions

if TYPE_CHECKING:
    import pandas as pd

    from earthloom.jobs.monitoring.questions import ChangeResult


_output = click.option(
    "--output", "-o", type=click.Path(path_type=Path),
    help="write the table here instead of to the terminal: FILE.csv or FILE.parquet",
)  # fmt: skip


@click.command(cls=SectionedCommand)
@click.argument("out")
@click.option(
    "--product", "-p", required=True, help="name of the product, as in OUT/collections: landwater, cloudmask-landwater"
)
@click.option("--aoi", "-a", required=True, help="name of a monitored area")
@click.option("--from", "before", required=True, help="date or period: 1985, 2020-DJF, 2020-07, 2020-07-D1, 2020-07-01")
@click.option(
    "--to",
    "after",
    required=True,
    help="the same. A period stands for its composite, otherwise for the date nearest to its middle",
)
@click.option(
    "--min-area", "min_area_m2", type=float, help="area of the smallest polygon, in m²  [default: nine pixels]"
)
@click.option("--key", help="key of the cube  [default: the cube that the AOI file requested last]")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on stdout")
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="local: threads of this process; ray: Ray actors, for large areas",
)
@options_of(EngineOptions, but=("executor",), section="Where to compute")
def change(out: str, as_json: bool, **options: Any) -> None:
    """Compare two dates or periods of a monitored area.

    Prints the change matrix, and publishes it with a change map and polygons.
    """
    from earthloom.jobs.config import check
    from earthloom.jobs.monitoring.questions import ChangeConfig
    from earthloom.jobs.monitoring.questions import change as do_change

    given = {name: value for name, value in options.items() if value not in (None, ())}
    made = do_change(check(ChangeConfig, {"out": out, **given}))
    if as_json:
        base = f"{made.out.rstrip('/')}/{made.prefix}"
        files = {name: f"{base}/{name}" for name in made.files}
        click.echo(json.dumps({**made.document, "folder": base, "of": made.note, "files": files}, indent=2))
    else:
        show_change(made)


def show_change(made: ChangeResult) -> None:
    """The matrix in one unit, what its sides are, and where map and tables lie."""
    from earthloom.jobs.products.areas import area_text, area_unit

    document = made.document
    rows = document["transitions"]
    names = [entry["name"] for entry in document["classes"]]
    areas = {(row["before"], row["after"]): row["area_m2"] for row in rows}
    areas.pop(("nodata", "nodata"), None)  # mostly what lies between the area and the edges of whole shards
    befores = [name for name in (*names, "nodata") if any(key[0] == name for key in areas)]
    afters = [name for name in (*names, "nodata") if any(key[1] == name for key in areas)]
    known = [area for (before, after), area in areas.items() if "nodata" not in (before, after)]
    unit = area_unit(max(known, default=0.0))
    console = make_console(stderr=False)
    table = Table()
    table.add_column(f"{document['from']['name']} → {document['to']['name']}")
    for name in afters:
        table.add_column(name, justify="right")
    for before in befores:
        cells = [areas.get((before, after)) for after in afters]
        table.add_row(before, *("" if area is None else area_text(area, unit) for area in cells))
    console.print(f"{document['aoi']} {document['product']}: from (rows) to (columns)")
    console.print(table)
    changed = [row for row in rows if row["value"]]
    for row in sorted(changed, key=lambda row: -row["area_m2"]):
        console.print(
            f"[{row['color']}]■[/] {row['before']} → {row['after']}: {area_text(row['area_m2'])}, {row['pixels']:,} px, "
            f"confidence {row['confidence']:.2f}"
        )
    if not changed:
        console.print("nothing changed")
    console.print(
        f"{document['polygons']} polygons of {area_text(document['min_area_m2'])} or more; {made.note}", soft_wrap=True
    )
    for name in made.files:
        if name.endswith((".tif", ".parquet", ".json", ".png")):
            show_path(f"{made.out.rstrip('/')}/{made.prefix}/{name}")


@click.command()
@click.argument("polygons")
@click.argument("out")
@click.option("--product", "-p", required=True, help="name of the product, as in OUT/collections")
@click.option("--aoi", "-a", help="name of a monitored area; without it, the committed scenes are used")
@click.option("--scene", help="id of one scene")
@click.option("--name", help="column with the names of the polygons")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="first day")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="last day")
@_output
def zonal(polygons: str, out: str, product: str, output: Path | None, **options: Any) -> None:
    """Compute class areas per polygon and date.

    A pixel at an edge counts by the fraction that the polygon covers. POLYGONS is any vector file that GDAL reads
    (GeoJSON, GeoPackage, Shapefile, FlatGeobuf) or GeoParquet, in any CRS.
    """
    from earthloom.jobs.monitoring.questions import zones_of

    days = {name: options[name].date() if options[name] else None for name in ("since", "until")}
    _write(zones_of(polygons, out, product, **{**options, **days}), output)


@click.command()
@click.argument("out")
@click.option("--product", "-p", required=True, help="name of the product, as in OUT/collections")
@click.option("--aoi", "-a", help="name of a monitored area: one row per class and date of its cube")
@click.option("--scene", help="id of one scene")
@_output
def areas(out: str, product: str, aoi: str | None, scene: str | None, output: Path | None) -> None:
    """Print class areas of a product, each scene once.

    Superseded results are left out.
    """
    from earthloom.jobs.monitoring.questions import areas_of

    _write(areas_of(out, product, aoi=aoi, scene=scene), output)


def _write(rows: pd.DataFrame, file: Path | None) -> None:
    from earthloom.jobs.monitoring.series.series import table_csv, table_parquet
    from earthloom.tiling.errors import ConfigError

    if file is None:
        sys.stdout.write(table_csv(rows).decode())
        return
    if file.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"`output={file}`: a table is .csv or .parquet, by the ending of its name")
    try:
        file.write_bytes(table_parquet(rows) if file.suffix == ".parquet" else table_csv(rows))
    except OSError as error:
        raise ConfigError(f"`output={file}` cannot be written: {error.strerror}") from error
    make_console().print(f"{len(rows):,} rows in {file}")
