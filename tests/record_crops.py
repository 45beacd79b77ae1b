"""`python -m tests.record_crops` cuts tests/data/*.tif from two Landsat 7 scenes of the USGS, which are in the public domain.

The scenes travel inside the wheel that `make demo` fetches. The crops are small enough to be part of the project, so that
what must hold on real pixels is tested in every clone: a shore of the Great Salt Lake in six bands and degrees, and one
of the Pacific in three bands and Web Mercator metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import rasterio
from rasterio.windows import Window

from earthloom.jobs.command.demo_scene import MEMBER, SHA256, scene_of_wheel

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A part of a scene; `bands` are numbers in its file, `names` what they are called in the crop, if they are."""

    name: str
    member: str
    sha256: str
    bands: tuple[int, ...]
    names: tuple[str, ...]
    window: Window


CROPS = (
    Crop(
        name="salt_lake", member=MEMBER, sha256=SHA256, bands=(1, 2, 3, 4, 5, 7),
        names=("B1", "B2", "B3", "B4", "B5", "B7"), window=Window(760, 620, 384, 256),
    ),
    Crop(
        name="pacific", member="localtileserver/tiler/data/landsat7.tif",
        sha256="73b5fc45f60c2ee7d4054b9b5d371857b976570bc968f1747911a4f829599469", bands=(1, 2, 3),
        names=(), window=Window(470, 790, 240, 160),
    ),
)  # fmt: skip


def record(crop: Crop) -> Path:
    """Write one crop, always the same pixels; its size in the repository counts, not its speed."""
    path = DATA / f"{crop.name}.tif"
    with rasterio.open(scene_of_wheel(crop.member, crop.sha256, f"{crop.name}.tif")) as scene:
        profile = {
            "driver": "GTiff", "width": crop.window.width, "height": crop.window.height, "count": len(crop.bands),
            "dtype": "uint8", "crs": scene.crs, "transform": scene.window_transform(crop.window), "compress": "deflate",
            "predictor": 2, "zlevel": 9, "interleave": "pixel", "nodata": scene.nodata,
        }  # fmt: skip
        with rasterio.open(path, "w", **profile) as out:
            out.write(scene.read(crop.bands, window=crop.window))
            if crop.names:
                out.descriptions = crop.names
    return path


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    for crop in CROPS:
        print(record(crop), record(crop).stat().st_size)
