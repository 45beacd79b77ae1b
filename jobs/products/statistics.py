"""Class areas: count one shard, add shards up, say what share of the valid area each class covers.

Knows nothing of files or grids: true pixel areas come in as an array (`tiling.grid.pixel_areas_m2`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.products.image_statistics import BandSum
from earthloom.models.cards.card import ModelCard
from earthloom.tiling.errors import PublishError

NODATA = 255
"""Stored in the class map, and in the confidence, where the scene has no valid pixel."""

CONFIDENCE_SCALE = 1 / 250
"""Probability of the winning class = stored value * scale."""

_STRIP_PX = 1 << 18  # casts to int64 and float64 stay near 4 MB however large the shard is
_MAX_CONFIDENCE = 250


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
        return {
            "pixels": list(self.pixels),
            "areas_m2": list(self.areas_m2),
            "confidence_sums": list(self.confidence_sums),
            "nodata": self.nodata,
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Tally:
        """Inverse of `to_json`.

        Raises:
            PublishError: if a field is missing or of another type.
        """
        try:
            return cls(
                pixels=tuple(_integer(value) for value in told["pixels"]),
                areas_m2=tuple(float(value) for value in told["areas_m2"]),
                confidence_sums=tuple(_integer(value) for value in told["confidence_sums"]),
                nodata=_integer(told["nodata"]),
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
) -> Tally:
    """Count one shard.

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
        together += np.bincount(pairs, minlength=256 * 256).reshape(256, 256)
        areas.append(np.bincount(flat, weights=areas_m2[strip].ravel(), minlength=256).astype(np.float64))
    if (above := np.flatnonzero(together[:NODATA, _MAX_CONFIDENCE + 1 :].any(axis=0))).size:
        raise PublishError(
            f"a pixel with a class has confidence {above[-1] + _MAX_CONFIDENCE + 1}, above {_MAX_CONFIDENCE}; "
            "class map and confidence do not belong together"
        )
    pixels, sums = together.sum(axis=1), together @ np.arange(256)
    if (stray := np.flatnonzero(pixels[n_classes:NODATA])).size:
        value = int(stray[0]) + n_classes
        raise PublishError(
            f"{pixels[value]} pixels have the value {value}, but the model has {n_classes} classes; "
            "its card and its weights do not belong together"
        )
    return Tally(
        pixels=tuple(int(n) for n in pixels[:n_classes]),
        areas_m2=tuple(math.fsum(float(strip[value]) for strip in areas) for value in range(n_classes)),
        confidence_sums=tuple(int(n) for n in sums[:n_classes]),
        nodata=int(pixels[NODATA]),
    )


def merge(tallies: Iterable[Tally]) -> Tally:
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


def band_sum(counted: Tally) -> BandSum:
    """The class map as a band of numbers, for readers that know no classes."""
    values = [value for value, n in enumerate(counted.pixels) if n]
    return BandSum(
        valid=counted.valid, nodata=counted.nodata, minimum=float(min(values, default=0)),
        maximum=float(max(values, default=0)),
        total=float(sum(value * n for value, n in enumerate(counted.pixels))),
        squares=float(sum(value**2 * n for value, n in enumerate(counted.pixels))),
    )  # fmt: skip


def class_areas(counted: Tally, card: ModelCard) -> list[ClassArea]:
    """One row per class of `card`, in its order.

    Areas are rounded to 1e-3 m² and the rest to six decimals: last bits of `sin` differ between processors, and rows
    end up in files that must not.

    Raises:
        PublishError: if the tally does not count this card's classes.
    """
    if len(counted.pixels) != len(card.classes):
        raise PublishError(
            f"model card {card.label} has {len(card.classes)} classes, the tally {len(counted.pixels)}; "
            "they do not belong together"
        )
    total_m2 = math.fsum(counted.areas_m2)
    rows: list[ClassArea] = []
    for one, n, area_m2, trust in zip(
        card.classes, counted.pixels, counted.areas_m2, counted.confidence_sums, strict=True
    ):
        percent = round(100 * area_m2 / total_m2, 6) if total_m2 else 0.0
        row = ClassArea(
            value=one.value, name=one.name, color=one.color, pixels=n, area_m2=round(area_m2, 3), percent=percent
        )
        if n:
            row["mean_confidence"] = round(trust / n * CONFIDENCE_SCALE, 6)
        rows.append(row)
    return rows
