"""`python -m infra.page_pictures PUCALLPA LAKE`: pictures of the README, docs/page.md and docs/analysts.md, of real results.

PUCALLPA is the OUT of `infra.monitoring_pictures`, LAKE that of `earthloom demo`. Needs Playwright, and Debian's Chromium
and QGIS.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import geopandas
from PIL import Image

import earthloom
from earthloom.jobs.command.demo_scene import demo_scene
from earthloom.jobs.page.server import PageServer
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
_WINDOW = {"width": 1180, "height": 720}
_DRAWING = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
_REST_MS = 4000  # until outlines and other dates are there too
_MIDDLE_PX = (758, 360)
_MAP = {"g": "water-index", "d": "2020-07-01", "at": "-74.44,-8.434,11.7"}
_COMPARED = _MAP | {"at": "-74.40,-8.43,12.3", "og": "bands", "od": "1985-07-01", "w": "540"}


def pages(out: Path) -> None:
    """The page of an OUT: a map; a line between a map and a picture, in the dark; and what a click on an alert tells."""
    from playwright.sync_api import sync_playwright

    rows = json.loads((out / "monitors" / "pucallpa" / "page.json").read_text())["rows"]
    (alerts,) = [
        f"{row['path']}/{file}" for row in rows for file in row.get("features", ()) if "/alerts/" in row["path"]
    ]
    every = geopandas.read_parquet((out / alerts).with_suffix(".parquet"))
    largest = every[every["state"] == "confirmed"].nlargest(1, "area_m2").representative_point().iloc[0]
    clicked = _MAP | {"g": "bands", "at": f"{largest.x},{largest.y},12.8", "f": alerts}
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with PageServer(open_store(ObjectRef.parse(str(out)))) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser: Any = playwright.chromium.launch(executable_path=program, args=[*_DRAWING])
        for name, chosen, scheme in (
            ("map", _MAP, "light"), ("compare", _COMPARED | {"f": alerts}, "dark"), ("click", clicked, "light"),
        ):  # fmt: skip
            page = browser.new_page(viewport=_WINDOW, color_scheme=scheme)
            page.goto(f"{server.url}#{urlencode(chosen)}")
            while not page.evaluate("Number(document.body.dataset.drawn) > 0"):
                page.wait_for_timeout(200)
            page.wait_for_timeout(_REST_MS)
            if name == "click":
                page.mouse.click(*_MIDDLE_PX)
                page.wait_for_timeout(_REST_MS)
            page.screenshot(path=IMAGES / f"page-{name}.png")
            page.close()
            _with_fewer_colours(IMAGES / f"page-{name}.png")
        browser.close()
        server.shutdown()


def front(out: Path) -> None:
    """The demo's scene in natural colours beside its map, for the README."""
    import matplotlib.pyplot as plt
    import numpy as np
    import rasterio

    (scene,) = [path.name for path in (out / "scenes").iterdir()]
    with rasterio.open(demo_scene()) as file:
        pixels = file.read([3, 2, 1]).astype(np.float32)
    low, high = (np.percentile(pixels, share, axis=(1, 2), keepdims=True) for share in (1, 99))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 6.6), layout="constrained")
    classes = earthloom.open(str(out), "landwater", scene=scene).classes
    classes.earthloom.plot(right)
    left.imshow(np.clip((pixels - low) / (high - low), 0, 1).transpose(1, 2, 0), aspect=right.get_aspect())
    left.set_title("Landsat 7, natural colours")
    right.set_title("landwater")
    for axes in (left, right):
        axes.set_axis_off()
    figure.savefig(IMAGES / "demo.png", dpi=100)
    plt.close(figure)
    _with_fewer_colours(IMAGES / "demo.png")


def analysts(out: Path) -> None:
    """One map as QGIS and as xarray show it."""
    (scene,) = [path.name for path in (out / "scenes").iterdir()]
    axes = earthloom.open(str(out), "landwater", scene=scene).classes.earthloom.plot()
    axes.figure.savefig(IMAGES / "analysts-xarray.png", dpi=100)
    (tif,) = out.glob("scenes/*/*/landwater.tif")
    script = Path(__file__).with_name("qgis_picture.py")
    own = {name: value for name, value in os.environ.items() if not name.startswith(("GDAL_", "PROJ_", "PYTHON"))}
    subprocess.run(["/usr/bin/python3", script, tif, IMAGES / "analysts-qgis.png"], check=True, env=own)


def _with_fewer_colours(path: Path) -> None:
    """A picture in a third of its bytes."""
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


if __name__ == "__main__":
    pages(Path(sys.argv[1]))
    analysts(Path(sys.argv[2]))
    front(Path(sys.argv[2]))
