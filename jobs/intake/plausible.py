"""Whether scaled values can be what they are said to be, by a look at a sample of them. Opens nothing.

A share of 1 (`quantity=unit`) and a radar's power have bounds by their definition, so values beyond are refused. Reflectance
and decibels have none: a scale that is wrong by a power of ten, an offset in stored numbers, or fill that nothing declares
makes reflectance that cannot be. No single pixel proves it: glint and saturation do that too. More than half of a sample do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import numpy as np

from earthloom.jobs.intake.offsets import SENTINEL2_OFFSET, SENTINEL2_SCALE
from earthloom.jobs.intake.wanted import is_image
from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading.sample import Sample
from earthloom.tiling.scene import Band

LOWEST, HIGHEST = -1.0, 3.0
"""No reflectance of more than a few pixels is beyond: atmospheric correction overshoots by tenths, glint reaches about 2."""

DARKEST = -0.03
"""Half of a scene is never below: correction of the air leaves dark water at about -0.01, and takes more off some pixels."""

BLACK = 0.001
"""Clear water is brighter in some band, and so is any other ground."""

_DIM = 0.1
"""What a picture of 16 bits reaches somewhere, and what a type can hold if it is to hold reflectance."""

_PEAKS = (255, 1023, 2047, 4095, 10000, 65535)
"""Stored numbers that stand for 1."""

_UNIT = (-0.1, 1.1)
"""What a share of 1 stays within; resampling by cubic convolution overshoots by less."""
Values = np.ndarray[tuple[int], np.dtype[np.float64]]
_POLARISATIONS = frozenset(("vv", "vh", "hh", "hv"))
_BRIGHTEST_DB = 10.0
"""Half of a scene is never as bright: cities and the ice of Greenland's percolation zone come to a few decibels."""
_EDGES = (LOWEST, 0.0, 0.5, 1.0, HIGHEST)
_FEW_PERCENT = 1.0
_MOST_PERCENT = 50.0
_STANDS_FOR_1 = ((100, 1.0), (255, 1.0), (10000, HIGHEST))
"""Stored numbers that stand for a reflectance of 1, and the reflectance up to which they are used: percent and 8 bits end at
1, 16 bits go beyond."""


def judged(bands: Sequence[Band], quantity: str, wanted: Collection[str] = ()) -> list[Band]:
    """The bands whose values must be reflectance, by common names, which no mask, angle or temperature has; or backscatter, by
    their polarisation.

    Args:
        wanted: names of the bands that models compute with; none: they take all, or are not known.
    """
    asked = (band for band in bands if not wanted or band.name in wanted)
    return [band for band in asked if must_be(band.name, quantity) and not band.categorical]


def must_be(name: str, quantity: str) -> bool:
    """Whether the name of a band says that its values are what the scene's are: colours of reflectance, polarisations of
    backscatter. Temperatures and heights beside them are something else."""
    if quantity == "dn":
        return False
    if quantity.startswith("backscatter"):
        return name in _POLARISATIONS
    return is_image(name)


def implausible(samples: Mapping[Band, Sample], quantity: str) -> list[str]:
    """A note, if in a band more than a few pixels cannot be reflectance, or most no backscatter.

    Raises:
        SceneError: if more than half of a band's sample cannot be reflectance; where the sample lies in fill, `nodata` helps.
    """
    if quantity.startswith("backscatter"):
        return _unlike_ground(samples, quantity)
    scaled = {band: _scaled(band, sample) for band, sample in samples.items()}
    outside = {band: 100 * float(np.mean((values < LOWEST) | (values > HIGHEST))) for band, values in scaled.items()}
    wrong = sorted((band for band in outside if outside[band] > _FEW_PERCENT), key=lambda band: -outside[band])
    if not wrong:
        return _darker_than_ground(samples, scaled, quantity)
    worst = wrong[0]
    values = scaled[worst]
    others = f" (also {', '.join(band.name for band in wrong[1:])})" if wrong[1:] else ""
    text = (
        f"{worst.name}{others}: {outside[worst]:.0f} % of a sample of {samples[worst].count} pixels are below {LOWEST:g} or "
        f"above {HIGHEST:g}, which no {'share' if quantity == 'unit' else 'reflectance'} is, with scale {worst.scale:g} and "
        f"offset {worst.offset:g}: {_histogram(values)}. If it is fill, give `nodata`; else say what stored values are by "
        "`sensor`, or by `scale` and `offset`"
    )
    if outside[worst] > _MOST_PERCENT:
        raise SceneError(f"{text}{_usual_scale(worst, samples[worst])}")
    return [text]


