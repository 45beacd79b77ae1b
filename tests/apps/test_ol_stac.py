"""Our STAC items in ol-stac, which draws maps in STAC Browser: COG and Zarr, coloured by what the item says of them.

ol-stac 1.6 interpolates between the class numbers of a COG, so that a pixel at the edge of its class is no class and stays
empty; nothing in an item can prevent that. Of a Zarr it draws every pixel.

`make test-apps` installs it by `npm ci`, from the lock file beside `ol_stac/main.js`, which pins every package by its digest.
"""

from __future__ import annotations

import shutil
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import maps
from tests.apps.chromium import opened
from tests.apps.published import ELSEWHERE, Map, read, served
from tests.apps.test_page import on_screen
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.apps

HERE = Path(__file__).parent / "ol_stac"
SCENES = ("mercator", "south")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A web page that draws one asset, and below it OUT."""
    bundler, base = HERE / "node_modules" / ".bin" / "esbuild", tmp_path_factory.mktemp("ol-stac")
    if not bundler.exists():
        pytest.skip(f"ol-stac is not installed here: npm ci --prefix {HERE}")
    built = f"--outfile={base / 'main.built.js'}"
    subprocess.run([bundler, HERE / "main.js", "--bundle", "--format=iife", "--log-level=error", built], check=True)
    shutil.copy(HERE / "draw.html", base)
    for number, name in enumerate(SCENES):
        crs, transform = ELSEWHERE[name]
        pixels = landscape(160, 120, 2, seed=number)
        scene = write_scene(base / f"{name}.tif", pixels, ("green", "swir16"), crs=crs, transform=transform)
        assert maps.go(scene, out=base / "out").exit_code == 0
    return base


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("asset", ["classes", "data"])
def test_every_pixel_has_its_colour_at_its_place(browser: Any, folder: Path, scene: str, asset: str) -> None:
    made = read(folder / "out", scene)
    (item,) = (folder / "out").glob(f"scenes/{scene}/*/item.json")
    lon, lat = made.lonlat.reshape(-1, 2).mean(axis=0)
    place = f"#item={item.relative_to(folder)}&asset={asset}&at={lon:.5f}%2C{lat:.5f}%2C14.3"
    with served(str(folder)) as url, opened(browser, f"{url}draw.html{place}") as shown:
        shown.wait_until("Number(document.body.dataset.drawn) > 0")
        places, window = on_screen(shown, made.lonlat), shown.pixels()
        right = (window[places[..., 1], places[..., 0]] == made.colors).all(axis=-1)
        looked_at = inner(made) if asset == "classes" else np.ones_like(right)
        assert looked_at.mean() > 0.4
        assert right[looked_at].mean() > 0.99
        asked = [
            one for one in shown.requests if one.endswith((".zattrs", ".zgroup"))
        ]  # whether it is Zarr of version 2
        assert len(shown.complaints) == len(asked), shown.complaints


def inner(made: Map) -> NDArray[np.bool_]:
    """Pixels whose neighbours are of the same class."""
    same = np.zeros(made.values.shape, np.bool_)
    same[1:-1, 1:-1] = True
    for shift in product((-1, 0, 1), repeat=2):
        same &= np.roll(made.values, shift, axis=(0, 1)) == made.values
    return same
