"""Whether scaled values can be what they are said to be, by a look at a sample of them. Opens nothing.

A scale that is wrong by a power of ten, an offset in stored numbers, or fill that nothing declares makes reflectance that
cannot be. No single pixel proves it: glint and saturation do that too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from earthloom.jobs.intake.common_names import COMMON_NAMES
from earthloom.tiling.reading.sample import Sample
from earthloom.tiling.scene import Band

LOWEST, HIGHEST = -1.0, 3.0
"""No reflectance of more than a few pixels is beyond: atmospheric correction overshoots by tenths, glint reaches about 2."""

_EDGES = (LOWEST, 0.0, 0.5, 1.0, HIGHEST)
_FEW_PERCENT = 1.0


def reflecting(bands: Sequence[Band], quantity: str) -> list[Band]:
    """The bands whose values must be reflectance: by common names, which no mask, angle or temperature has."""
    if quantity == "dn":
        return []
    return [
        band for band in bands
        if band.name in COMMON_NAMES and not band.name.startswith("lwir") and not band.categorical
    ]  # fmt: skip


def implausible(samples: Mapping[Band, Sample], quantity: str) -> list[str]:
    """A note with a histogram, if in a band more than a few pixels cannot be reflectance.

    Never a refusal: a sample may lie in fill, and an index of two bands is the same at any scale.
    """
    scaled = {band: _scaled(band, sample) for band, sample in samples.items()}
    outside = {band: 100 * float(np.mean((values < LOWEST) | (values > HIGHEST))) for band, values in scaled.items()}
    wrong = sorted((band for band in outside if outside[band] > _FEW_PERCENT), key=lambda band: -outside[band])
    if not wrong:
        return []
    worst = wrong[0]
    values = scaled[worst]
    others = f" (also {', '.join(band.name for band in wrong[1:])})" if wrong[1:] else ""
    return [
        f"{worst.name}{others}: {outside[worst]:.0f} % of a sample of {samples[worst].count} pixels are below {LOWEST:g} or "
        f"above {HIGHEST:g}, which no {'share' if quantity == 'unit' else 'reflectance'} is, with scale {worst.scale:g} and "
        f"offset {worst.offset:g}: {_histogram(values)}. If it is fill, give `nodata`; else say what stored values are by "
        "`sensor`, or by `scale` and `offset`"
    ]


def _scaled(band: Band, sample: Sample) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A hundred physical values that stand for a hundredth of the sample each."""
    return np.sort(np.array(sample.percentiles[1:]) * band.scale + band.offset)


def _histogram(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    """`0 to 0.5: 62 %, 0.5 to 1: 3 %, above 3: 35 %`."""
    names = (
        f"below {LOWEST:g}", *(f"{low:g} to {high:g}" for low, high in pairwise(_EDGES)),
        f"above {HIGHEST:g}",
    )  # fmt: skip
    counts = np.bincount(np.searchsorted(_EDGES, values, side="left"), minlength=len(names))
    return ", ".join(f"{name}: {100 * n / values.size:.0f} %" for name, n in zip(names, counts, strict=True) if n)
