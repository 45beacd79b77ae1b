"""`make demo-monitor`: an area over three dates, from scenes to a cube, changes, alerts, a series and its plot.

One date is a part of the Landsat 7 scene of `make demo`, the Great Salt Lake's western shore. The other two are made here
from the same pixels, because no second date of it is at hand: wherever water lies up to so many pixels east of land, that
land is drawn over it. So the lake recedes by a known distance, and what the demo finds is what was planted.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OUT = Path("demo-output/monitor")
GREEN, SWIR = 1, 4  # bands 2 and 5, from 0
_COLS, _ROWS = (420, 900), (0, 300)
_ROWS_SHOWN = 8
STEP_PX = 25
DATES = ("2001-08-01", "2011-08-01", "2021-08-01")
"""The first is the scene as it was taken; on each other the shore has moved `STEP_PX` further to the east."""

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


def recede(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The scene with its water's western shores moved to the east: (bands, rows, columns) of Landsat's digital numbers."""
    from_west = np.concatenate([pixels[..., :STEP_PX], pixels[..., :-STEP_PX]], axis=-1)
    dried = (pixels[GREEN] > pixels[SWIR]) & (from_west[GREEN] <= from_west[SWIR])
    return np.where(dried, from_west, pixels)


def make_scenes(source: Path, folder: Path) -> tuple[float, float, float, float]:
    """Write a scene for each date; west, south, east and north of their ground, in degrees."""
    import rasterio
    from rasterio.windows import Window

    window = Window.from_slices(_ROWS, _COLS)
    with rasterio.open(source) as dataset:
        pixels, names = dataset.read(window=window), dataset.descriptions
        profile = {
            "driver": "GTiff", "dtype": "uint8", "count": len(names), "width": pixels.shape[2], "height": pixels.shape[1],
            "crs": dataset.crs, "transform": dataset.window_transform(window), "tiled": True, "compress": "deflate",
        }  # fmt: skip
        bounds = dataset.window_bounds(window)
    folder.mkdir(parents=True, exist_ok=True)
    for date in DATES:
        path = folder / f"lake_{date}.tif"
        if not path.exists():  # a file that is written again is another source
            with rasterio.open(path, "w", **profile) as target:
                target.write(pixels)
                target.descriptions = names
        pixels = recede(pixels)
    west, south, east, north = (float(side) for side in bounds)
    return west, south, east, north


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
    console.print(f"{len(living)} alerts that live, {len(table) - len(living)} that are merged, dropped or closed")


def main() -> None:
    """Make the scenes, monitor them, and show what came of it."""
    import geopandas as gpd

    import earthloom
    from earthloom.jobs.command.change import show_change
    from earthloom.jobs.command.demo_scene import demo_scene
    from earthloom.jobs.monitoring.questions import ChangeConfig, change

    started = time.monotonic()
    west, south, east, north = make_scenes(demo_scene(), OUT / "scenes")
    print(
        f"{DATES[0]} is Landsat 7 as it was taken; its date is made up. {DATES[1]} and {DATES[2]} are SYNTHETIC: the same\n"
        f"pixels with the western shore moved to the east by {STEP_PX} px each. Nothing here says how the lake has changed."
    )
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