def _darker_than_ground(samples: Mapping[Band, Sample], scaled: Mapping[Band, Values], quantity: str) -> list[str]:
    """An offset that is taken off twice makes most of the ground negative, which no correction of the air does."""
    below = {band: 100 * float(np.mean(values < DARKEST)) for band, values in scaled.items()}
    dark = sorted((band for band in below if below[band] > _MOST_PERCENT), key=lambda band: -below[band])
    if not dark:
        return _black(samples, scaled, quantity)
    worst, others = dark[0], f" (also {', '.join(band.name for band in dark[1:])})" if dark[1:] else ""
    remedy = "If it is fill, give `nodata`"
    if np.isclose(worst.offset, SENTINEL2_OFFSET) and np.isclose(worst.scale, SENTINEL2_SCALE):
        remedy = (
            "If the pixels are without the offset already, as those of harmonised copies of Sentinel-2 are, give `offset=0`; "
            "if it is fill, give `nodata`"
        )
    return [
        f"{worst.name}{others}: {below[worst]:.0f} % of a sample of {samples[worst].count} pixels are below {DARKEST:g}, "
        f"darker than any ground, with scale {worst.scale:g} and offset {worst.offset:g}: they reach from "
        f"{scaled[worst][0]:.3g} to {scaled[worst][-1]:.3g}. {remedy}"
    ]


def _black(samples: Mapping[Band, Sample], scaled: Mapping[Band, Values], quantity: str) -> list[str]:
    """Next to nothing is left of reflectance whose tags scale it once more, of 12 bits taken as shares of 16, and of 8 bits
    by the factor of 16."""
    if not scaled or any(values[-1] > _least(band, quantity) for band, values in scaled.items()):
        return []
    band = max(scaled, key=lambda band: float(scaled[band][-1]))
    stored = samples[band].percentiles[-1]
    if stored <= 0:
        return []
    remedy = "if the values are reflectance as they are, give `scale=1`"
    if np.dtype(band.dtype).kind != "f":
        one = next((peak for peak in _PEAKS if stored <= peak), _PEAKS[-1])
        remedy = f"say how they are scaled: `scale={1 / one:.6g}`, if {one} stands for 1"
    return [
        f"no band of a sample of {samples[band].count} pixels is brighter than {scaled[band][-1]:.2g} ({band.name}), with "
        f"scale {band.scale:g} and offset {band.offset:g}, and ground in daylight is: {remedy}"
    ]


def _least(band: Band, quantity: str) -> float:
    """How bright a scene is somewhere, in some band."""
    kind = np.dtype(band.dtype)
    if kind.kind == "f":
        return BLACK
    if quantity == "unit":
        return _DIM if kind.itemsize > 1 else BLACK
    reaches = float(np.iinfo(kind).max) * band.scale + band.offset
    return BLACK if reaches > _DIM else reaches


