"""Counting what shards hold, so that a scene's areas and statistics are sums: class tallies and sums of image bands.

Knows nothing of files or grids: true pixel areas come in as an array (`tiling.grid.pixel_areas_m2`)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.encoding import CONFIDENCE_STEPS, NODATA
from earthloom.tiling.errors import PublishError


@dataclass(frozen=True, slots=True, kw_only=True)
class BandSum:
    """Stored values of one band; integers add up exactly."""

    valid: int
    nodata: int
    minimum: float
    """0 where nothing is valid; so is the maximum."""
    maximum: float
    total: float
    squares: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> BandSum:
        """Inverse of `to_json`.

        Raises:
            PublishError: if a field is missing or of another type.
        """
        try:
            return cls(
                valid=int(document["valid"]), nodata=int(document["nodata"]), minimum=float(document["minimum"]),
                maximum=float(document["maximum"]), total=float(document["total"]), squares=float(document["squares"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise PublishError(
                f"the sum of a band is damaged ({type(error).__name__}: {error}); its block must be computed again"
            ) from error

    @property
    def mean(self) -> float:
        return self.total / self.valid if self.valid else 0.0

    @property
    def stddev(self) -> float:
        return math.sqrt(max(0.0, self.squares / self.valid - self.mean**2)) if self.valid else 0.0


def count(pixels: NDArray[Any], nodata: float) -> BandSum:
    """Count one band's pixels, in an array of any shape."""
    if pixels.dtype == np.uint8:
        return _count_bytes(pixels, nodata)
    valid = ~np.isnan(pixels) if np.isnan(nodata) else pixels != nodata
    known = pixels[valid].astype(np.float64)
    return BandSum(
        valid=int(known.size),
        nodata=int(pixels.size - known.size),
        minimum=float(known.min(initial=math.inf)) if known.size else 0.0,
        maximum=float(known.max(initial=-math.inf)) if known.size else 0.0,
        total=float(known.sum()),
        squares=float(np.square(known).sum()),
    )


def _count_bytes(pixels: NDArray[np.uint8], nodata: float) -> BandSum:
    flat = pixels.reshape(-1)
    pieces = (flat[start : start + _STRIP_PX] for start in range(0, flat.size, _STRIP_PX))
    return _sum_of(sum((np.bincount(piece, minlength=256) for piece in pieces), start=np.zeros(256, np.int64)), nodata)


def _sum_of(times: NDArray[np.int64], nodata: float) -> BandSum:
    """By how often each of the 256 values stands there; sums of them are whole numbers, so this changes no bit."""
    values = np.flatnonzero(times)
    values = values[values != nodata]
    n_valid = int(times[values].sum())
    return BandSum(
        valid=n_valid, nodata=int(times.sum()) - n_valid,
        minimum=float(values.min(initial=255)) if n_valid else 0.0, maximum=float(values.max(initial=0)),
        total=float(values @ times[values]), squares=float(np.square(values) @ times[values]),
    )  # fmt: skip


def merge_sums(parts: Iterable[BandSum]) -> BandSum:
    """Add up, rounding once, so that the order of the parts does not matter."""
    given = list(parts)
    known = [part for part in given if part.valid]
    return BandSum(
        valid=sum(part.valid for part in given),
        nodata=sum(part.nodata for part in given),
        minimum=min((part.minimum for part in known), default=0.0),
        maximum=max((part.maximum for part in known), default=0.0),
        total=math.fsum(part.total for part in known),
        squares=math.fsum(part.squares for part in known),
    )


_AREA_BITS = 28
_STRIP_PX = 1 << 18  # casts to int64 and float64 stay near 4 MB however large the shard is


