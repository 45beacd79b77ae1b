"""Class areas: count one shard, add shards up, say what share of the valid area each class covers.

Knows nothing of files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.products.legend import Legend
from earthloom.tiling.counting import BandSum, ClassArea, Tally, merge_sums, merge_tallies, tally
from earthloom.tiling.encoding import CONFIDENCE_SCALE
from earthloom.tiling.errors import PublishError
from earthloom.tiling.grid import Grid, pixel_areas_m2
from earthloom.tiling.window import Window

_STRIP_PX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a shard holds, or all shards together."""

    tally: Tally | None = None
    """Tally of the class map, if there is one."""
    sums: Mapping[str, BandSum] = field(default_factory=dict)
    """Sums by layer, of everything but the class map."""
    tables: Mapping[str, bytes] = field(default_factory=dict)
    """Tables by name: rows of all shards one after another, once they are all done."""


def add_up(parts: Iterable[Counted]) -> Counted:
    """What a result holds, from what its shards hold; their order does not matter.

    Raises:
        PublishError: if they count different numbers of classes.
    """
    given = list(parts)
    sums: dict[str, list[BandSum]] = {}
    for part in given:
        for layer, total in part.sums.items():
            sums.setdefault(layer, []).append(total)
    tallies = [part.tally for part in given if part.tally]
    return Counted(
        tally=merge_tallies(tallies) if tallies else None,
        sums={layer: merge_sums(totals) for layer, totals in sums.items()},
    )


def count_classes(
    grid: Grid, shard: Window, classes: NDArray[np.uint8], confidence: NDArray[np.uint8], n_classes: int
) -> tuple[Tally, BandSum]:
    """By class and true area, and the confidence as a band of numbers.

    Strip by strip: the areas of a whole shard at once would be the largest array here.

    Args:
        grid: grid of the map.
        shard: where the pixels lie on it.
        classes, confidence: (h, w) as stored.
    """
    strips = [
        Window(shard.col_off, row, shard.width, min(_STRIP_PX, shard.row_end - row))
        for row in range(shard.row_off, shard.row_end, _STRIP_PX)
    ]
    tallies, sums = zip(
        *(
            tally(classes[at], confidence[at], pixel_areas_m2(grid, strip), n_classes)
            for strip in strips for at in [strip.slices(shard)]
        ), strict=True,
    )  # fmt: skip
    return merge_tallies(tallies), merge_sums(sums)


def band_sum(counted: Tally) -> BandSum:
    """The class map as a band of numbers, for readers that know no classes."""
    values = [value for value, n in enumerate(counted.pixels) if n]
    return BandSum(
        valid=counted.valid, nodata=counted.nodata, minimum=float(min(values, default=0)),
        maximum=float(max(values, default=0)),
        total=float(sum(value * n for value, n in enumerate(counted.pixels))),
        squares=float(sum(value**2 * n for value, n in enumerate(counted.pixels))),
    )  # fmt: skip


def class_areas(counted: Tally, legend: Legend) -> list[ClassArea]:
    """One row per class of `legend`, in its order.

    Areas are rounded to 1e-3 m² and the rest to six decimals: last bits of `sin` differ between processors, and rows
    end up in files that must not.

    Raises:
        PublishError: if the tally does not count this legend's classes.
    """
    if len(counted.pixels) != len(legend.classes):
        raise PublishError(
            f"{legend.label} has {len(legend.classes)} classes, the tally {len(counted.pixels)}; "
            "they do not belong together"
        )
    total_m2 = math.fsum(counted.areas_m2)
    rows: list[ClassArea] = []
    for one, n, area_m2, trust in zip(
        legend.classes, counted.pixels, counted.areas_m2, counted.confidence_sums, strict=True
    ):
        percent = round(100 * area_m2 / total_m2, 6) if total_m2 else 0.0
        row = ClassArea(
            value=one.value, name=one.name, color=one.color, pixels=n, area_m2=round(area_m2, 3), percent=percent
        )
        if n:
            row["mean_confidence"] = round(trust / n * CONFIDENCE_SCALE, 6)
        rows.append(row)
    return rows


def band_statistics(total: BandSum) -> dict[str, float]:
    """What STAC says of a band: count, valid_percent and, of a band with data, minimum, maximum, mean and stddev."""
    n_pixels = total.valid + total.nodata
    found: dict[str, float] = {
        "count": n_pixels, "valid_percent": round(100 * total.valid / max(n_pixels, 1), 6)
    }  # fmt: skip
    if total.valid:
        found |= {
            "minimum": total.minimum, "maximum": total.maximum, "mean": round(total.mean, 6), "stddev": round(total.stddev, 6),
        }  # fmt: skip
    return found


def tags(total: BandSum) -> dict[str, str]:
    """GDAL's statistics of a band, so that viewers need not compute them."""
    percent = 100 * total.valid / max(total.valid + total.nodata, 1)
    if not total.valid:
        return {"STATISTICS_VALID_PERCENT": "0"}
    return {
        "STATISTICS_MINIMUM": repr(total.minimum), "STATISTICS_MAXIMUM": repr(total.maximum),
        "STATISTICS_MEAN": repr(total.mean), "STATISTICS_STDDEV": repr(total.stddev),
        "STATISTICS_VALID_PERCENT": f"{percent:.4g}",
    }  # fmt: skip