def refuse_beyond_unit(samples: Mapping[Band, Sample], quantity: str) -> None:
    """Models of brightness from 0 to 1 answer to 0 to 255 without a word, and wrongly.

    Raises:
        SceneError: if values are said to be `unit`, and more than a few pixels are not from 0 to 1.
    """
    if quantity != "unit":
        return
    low, high = _UNIT
    for band, sample in samples.items():
        values = _scaled(band, sample)
        share = 100 * float(np.mean((values < low) | (values > high)))
        if share <= _FEW_PERCENT:
            continue
        most = float(values[-1]) / band.scale
        fits = next((peak for peak in _PEAKS if 1.1 < most <= peak), None)
        remedy = f": `scale={1 / fits:.6g}`, if {fits} stands for 1" if fits and not band.offset else ""
        raise SceneError(
            f"`quantity=unit` says that values are from 0 to 1, but in {band.name} {share:.0f} % of a sample of {sample.count} "
            f"pixels are not, with scale {band.scale:g} and offset {band.offset:g}: they reach from {values[0]:.4g} to "
            f"{values[-1]:.4g}. Say how they are scaled{remedy}; or by `nodata` which value is fill"
        )


def refuse_negative_power(samples: Mapping[Band, Sample], quantity: str) -> None:
    """The logarithm of decibels that pass as power is that of nothing at all: a scene of water alone.

    Raises:
        SceneError: if values are said to be `backscatter`, and most are below 0.
    """
    if quantity != "backscatter":
        return
    for band, sample in samples.items():
        values = _scaled(band, sample)
        if np.median(values) < -1:  # cross-polarised power less its noise is below 0 over the sea, by far less
            raise SceneError(
                f"{band.name} is said to be backscatter as power, which is not below 0, but in a sample of {sample.count} "
                f"pixels {100 * np.mean(values < 0):.0f} % are: they reach from {values[0]:.4g} to {values[-1]:.4g}. If they "
                "are decibels, say so: `sensor=sentinel1-grd-db`, or `quantity=backscatter_db`; if one is fill, give `nodata`"
            )


def _unlike_ground(samples: Mapping[Band, Sample], quantity: str) -> list[str]:
    """Doubts about decibels that are mostly not negative, thus most likely power, and about power that is far too high."""
    for band, sample in samples.items():
        values = _scaled(band, sample)
        said = f"a sample of {sample.count} pixels of {band.name} reaches from {values[0]:.4g} to {values[-1]:.4g}"
        if quantity == "backscatter_db" and np.median(values) >= 0 and values[-1] > 0:
            return [
                f"{said}, half of it not below 0, as decibels of ground are: if these are powers, take "
                "`sensor=sentinel1-grd` or `quantity=backscatter`"
            ]
        if quantity == "backscatter" and np.median(values) > 10 ** (_BRIGHTEST_DB / 10):
            return [
                f"{said}, and half of it is above {_BRIGHTEST_DB:g} dB, which no ground is: power must be calibrated, and is "
                "the square of an amplitude"
            ]
    return []


def _usual_scale(band: Band, sample: Sample) -> str:
    """The scale by which all of a sample would be reflectance, if there is a usual one."""
    low, high = sample.percentiles[1], sample.percentiles[-1]
    fits = next((one for one, most in _STANDS_FOR_1 if low >= LOWEST * one and high <= most * one), None)
    if fits is None or band.offset or band.scale == 1 / fits:
        return ""
    return f". Stored values reach from {low:g} to {high:g}: `scale={1 / fits:.6g}`, if {fits} stands for 1"


def _scaled(band: Band, sample: Sample) -> Values:
    """A hundred physical values that stand for a hundredth of the sample each."""
    return np.sort(np.array(sample.percentiles[1:]) * band.scale + band.offset)


def _histogram(values: Values) -> str:
    """`0 to 0.5: 62 %, 0.5 to 1: 3 %, above 3: 35 %`."""
    names = (
        f"below {LOWEST:g}", *(f"{low:g} to {high:g}" for low, high in pairwise(_EDGES)),
        f"above {HIGHEST:g}",
    )  # fmt: skip
    counts = np.bincount(np.searchsorted(_EDGES, values, side="left"), minlength=len(names))
    return ", ".join(f"{name}: {100 * n / values.size:.0f} %" for name, n in zip(names, counts, strict=True) if n)
