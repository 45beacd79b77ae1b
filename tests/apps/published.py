"""An OUT as the page's tests need it: an area over four dates with alerts, and scenes in other reference systems."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

from earthloom.jobs.page.server import PageServer
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests import maps
from tests.integration import test_alerts
from tests.scenes import landscape, write_scene
from tests.serving import serving

ELSEWHERE = {
    "mercator": ("EPSG:3857", Affine(40, 0, -9_000_000, 0, -40, 4_800_000)),
    "degrees": ("EPSG:4326", Affine(0.0004, 0, 12.0, 0, -0.0003, 45.0)),
    "lambert": ("EPSG:3035", Affine(30, 0, 4_000_000, 0, -30, 2_900_000)),
    "british": ("EPSG:27700", Affine(30, 0, 300_000, 0, -30, 400_000)),
    "south": ("EPSG:32733", Affine(30, 0, 400_000, 0, -30, 6_200_000)),
    "across": ("EPSG:4326", Affine(0.0004, 0, 179.97, 0, -0.0003, -16.0)),
    "across-mercator": ("EPSG:3857", Affine(40, 0, 20_035_000, 0, -40, -1_800_000)),
}
"""By scene: in longitude and latitude, Web Mercator, UTM in the south, one that only proj4 knows, one that it needs the
datum of (by the ellipsoid alone it lies 100 m away), and two that go on beyond 180 degrees."""


def publish(folder: Path) -> Path:
    """Make everything below a folder, and give its OUT."""
    for number in range(len(test_alerts.DATES)):
        test_alerts.write(folder / "in", number)
    assert test_alerts.go(folder).exit_code == 0
    for number, (name, (crs, transform)) in enumerate(ELSEWHERE.items()):
        pixels = landscape(160, 120, 2, seed=number)
        scene = write_scene(folder / f"{name}.tif", pixels, ("green", "swir16"), crs=crs, transform=transform)
        assert maps.go(scene, out=folder / "out").exit_code == 0
    return folder / "out"


@dataclass(frozen=True, slots=True)
class Map:
    """The pixels of a published map, where they lie, and the colours that its file gives them."""

    values: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    lonlat: NDArray[np.float64]
    """Middles of pixels, (rows, columns, 2); longitudes go on beyond 180 degrees."""
    colors: NDArray[np.uint8]
    """(rows, columns, 3)"""


def read(out: Path, scene: str) -> Map:
    """As rasterio and pyproj see it."""
    (path,) = out.glob(f"scenes/{scene}/*/water-index.tif")
    with rasterio.open(path) as dataset, rasterio.open(path.with_name("water-index-confidence.tif")) as confidence:
        values, palette, sure = dataset.read(1), dataset.colormap(1), confidence.read(1)
        rows, cols = np.mgrid[: dataset.height, : dataset.width]
        x, y = dataset.transform * (cols + 0.5, rows + 0.5)
        lon, lat = Transformer.from_crs(dataset.crs, "OGC:CRS84", always_xy=True).transform(x, y)
        lonlat = np.stack([lon - 360 * np.round((lon - lon[0, 0]) / 360), lat], axis=-1)
    return Map(values, sure, lonlat, np.array([palette[value][:3] for value in range(256)], np.uint8)[values])


@contextmanager
def served(out: str) -> Iterator[str]:
    """The address at which `earthloom view` would show an OUT."""
    server = PageServer(open_store(ObjectRef.parse(out)))
    with serving(server):
        yield server.url
