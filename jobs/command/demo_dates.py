"""Three dates of one shore to try things with: a part of the demo scene, and two dates that are made up from its pixels.

Wherever water lies up to so many pixels east of land, that land is drawn over it. So the lake recedes by a known distance,
and whoever looks for change finds what was planted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from earthloom.jobs.command.demo_scene import demo_scene

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DATES = ("2001-08-01", "2011-08-01", "2021-08-01")
"""The first is the scene as it was taken; on each other the shore has moved `STEP_PX` further to the east."""
STEP_PX = 25
GREEN, SWIR = 1, 4  # bands 2 and 5, from 0
_COLS, _ROWS = (420, 900), (0, 300)

NOTE = (
    f"{DATES[0]} is Landsat 7 as it was taken; its date is made up. {DATES[1]} and {DATES[2]} are SYNTHETIC: the same\n"
    f"pixels with the western shore moved to the east by {STEP_PX} px each. Nothing here says how the lake has changed."
)


def recede(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The scene with its water's western shores moved to the east: (bands, rows, columns) of Landsat's digital numbers."""
    import numpy as np

    from_west = np.concatenate([pixels[..., :STEP_PX], pixels[..., :-STEP_PX]], axis=-1)
    dried = (pixels[GREEN] > pixels[SWIR]) & (from_west[GREEN] <= from_west[SWIR])
    return np.where(dried, from_west, pixels)


def write_dates(folder: Path) -> tuple[list[Path], tuple[float, float, float, float]]:
    """Write `lake_<date>.tif` for each date, unless it is there; the files, and west, south, east, north in degrees.

    Raises:
        StorageError: if the demo scene cannot be fetched.
    """
    import rasterio
    from rasterio.windows import Window

    window = Window.from_slices(_ROWS, _COLS)
    with rasterio.open(demo_scene()) as dataset:
        pixels, names = dataset.read(window=window), dataset.descriptions
        profile = {
            "driver": "GTiff", "dtype": "uint8", "count": len(names), "width": pixels.shape[2], "height": pixels.shape[1],
            "crs": dataset.crs, "transform": dataset.window_transform(window), "tiled": True, "compress": "deflate",
        }  # fmt: skip
        west, south, east, north = (float(side) for side in dataset.window_bounds(window))
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"lake_{date}.tif" for date in DATES]
    for path in paths:
        if not path.exists():  # a file that is written again is another source
            with rasterio.open(path, "w", **profile) as target:
                target.write(pixels)
                target.descriptions = names
        pixels = recede(pixels)
    return paths, (west, south, east, north)
