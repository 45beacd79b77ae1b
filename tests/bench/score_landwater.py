"""`landwater` on six ports against the water that two indices agree on, by the whole pipeline."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import run
from tests.bench.scores import Score
from tests.scenes import DATA

_WATER = 1
_SURE = 0.05
"""An index within this of 0 says nothing: quays, wet sand and mixed pixels."""


def scores() -> list[Score]:
    """Share of the pixels that NDWI and MNDWI agree on which landwater sees likewise, and the IoU of water there.

    Both indices take bands that the four-band landwater does not all see (swir16); they are a yardstick and no truth.
    """
    scenes = sorted(path for path in (DATA / "ships_s2").glob("*.tif") if not path.stem.endswith("_shipmask"))
    if not scenes:
        raise FileNotFoundError(f"{DATA / 'ships_s2'} is not here; point EARTHLOOM_DATA at the folder of real scenes")
    right = total = inter = union = 0
    found: list[Score] = []
    ports, one = "ships_s2: 6 ports", "pixels on which NDWI and MNDWI agree"
    with tempfile.TemporaryDirectory(prefix="earthloom-score-") as out:
        settings = {
            "scenes": tuple(map(str, scenes)), "model": "landwater", "out": out, "scale": 1e-4, "quantity": "boa_reflectance",
            "bands": "blue=1,green=2,red=3,nir=4,swir16=5", "executor": "local",
        }  # fmt: skip
        result = run(load(settings))
        for path in scenes:
            with rasterio.open(Path(out) / result.results[path.stem].prefix / "landwater.tif") as dataset:
                water = dataset.read(1) == _WATER
            wet, sure = _agreed(path)
            right += int((water == wet)[sure].sum())
            total += int(sure.sum())
            inter += int((water & wet & sure).sum())
            union += int(((water | wet) & sure).sum())
            share = float((water == wet)[sure].mean())
            data = f"ships_s2: {path.stem}, {one}"
            found.append(
                Score(task="landwater", data=data, method="landwater-4b", metric="agreement, port by port", value=share)
            )
    data = f"{ports}, {one}"
    return [
        *found,
        Score(task="landwater", data=data, method="landwater-4b", metric="agreement", value=right / total, goal=0.97),
        Score(task="landwater", data=data, method="landwater-4b", metric="IoU of water", value=inter / union),
    ]


def _agreed(path: Path) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where both indices say water, and where both are sure of the same."""
    with rasterio.open(path) as dataset:
        green, nir, swir = dataset.read([2, 4, 5]).astype(np.float64)
    ndwi = (green - nir) / np.maximum(green + nir, 1)
    mndwi = (green - swir) / np.maximum(green + swir, 1)
    wet, dry = (ndwi > _SURE) & (mndwi > _SURE), (ndwi < -_SURE) & (mndwi < -_SURE)
    return wet, wet | dry