def summable(areas_m2: NDArray[np.float64], typical_m2: float) -> NDArray[np.float64]:
    """Areas rounded so that float64 adds them without error: their sum does not depend on order, nor on any cut.

    They become multiples of a power of two, at most 2^-27 of the typical area, so each errs by less than 4e-9 of that;
    where a grid's areas are known to 1e-7, nothing is lost. Exact up to 2^25 pixels of the typical area in one sum.

    Args:
        areas_m2: true areas of pixels, of any shape.
        typical_m2: the same for all parts that are to be added; the area of one pixel of the grid, to a factor of two.
    """
    step = 2.0 ** (math.frexp(typical_m2)[1] - _AREA_BITS)
    return np.asarray(np.rint(areas_m2 / step) * step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What was counted; position is the class value.

    Raises:
        PublishError: if lengths do not agree or a count is negative.
    """

    pixels: tuple[int, ...]
    areas_m2: tuple[float, ...]
    confidence_sums: tuple[int, ...]
    """Sum of the stored confidence, 0 to 250 per pixel: integers, so a mean does not depend on the order of adding."""
    nodata: int
    """Pixels of no class."""

    def __post_init__(self) -> None:
        if not len(self.pixels) == len(self.areas_m2) == len(self.confidence_sums):
            raise PublishError(
                f"a tally has {len(self.pixels)} pixel counts, {len(self.areas_m2)} areas and "
                f"{len(self.confidence_sums)} confidence sums; the block that wrote it must be computed again"
            )
        if min((*self.pixels, *self.areas_m2, *self.confidence_sums, self.nodata)) < 0:
            raise PublishError("a tally holds a negative count; the block that wrote it must be computed again")

    @property
    def valid(self) -> int:
        """Pixels that have a class."""
        return sum(self.pixels)

    def to_json(self) -> dict[str, Any]:
        """Plain values; Python writes floats by `repr`, so `from_json` gives back the very same tally."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Tally:
        """Inverse of `to_json`.

        Raises:
            PublishError: if a field is missing or of another type.
        """
        try:
            return cls(
                pixels=tuple(_integer(value) for value in document["pixels"]),
                areas_m2=tuple(float(value) for value in document["areas_m2"]),
                confidence_sums=tuple(_integer(value) for value in document["confidence_sums"]),
                nodata=_integer(document["nodata"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PublishError(
                f"a tally is damaged ({type(error).__name__}: {error}); the block that wrote it must be computed again"
            ) from error


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not an integer")
    return value


def tally(
    classes: NDArray[np.uint8], confidence: NDArray[np.uint8], areas_m2: NDArray[np.float64], n_classes: int
) -> tuple[Tally, BandSum]:
    """Count one shard: its classes, and its confidence as a band of numbers.

    Args:
        classes: (rows, columns) class values, 255 where there is no data.
        confidence: (rows, columns) stored confidence, 0 to 250; ignored where there is no data.
        areas_m2: (rows, columns) true area of each pixel.
        n_classes: values 0 to n_classes - 1 are classes.

    Raises:
        PublishError: if the shapes differ, or a value is neither a class nor nodata, or a confidence is above 250.
    """
    if not classes.shape == confidence.shape == areas_m2.shape:
        raise PublishError(
            f"classes {classes.shape}, confidence {confidence.shape} and areas {areas_m2.shape} differ in shape"
        )
    n_rows = max(1, _STRIP_PX // max(1, classes.shape[1]))
    together = np.zeros((256, 256), np.int64)  # pixels by class and confidence
    areas: list[NDArray[np.float64]] = []
    for row in range(0, classes.shape[0], n_rows):
        strip = slice(row, row + n_rows)
        flat = classes[strip].ravel()
        pairs = flat.astype(np.uint16) << 8 | confidence[strip].ravel()
        found = np.bincount(pairs)  # short where there is no nodata
        together.reshape(-1)[: found.size] += found
        areas.append(np.bincount(flat, weights=areas_m2[strip].ravel(), minlength=256).astype(np.float64))
    if (above := np.flatnonzero(together[:NODATA, CONFIDENCE_STEPS + 1 :].any(axis=0))).size:
        raise PublishError(
            f"a pixel with a class has confidence {above[-1] + CONFIDENCE_STEPS + 1}, above {CONFIDENCE_STEPS}; "
            "class map and confidence do not belong together"
        )
    pixels, sums = together.sum(axis=1), together[:n_classes] @ np.arange(256)
    if (stray := np.flatnonzero(pixels[n_classes:NODATA])).size:
        value = int(stray[0]) + n_classes
        raise PublishError(
            f"{pixels[value]} pixels have the value {value}, but the model has {n_classes} classes; "
            "its card and its weights do not belong together"
        )
    counted = Tally(
        pixels=tuple(int(n) for n in pixels[:n_classes]),
        areas_m2=tuple(math.fsum(float(strip[value]) for strip in areas) for value in range(n_classes)),
        confidence_sums=tuple(int(n) for n in sums),
        nodata=int(pixels[NODATA]),
    )
    return counted, _sum_of(together.sum(axis=0), NODATA)


def merge_tallies(tallies: Iterable[Tally]) -> Tally:
    """Add the tallies of all shards of a scene, at once: `math.fsum` rounds once, so their order does not matter.

    Raises:
        PublishError: if there are none, or they count different numbers of classes.
    """
    given = list(tallies)
    if len(widths := {len(one.pixels) for one in given}) != 1:
        raise PublishError(f"tallies of one scene must count the same classes, got {sorted(widths) or 'none at all'}")
    return Tally(
        pixels=tuple(sum(column) for column in zip(*(one.pixels for one in given), strict=True)),
        areas_m2=tuple(math.fsum(column) for column in zip(*(one.areas_m2 for one in given), strict=True)),
        confidence_sums=tuple(sum(column) for column in zip(*(one.confidence_sums for one in given), strict=True)),
        nodata=sum(one.nodata for one in given),
    )


class ClassArea(TypedDict):
    """One row of a scene's class areas."""

    value: int
    name: str
    color: str
    pixels: int
    area_m2: float
    percent: float
    """Share of the valid area (not of the pixels: their true areas differ), 0 to 100."""
    mean_confidence: NotRequired[float]
    """0 to 1; absent when the class has no pixel."""
