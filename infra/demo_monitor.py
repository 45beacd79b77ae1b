"""`make demo-monitor`: an area over three dates, from scenes to a cube, changes, alerts, a series and its plot.

The dates are those of `earthloom demo --scenes`: one is a part of the demo's scene, two are made up from its pixels. So what
the demo finds is what was planted.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

OUT = Path("demo-output/monitor")
_ROWS_SHOWN = 8

FILE = """name = "great-salt-lake"
bbox = [{west:.4f}, {south:.4f}, {east:.4f}, {north:.4f}]
crs = "EPSG:32612"
gsd = 30
shard = 512

[[product]]
model = "water-index"
scenes = ["{scenes}/lake_*.tif"]

[product.options]
sensor = "landsat7-etm-dn"
sun_elevation = 60
date_pattern = "lake_%Y-%m-%d"
shard = 512
block = 512

[[product.change]]
from = "2001"
to = "2021"

[[product.alert]]
name = "drying"
from = "water"
to = "land"
confirmations = 2
min_area_m2 = 10000
"""


def show_alerts(table: Any) -> None:
    """The alerts, the largest first."""
    from rich.table import Table

    from earthloom.jobs.command.terminal import make_console
    from earthloom.jobs.products.areas import area_text

    shown = Table(title="alerts: water that became land", title_justify="left")
    for name in ("state", "first seen", "last seen", "dates", "area", "confidence"):
        shown.add_column(name, justify="right" if name in ("dates", "area", "confidence") else "left")
    living = table[table["state"].isin(("provisional", "confirmed"))].sort_values("area_m2", ascending=False)
    for _, row in living.head(_ROWS_SHOWN).iterrows():
        shown.add_row(
            row["state"], str(row["first_date"]), str(row["last_date"]), str(row["count"]), area_text(row["area_m2"]),
            f"{row['confidence']:.2f}",
        )  # fmt: skip
    console = make_console(stderr=False)
    console.print(shown)
    console.print(
        f"{len(living)} alerts are confirmed or provisional; {len(table) - len(living)} have merged, were dropped or have ended"
    )


def main() -> None:
    """Make the scenes, monitor them, and show what came of it."""
    import geopandas as gpd

    import earthloom
    from earthloom.jobs.command.change import show_change
    from earthloom.jobs.command.demo_dates import NOTE, write_dates
    from earthloom.jobs.monitoring.questions import ChangeConfig, change

    started = time.monotonic()
    _, (west, south, east, north) = write_dates(OUT / "scenes")
    print(NOTE)
    file = OUT / "great-salt-lake.toml"
    file.write_text(FILE.format(west=west, south=south, east=east, north=north, scenes=OUT / "scenes"))
    result = earthloom.monitor(file, out=OUT / "maps", executor="local")
    (product,) = result.products
    for _, _, text in product.errors:
        raise SystemExit(f"the demo failed: {text}")
    maps = str(OUT / "maps")
    asked = ChangeConfig(out=maps, product=product.product, aoi=product.aoi, before="2001", after="2021")
    show_change(change(asked))
    folder = OUT / "maps" / product.prefix
    (made,) = product.derived["alerts"].values()
    alerts = OUT / "maps" / made["view"] / "alerts.parquet"
    show_alerts(gpd.read_parquet(alerts))
    print(f"plot    {folder / 'series.png'}")
    print(f"alerts  {alerts}")
    print(f"{time.monotonic() - started:.0f} s; again: only what is new. Its AOI file: {file}")


if __name__ == "__main__":
    main()
