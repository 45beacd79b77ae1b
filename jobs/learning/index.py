"""The index of labelled chips: where they lie, their classes and the values of their bands, by one pass over all scenes.

A row stands for one chip of a scene's grid, a square of the side of a training crop, or for the part of it that lies in
one region. Rows are small, a few hundred bytes for each chip of many kilobytes; nothing else grows with the data.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.corpus import LabelledScene
from earthloom.jobs.learning.labels import IGNORE, LabelSource
from earthloom.tiling.background import ordered
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.window import Window

_WINDOW_PX = 1024
"""Side of what is read at once, at least."""
_DTYPES: dict[str, type[np.generic]] = {
    "region": np.uint8, "counts": np.int64, "valid": np.int64, "sums": np.float64,
}  # fmt: skip
"""Those of the index; of its other columns int32."""
_NAMED = 5
_READERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipIndex:
    """Facts about each chip with a labelled pixel, in the order of scenes, rows and columns."""

    scene: NDArray[np.int32]
    """(n,) position in the corpus."""
    row: NDArray[np.int32]
    """(n,) of the chip in its scene's grid of chips; so is `col`."""
    col: NDArray[np.int32]
    region: NDArray[np.uint8]
    """(n,) number of the region; 0 where there are none."""
    counts: NDArray[np.int64]
    """(n, K) labelled pixels of each class that have data."""
    box: NDArray[np.int32]
    """(n, 4) the smallest window around them: first column, first row, and those after the last."""
    valid: NDArray[np.int64]
    """(n,) pixels with data, labelled or not."""
    sums: NDArray[np.float64]
    """(n, C, 2) sums of their physical values and of the squares."""

    def to_bytes(self) -> bytes:
        """The index as a file of numpy's own format."""
        file = io.BytesIO()
        np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> ChipIndex:
        """Inverse of `to_bytes`; raises ValueError, OSError or KeyError for anything else."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def statistics(self, chosen: NDArray[np.bool_]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each band's physical values over some rows, rounded to 6 digits.

        Raises:
            ConfigError: if a band has one value only.
        """
        count = int(self.valid[chosen].sum())
        if not count:
            raise ConfigError("no pixel with data lies in the training part; `mean` and `std` cannot be measured")
        total, squares = np.moveaxis(self.sums[chosen], -1, 0)  # (rows, C) each
        mean = total.sum(axis=0) / count
        std = np.sqrt(np.maximum(squares.sum(axis=0) / count - mean**2, 0))
        if not (std > 0).all():
            raise ConfigError(
                f"band {int(np.argmin(std)) + 1} has the value {mean[np.argmin(std)]:g} everywhere; leave it out"
            )
        return tuple(float(f"{value:.6g}") for value in mean), tuple(float(f"{value:.6g}") for value in std)


def make_index(
    scenes: Sequence[LabelledScene], *, n_classes: int, chip_px: int, regions: LabelSource | None = None
) -> ChipIndex:
    """Read all labels, and the scenes where there are any.

    Args:
        n_classes: labels are 0 to n_classes - 1 or IGNORE.
        chip_px: side of a chip.
        regions: gives the region of each pixel, IGNORE where it is in none.

    Raises:
        SceneError: if a file cannot be decoded or holds labels that are no classes.
        StorageError: if the storage failed.
        ConfigError: if not one pixel of a scene is labelled: without it something else would be learned.
    """
    step_px = max(1, _WINDOW_PX // chip_px) * chip_px
    windows = (
        (number, window) for number, each in enumerate(scenes) for window in each.scene.grid.window.split(step_px)
    )

    def rows_of(place: tuple[int, Window]) -> list[_Row]:
        number, window = place
        return _rows(scenes[number], number, window, n_classes, chip_px, regions)

    rows = [row for found in ordered(rows_of, windows, threads=_READERS, ahead=2 * _READERS) for row in found]
    _check_labelled(scenes, {row.scene for row in rows}, regions is not None)
    rows.sort(key=lambda row: (row.scene, row.row, row.col, row.region))
    columns = {field.name: [getattr(row, field.name) for row in rows] for field in fields(ChipIndex)}
    return ChipIndex(**{name: np.array(values, _DTYPES.get(name, np.int32)) for name, values in columns.items()})


def _check_labelled(scenes: Sequence[LabelledScene], found: Collection[int], has_regions: bool) -> None:
    bare = [each for number, each in enumerate(scenes) if number not in found]
    if not bare:
        return
    names = ", ".join(each.scene.id for each in bare[:_NAMED]) + " and others" * (len(bare) > _NAMED)
    outside = ", or lie outside all regions" if has_regions else ""
    raise ConfigError(
        f"of {len(scenes)} scenes {len(bare)} have no pixel with data and the label of a class: {names}. Their labels "
        f"({bare[0].labels_reference}) lie on other ground, as those of a wrong CRS do, or hold only nodata and what is "
        f"ignored{outside}; mend the labels, or name scenes that have some"
    )


@dataclass(frozen=True, slots=True)
class _Row:
    scene: int
    row: int
    col: int
    region: int
    counts: NDArray[np.int64]
    box: tuple[int, int, int, int]
    valid: int
    sums: NDArray[np.float64]


def _rows(
    each: LabelledScene, number: int, window: Window, n_classes: int, chip_px: int, regions: LabelSource | None
) -> list[_Row]:
    grid = each.scene.grid
    labels = each.labels.read(grid, window)
    region_of = regions.read(grid, window) if regions else np.zeros(labels.shape, np.uint8)
    labels[region_of == IGNORE] = IGNORE
    if not (labels != IGNORE).any():
        return []
    pixels = read_pixels(each.scene, each.bands, window, halo_px=0)
    labels[~pixels.valid] = IGNORE
    rows = []
    for chip in window.split(chip_px):
        part = chip.slices(window)
        for region in np.unique(region_of[part]).tolist():
            is_here = (region_of[part] == region) & pixels.valid[part]
            named = np.where(is_here, labels[part], IGNORE)
            if region == IGNORE or not (named != IGNORE).any():
                continue
            rows.append(
                _Row(
                    scene=number, row=chip.row_off // chip_px, col=chip.col_off // chip_px, region=region,
                    counts=np.bincount(named[named != IGNORE], minlength=n_classes).astype(np.int64),
                    box=_box(named != IGNORE, chip), valid=int(is_here.sum()),
                    sums=_sums(pixels.values[(slice(None), *part)], is_here, each),
                )
            )  # fmt: skip
    return rows


def _box(marked: NDArray[np.bool_], window: Window) -> tuple[int, int, int, int]:
    rows, cols = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    return (
        window.col_off + int(cols[0]), window.row_off + int(rows[0]),
        window.col_off + int(cols[-1]) + 1, window.row_off + int(rows[-1]) + 1,
    )  # fmt: skip


def _sums(values: NDArray[np.generic], chosen: NDArray[np.bool_], each: LabelledScene) -> NDArray[np.float64]:
    """(C, 2) sums of physical values and of their squares."""
    found = np.empty((len(values), 2))
    for channel, (band, stored) in enumerate(zip(each.bands, values, strict=True)):
        physical = stored[chosen].astype(np.float64) * band.scale + band.offset
        found[channel] = physical.sum(), np.square(physical).sum()
    return found


def boxes(index: ChipIndex, chosen: NDArray[np.bool_]) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """For each scene that has chosen rows: its position and their boxes (m, 4)."""
    for number in np.unique(index.scene[chosen]).tolist():
        yield number, index.box[chosen & (index.scene == number)]
