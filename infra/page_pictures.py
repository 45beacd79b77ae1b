"""`python -m infra.page_pictures PUCALLPA LAKE`: the pictures of docs/page.md and docs/analysts.md, from real results.

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
            with Image.open(IMAGES / f"page-{name}.png") as picture:
                few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
            few.save(IMAGES / f"page-{name}.png", optimize=True)
        browser.close()
        server.shutdown()


def analysts(out: Path) -> None:
    """One map as QGIS and as xarray show it."""
    (scene,) = [path.name for path in (out / "scenes").iterdir()]
    axes = earthloom.open(str(out), "landwater", scene=scene).classes.earthloom.plot()
    axes.figure.savefig(IMAGES / "analysts-xarray.png", dpi=100)
    (tif,) = out.glob("scenes/*/*/landwater.tif")
    script = Path(__file__).with_name("qgis_picture.py")
    own = {name: value for name, value in os.environ.items() if not name.startswith(("GDAL_", "PROJ_", "PYTHON"))}
    subprocess.run(["/usr/bin/python3", script, tif, IMAGES / "analysts-qgis.png"], check=True, env=own)


if __name__ == "__main__":
    pages(Path(sys.argv[1]))
    analysts(Path(sys.argv[2]))
