"""`python -m infra.monitoring_pictures`: the pictures and figures of docs/gallery-monitoring.md, from real scenes.

The scenes are those of EARTHLOOM_DATA: eight years of Landsat around Pucallpa, and three years of NAIP over wetlands, both
in the public domain. Maps are made below the folder that is given, and their figures are printed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import earthloom

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
DATA = Path(os.environ.get("EARTHLOOM_DATA", ROOT.parent / "shared" / "data"))

_OPTIONS = """scale = 0.00392156862745098
quantity = "reflectance"
nodata_in = "all"
date_pattern = "%Y%m%d"
shard = 512
block = 512
"""
PUCALLPA = f"""name = "pucallpa"
bbox = [-74.7225, -8.5869, -74.1590, -8.2821]
crs = "EPSG:32718"
gsd = 90
shard = 512

[[product]]
model = "water-index"
scenes = ["scenes/*.tif"]
[product.options]
bands = "swir16=1,nir=2,red=3,green=4"
{_OPTIONS}
[[product.change]]
from = "1985"
to = "2020"

[[product.alert]]
name = "land-to-water"
from = "land"
to = "water"
settling = 3
min_area_m2 = 100000

[[product]]
model = "bands"
scenes = ["scenes/*.tif"]
composites = [{{ every = "year", rule = "best" }}]
[product.options]
bands = "swir16=1,nir=2,red=3,green=4"
{_OPTIONS}
[[product]]
model = "flood"
scenes = ["scenes/*.tif"]
before = {{ product = "bands", every = "year", rule = "best" }}
[product.options]
bands = "swir16=1,nir=2,red=3,green=4"
{_OPTIONS}
"""
WETLANDS = f"""name = "wetlands"
bbox = [-99.1858, 47.0043, -99.1242, 47.0373]
crs = "EPSG:26914"
gsd = 5
shard = 512

[[product]]
model = "water-index"
scenes = ["scenes/*.tif"]
[product.options]
bands = "red=1,green=2,blue=3,nir=4"
{_OPTIONS}
[[product.change]]
from = "2010"
to = "2019"
"""

_BEND = (-74.365, -8.555, -74.265, -8.47)
_STATES = {
    "provisional": "#ffd92f", "confirmed": "#e31a1c", "closed": "#ffffff", "settled": "#ff7f00", "dropped": "#f781bf",
    "merged": "#00ffff",
}  # fmt: skip


def make(folder: Path) -> None:
    """Monitor both areas below a folder, and put their pictures into docs/images."""
    years = {f"{path.stem}0701.tif": path for path in sorted((DATA / "timeseries_landsat_pucallpa").glob("*.tif"))}
    days = {path.name: path for path in sorted((DATA / "timeseries_naip").glob("*.tif"))}
    puc, wet = _monitor(folder / "pucallpa", PUCALLPA, years), _monitor(folder / "wetlands", WETLANDS, days)
    _photograph([years["19850701.tif"], years["20200701.tif"]], (1, 2, 4), 0.75, "monitoring-pucallpa-scenes.jpg")
    _photograph(list(days.values()), (4, 1, 2), 0.5, "monitoring-wetlands-scenes.jpg")
    for name, one in (("pucallpa", puc["water-index"]), ("wetlands", wet["water-index"])):
        shutil.copy(one.folder / "series.png", IMAGES / f"monitoring-{name}-series.png")
        (change,) = one.result.derived["change"].values()
        shutil.copy(one.out / change["prefix"] / "quicklook.png", IMAGES / f"monitoring-{name}-change.png")
        _tell(name, json.loads((one.out / change["prefix"] / "transitions.json").read_text()))
    alerts = puc["water-index"].result.derived["alerts"]["land-to-water"]
    print("alerts", alerts)
    partitions = puc["water-index"].out / Path(alerts["view"]).parents[1] / "updates" / "1"
    _draw_alerts({year: years[f"{year}0701.tif"] for year in ("2005", "2010", "2015", "2020")}, partitions)
    flood = puc["flood"].result.run.results["20200701"].prefix
    shutil.copy(puc["flood"].out / flood / "quicklook.png", IMAGES / "monitoring-pucallpa-flood.png")


class _Monitored:
    def __init__(self, out: Path, result: Any) -> None:
        self.out, self.result, self.folder = out, result, out / result.prefix


def _monitor(folder: Path, text: str, scenes: dict[str, Path]) -> dict[str, _Monitored]:
    """The area's products by name; scenes are copied, because dates are read from their names."""
    (folder / "scenes").mkdir(parents=True, exist_ok=True)
    for name, path in scenes.items():
        if not (folder / "scenes" / name).exists():
            shutil.copy(path, folder / "scenes" / name)
    file = folder / "area.toml"
    file.write_text(text.replace('"scenes/', f'"{folder}/scenes/'))
    result = earthloom.monitor(file, out=folder / "out", executor="local")
    assert not result.exit_code, [one.errors for one in result.products]
    return {one.product: _Monitored(folder / "out", one) for one in result.products}


def _photograph(paths: list[Path], bands: tuple[int, int, int], size: float, name: str) -> None:
    """Scenes side by side, in false colours."""
    import rasterio

    pictures = []
    for path in paths:
        with rasterio.open(path) as dataset:
            pixels = np.moveaxis(dataset.read(bands), 0, -1)
        picture = Image.fromarray(pixels)
        pictures.append(
            picture.resize((int(picture.width * size), int(picture.height * size)), Image.Resampling.LANCZOS)
        )
    gap = 8
    whole = Image.new("RGB", (sum(p.width for p in pictures) + gap * (len(pictures) - 1), pictures[0].height), "white")
    for number, picture in enumerate(pictures):
        whole.paste(picture, (number * (pictures[0].width + gap), 0))
    whole.save(IMAGES / name, quality=82)


def _draw_alerts(scenes: dict[str, Path], partitions: Path) -> None:
    """What each update said of the alerts at one bend of the river, over the image of its year."""
    import geopandas as gpd
    import rasterio
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(13, 3.7), layout="constrained")
    for axes, (year, path) in zip(figure.subplots(1, len(scenes)), scenes.items(), strict=True):
        with rasterio.open(path) as dataset:
            pixels, bounds = np.moveaxis(dataset.read((1, 2, 4)), 0, -1), dataset.bounds
        axes.imshow(pixels, extent=(bounds.left, bounds.right, bounds.bottom, bounds.top), interpolation="nearest")
        (partition,) = partitions.glob(f"{year}*.parquet")
        rows = gpd.read_parquet(partition)
        for state, color in _STATES.items():
            shown = rows[rows["state"] == state]
            if len(shown):
                shown.boundary.plot(ax=axes, color=color, linewidth=1.2, aspect=None)
        west, south, east, north = _BEND
        axes.set(xlim=(west, east), ylim=(south, north), xticks=[], yticks=[], xlabel="", ylabel="", title=year)
        axes.set_aspect(1 / np.cos(np.radians((south + north) / 2)))
    lines = [Line2D([], [], color=color, label=state, linewidth=2) for state, color in _STATES.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), facecolor="#999999")
    figure.savefig(IMAGES / "monitoring-pucallpa-alerts.png", dpi=100)


def _tell(name: str, document: dict[str, Any]) -> None:
    print(f"{name}: {document['from']['name']} to {document['to']['name']}, {document['polygons']} polygons")
    for row in document["transitions"]:
        print(
            f"  {row['before']} -> {row['after']}: {row['area_m2'] / 1e6:.2f} km2, {row['pixels']} px, {row['confidence']}"
        )


if __name__ == "__main__":
    make(Path(sys.argv[1]).resolve())
