"""Fill that nobody declared: stretches of a file where every band holds one and the same telling number.

Looks at a bounded sample: all of a small file, else an overview, else a lattice of windows. Knows nothing of what a model
will make of such pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

HUGE = 1e25
"""A float beyond is no measurement but fill, however its writer spelt the lowest or highest number; like infinity. So it is
after a warp, which mixes such fill with the ground beside it: 1e38 by a weight of 1e-13 is still beyond. No measurement comes
near: a column of carbon dioxide holds 1e22 molecules per cm2."""

IMPOSSIBLE = 1e5
"""A reflectance beyond is garbage, in files of floats: white ground has 1, glint of the Sun some 100. Digital numbers of 16
bits that nobody has scaled stay below, so that they are told from reflectance and not taken for holes."""

SAMPLE_PX, SAMPLE_FAR_PX = 1 << 21, 1 << 18
"""Pixels of one band that are looked at, at most: of a file at hand, and of one in object storage, about a tile."""

_LATTICE, _WINDOW_PX = 5, 256
_BANDS = 32  # of a file with more, the others are taken to be like them
_RUN_PX = {1: 64}  # by bytes of a value: 8 bits are often 0 over some pixels, in shadows and on paper
_RUN_WIDE_PX = 16
_WORDS = (-9999.0, -32768.0, -32767.0, -28672.0, -999.0, 1e20, 9.969209968386869e36)
_CORNERS = (
    "",
    ", at one of the four corners",
    *(f", {n} of the four corners among them" for n in ("two", "three", "all")),
)
"""Said of a file that is looked at as a whole: a collar shows there."""

Read = Callable[[int], NDArray[Any]]
"""Gives the pixels (h, w) of one part of the sample, by the number of the band."""


@dataclass(frozen=True, slots=True)
class Fill:
    """A value that looks like fill.

    Attributes:
        value: as it is stored.
        text: what was seen, and what to do.
    """

    value: float
    text: str


def signs_of_fill(
    dataset: DatasetReader, declared: Sequence[float | None], open_overview: Callable[[int], DatasetReader | None],
    *, far: bool,
) -> tuple[Fill, ...]:  # fmt: skip
    """Values other than the declared nodata that fill long stretches in every band, the most frequent first.

    Args:
        dataset: without a mask of its own.
        declared: nodata of each band.
        open_overview: opens an overview by its number, or gives None if that is not safe.
        far: read little: where nodata is declared, an overview or nothing.
    """
    found: dict[float, int] = {}
    corners: dict[float, int] = {}
    n_px = n_parts = 0
    lattice = not far or all(value is None for value in declared)
    for shape, read in _parts(dataset, open_overview, SAMPLE_FAR_PX if far else SAMPLE_PX, lattice=lattice):
        n_px, n_parts = n_px + shape[0] * shape[1], n_parts + 1
        for value, mask in _stretches(read, dataset.dtypes[:_BANDS], shape, declared).items():
            found[value] = found.get(value, 0) + int(mask.sum())
            corners[value] = int(mask[[0, 0, -1, -1], [0, -1, 0, -1]].sum())
    says = next((value for value in declared if value is not None), None)
    but = "no nodata is declared" if says is None else f"the declared nodata is {says:g}"
    return tuple(
        Fill(
            value,
            f"{_percent(count / n_px)} % of the pixels looked at hold nothing but {_shown(value)} in every band, in long "
            f"stretches{_CORNERS[corners[value] if n_parts == 1 else 0]}, and {but}: "
            + (
                f"no measurement is as large, so they are nodata; `nodata={_shown(value)}` says so, and ends this note"
                if abs(value) > HUGE
                else f"{_remedy(value, says)}; else it is mapped like any other pixel"
            ),
        )
        for value, count in sorted(found.items(), key=lambda item: -item[1])
    )


def _remedy(value: float, declared: float | None) -> str:
    if declared is None:
        return f"if that is fill, give `nodata={_shown(value)}`"
    return (
        "if that is fill too, make both one: "
        f"gdalwarp -srcnodata {_shown(value)} -dstnodata {_shown(declared)} in.tif out.tif"
    )


def _parts(
    dataset: DatasetReader, open_overview: Callable[[int], DatasetReader | None], most_px: int, *, lattice: bool
) -> Iterator[tuple[tuple[int, int], Read]]:
    from rasterio.windows import Window

    def windows(source: DatasetReader, chosen: Sequence[Window]) -> Iterator[tuple[tuple[int, int], Read]]:
        for window in chosen:
            yield (window.height, window.width), lambda band, window=window: source.read(band, window=window)  # type: ignore[misc]

    width, height = dataset.width, dataset.height
    whole = [Window(0, 0, width, height)]
    if width * height <= most_px:
        yield from windows(dataset, whole)
        return
    for number, factor in enumerate(dataset.overviews(1)):
        if width * height <= most_px * factor**2 and (overview := open_overview(number)):
            with overview:
                yield from windows(overview, [Window(0, 0, overview.width, overview.height)])
            return
    if lattice:
        yield from windows(dataset, [
            Window(col, row, min(_WINDOW_PX, width), min(_WINDOW_PX, height))
            for row in _spread(height) for col in _spread(width)
        ])  # fmt: skip


def _spread(side_px: int) -> list[int]:
    """Offsets of windows over a side, its two ends among them."""
    last = max(0, side_px - _WINDOW_PX)
    return sorted({last * step // (_LATTICE - 1) for step in range(_LATTICE)})


def _stretches(
    read: Read, dtypes: Sequence[str], shape: tuple[int, int], declared: Sequence[float | None]
) -> dict[float, NDArray[np.bool_]]:
    """Where long stretches of each telling value are that all bands share. Bands are read until none is left."""
    first = read(1)
    masks = {value: first == value for value in _telling(first, declared)}
    for band, dtype in enumerate(dtypes, 1):
        pixels = first if band == 1 else read(band)
        length = min(_RUN_PX.get(np.dtype(dtype).itemsize, _RUN_WIDE_PX), *shape)
        kept = {}
        for value, mask in masks.items():
            long = _in_runs(mask & (pixels == value), length, both=_is_top(value, dtype))
            if long.any():
                kept[value] = long
        masks = kept
        if not masks:
            break
    return masks


def _telling(pixels: NDArray[Any], declared: Sequence[float | None]) -> list[float]:
    """Values there that writers use for fill."""
    kind = pixels.dtype
    if kind.kind == "f":
        finite = pixels[np.isfinite(pixels)]
        huge = np.unique(finite[np.abs(finite) > HUGE])[:4]
        candidates = [0.0, *(float(kind.type(word)) for word in _WORDS), *(float(value) for value in huge)]
    else:
        info = np.iinfo(kind)
        candidates = [
            0.0,
            float(info.min),
            *(word for word in _WORDS if info.min <= word <= info.max and word % 1 == 0),
        ]
        if all(value is None for value in declared):  # beside a declared nodata, the highest value is saturation
            candidates.append(float(info.max))
    known = {value for value in declared if value is not None}
    return [value for value in dict.fromkeys(candidates) if value not in known and bool((pixels == value).any())]


def _is_top(value: float, dtype: str) -> bool:
    return np.dtype(dtype).kind in "ui" and value == np.iinfo(dtype).max


def _in_runs(mask: NDArray[np.bool_], length: int, *, both: bool) -> NDArray[np.bool_]:
    """Pixels in runs of `length` and more along rows or columns; along both, in squares of that side, if `both`."""
    if both:
        return _opened(_opened(mask, length, 1), length, 0)
    return _opened(mask, length, 0) | _opened(mask, length, 1)


def _opened(mask: NDArray[np.bool_], length: int, axis: int) -> NDArray[np.bool_]:
    """Morphological opening by a line: what survives lies in a run of at least `length`."""
    line = np.moveaxis(mask, axis, 1)
    total = np.cumsum(np.pad(line, ((0, 0), (1, 0))), axis=1, dtype=np.int32)
    starts = total[:, length:] - total[:, :-length] == length  # a whole run begins here
    ends = np.cumsum(np.pad(starts, ((0, 0), (length, length - 1))), axis=1, dtype=np.int32)
    covered = ends[:, length:] - ends[:, :-length] > 0
    return np.moveaxis(covered, 1, axis)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.1 else f"{100 * share:.2g}"


def _shown(value: float) -> str:
    return f"{value:.9g}"
