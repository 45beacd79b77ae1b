"""Our files in QGIS itself: legends with their names, colours as they are drawn, alone and with what lies beside them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from tests.http_range_server import serve
from tests.maps import go, lake
from tests.scenes import landscape, write_scene

pytestmark = [pytest.mark.apps, pytest.mark.timeout(600)]

PYTHON = "/usr/bin/python3"
SIDE_PX = 64
LEGEND = [["land", "#b59f6b"], ["water", "#1f78b4"]]


def qgis(*sources: str) -> dict[str, Any]:
    """What QGIS says of each source."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GDAL_", "PYTHON", "CPL_"))}
    script = Path(__file__).with_name("read_in_qgis.py")
    done = subprocess.run(
        [PYTHON, str(script), str(SIDE_PX), *sources], capture_output=True, text=True, check=False, env=env, timeout=300
    )
    assert done.stdout.strip(), done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map, and an image whose source has its bands from blue to red."""
    there = subprocess.run([PYTHON, "-c", "import qgis.core"], capture_output=True, check=False)
    if there.returncode:
        pytest.skip("QGIS is not installed: apt-get install qgis python3-qgis")
    base = tmp_path_factory.mktemp("qgis")
    assert go(lake(base / "in", width=640, height=640), out=base / "out").exit_code == 0
    pixels = landscape(600, 400, 3)
    pixels[0] //= 3  # blue is darkest, red brightest, each in its own part of the range
    pixels[2] = 9000 - pixels[2] // 4
    scene = write_scene(base / "in" / "bay.tif", pixels, ("blue", "green", "red"))
    assert go(scene, out=base / "out", model="destripe").exit_code == 0
    return base / "out"


@pytest.fixture(scope="module")
def served(out: Path) -> Iterator[str]:
    with serve(out) as server:
        yield f"http://{server.host}"


def drawn(tif: Path) -> list[str]:
    """The colours that a picture of a map should have, by its palette: of each pixel the one in its middle."""
    with rasterio.open(tif) as cog:
        palette, classes = cog.colormap(1), cog.read(1)
    rows, cols = ((np.arange(SIDE_PX) + 0.5) / SIDE_PX * size for size in classes.shape)
    picked = classes[rows.astype(int)][:, cols.astype(int)].ravel()
    return ["#ffffff" if value == 255 else "#{:02x}{:02x}{:02x}".format(*palette[value][:3]) for value in picked]


def test_a_map_with_its_style_has_named_classes_in_their_colours(out: Path) -> None:
    (tif,) = out.glob("scenes/lake/*/water-index.tif")
    (layer,) = qgis(str(tif))[str(tif)]
    assert (layer["renderer"], layer["legend"]) == ("paletted", LEGEND)
    agree = np.mean([one == other for one, other in zip(layer["colors"], drawn(tif), strict=True)])
    assert agree > 0.93, "QGIS draws from an overview, whose pixels are the commonest class of four"


def test_a_map_alone_is_drawn_in_its_colours(out: Path, tmp_path: Path) -> None:
    """Older QGIS than 4 numbers its classes; the colours are right, and names are in the table inside the file."""
    (tif,) = out.glob("scenes/lake/*/water-index.tif")
    alone = Path(shutil.copy(tif, tmp_path / "alone.tif"))
    (layer,) = qgis(str(alone))[str(alone)]
    assert layer["renderer"] == "paletted"
    assert [color for _, color in layer["legend"][:2]] == [color for _, color in LEGEND]
    assert set(layer["colors"]) <= {color for _, color in LEGEND} | {"#ffffff"}


def test_a_map_over_http_is_drawn_in_its_colours(out: Path, served: str) -> None:
    (tif,) = out.glob("scenes/lake/*/water-index.tif")
    source = f"/vsicurl/{served}/{tif.relative_to(out).as_posix()}"
    (layer,) = qgis(source)[source]
    assert [color for _, color in layer["legend"][:2]] == [color for _, color in LEGEND]
    assert set(layer["colors"]) <= {color for _, color in LEGEND} | {"#ffffff"}


def test_confidence_is_grey_from_none_to_all(out: Path) -> None:
    (tif,) = out.glob("scenes/lake/*/water-index-confidence.tif")
    (layer,) = qgis(str(tif))[str(tif)]
    assert layer["renderer"] == "singlebandgray"
    levels = [int(color[1:3], 16) for color in layer["colors"]]
    with rasterio.open(tif) as cog:
        stored = cog.read(1)
    assert np.median(levels) == pytest.approx(np.median(stored[stored != 255]) / 250 * 255, abs=6)


@pytest.mark.parametrize("with_style", [True, False])
def test_an_image_is_drawn_with_red_as_red_whatever_the_order_of_its_source(
    with_style: bool, out: Path, tmp_path: Path
) -> None:
    (tif,) = out.glob("scenes/bay/*/destripe.tif")
    tif = tif if with_style else Path(shutil.copy(tif, tmp_path / "bay.tif"))
    (layer,) = qgis(str(tif))[str(tif)]
    with rasterio.open(tif) as cog:
        assert [cog.descriptions[band - 1] for band in layer["bands"]] == ["red", "green", "blue"]
    assert layer["renderer"] == "multibandcolor"
    greys = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in layer["colors"]]
    assert np.ptp(greys, axis=0).min() > 120, "each band is stretched over most of its range"


def test_one_file_opens_all_maps_of_a_product_with_their_legend(out: Path) -> None:
    file = out / "collections/water-index/water-index.qlr"
    layers = qgis(str(file))[str(file)]
    by_name = {layer["name"].split(",")[0]: layer for layer in layers}
    assert set(by_name) == {"lake classes", "lake confidence"}
    assert all(layer["valid"] for layer in layers)
    assert by_name["lake classes"]["legend"] == LEGEND
    assert [by_name[name]["shown"] for name in ("lake classes", "lake confidence")] == [True, False]
    image = qgis(str(out / "collections/destripe/destripe.qlr"))
    (bay,) = next(iter(image.values()))
    assert (bay["renderer"], bay["bands"]) == ("multibandcolor", [1, 2, 3])
