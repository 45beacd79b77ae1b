"""The median of each pixel over time, on stored integers and floats, by a network of comparisons.

Of T dates, those without data are set to the lowest and the highest value of the dtype by turns, so that the middle of the
sorted T values is the middle of the clear ones wherever they lie. So only the middle of the sorting is needed: Batcher's
odd-even merge sort (Batcher 1968, "Sorting networks and their applications"; Knuth, TAOCP vol. 3, 5.2.2, algorithm M)
without the comparisons that do not reach it, each a minimum and a maximum of whole strips of pixels that stay in the
processor's cache. `python -m tests.bench composite` measures it against sorting, partitioning and other libraries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_BUFFERS_BYTES = 1536 * 2**10
"""Size of all strips at once. From 1 to 6 MiB the time is the same within a tenth; a third of it takes a third longer."""
_LEAST_PX = 4096
"""Least size of a strip: below, what numpy does around each operation is the larger part."""


class Comparator(NamedTuple):
    """Puts the smaller of two values at `low` and the larger at `high`, as far as anybody asks for them."""

    low: int
    high: int
    keeps_low: bool
    keeps_high: bool


def batcher_network(n: int) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, whose exchange one after another sorts n values ascending."""
    pairs: list[tuple[int, int]] = []
    merged = 1
    while merged < n:
        distance = merged
        while distance:
            for start in range(distance % merged, n - distance, 2 * distance):
                for low in range(start, start + min(distance, n - distance - start)):
                    if low // (2 * merged) == (low + distance) // (2 * merged):
                        pairs.append((low, low + distance))
            distance //= 2
        merged *= 2
    return pairs


def selection_network(n: int, wanted: Sequence[int]) -> tuple[Comparator, ...]:
    """The comparisons in the sorting of n values that those at the positions `wanted` need."""
    needed, kept = set(wanted), list[Comparator]()
    for low, high in reversed(batcher_network(n)):
        if low in needed or high in needed:
            kept.append(Comparator(low, high, low in needed, high in needed))
            needed |= {low, high}
    return tuple(reversed(kept))


def median(values: NDArray[Any], clear: NDArray[np.bool_], nodata: float) -> NDArray[Any]:
    """The median of the clear values of each pixel, in their own dtype.

    Of an even number of values it is the mean of the middle two: of floats rounded once to the dtype, of integers halves
    rounded to the even integer. An integer mean that would be `nodata` is one more, as in overviews
    (`tiling.writing.overview`).

    Args:
        values: (T, h, w) of an integer or floating dtype.
        clear: (T, h, w), true where a value counts; NaN never may.
        nodata: for pixels without any clear value; of the dtype, or NaN.

    Returns:
        (h, w). Each pixel depends on its own T values only, bit for bit; of floats, zeros have no sign.
    """
    n_dates, shape = len(values), values.shape[1:]
    dtype = values.dtype.newbyteorder("=")
    out = np.full(shape, nodata, dtype)
    if not n_dates or not out.size:
        return out
    middle = ((n_dates - 1) // 2, n_dates // 2) if n_dates % 2 == 0 else (n_dates // 2 - 1, n_dates // 2)
    lower, upper = max(middle[0], 0), middle[1]
    network = _network(n_dates, lower, upper)
    strip_px = max(_LEAST_PX, _BUFFERS_BYTES // ((n_dates + 6) * dtype.itemsize))
    work = _Work(n_dates, dtype)
    for rows, cols in strips(shape, strip_px):
        n_clear = work.load(values[:, rows, cols], clear[:, rows, cols])
        for low, high, keeps_low, keeps_high in network:
            work.compare(low, high, keeps_low=keeps_low, keeps_high=keeps_high)
        made = work.middle(lower, upper, n_clear, nodata)
        np.copyto(out[rows, cols], made, where=n_clear > 0)
    return out


def strips(shape: tuple[int, ...], strip_px: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the rectangles of about `strip_px` pixels that cover (h, w), row-major."""
    height, width = shape
    across = min(width, strip_px)
    down = max(1, strip_px // max(across, 1))
    for row in range(0, height, down):
        for col in range(0, width, across):
            yield slice(row, min(row + down, height)), slice(col, min(col + across, width))


@lru_cache(maxsize=64)
def _network(n: int, lower: int, upper: int) -> tuple[Comparator, ...]:
    return selection_network(n, (lower, upper))


class _Work:
    """The values of one strip after another, date by date, in buffers that are used again."""

    def __init__(self, n_dates: int, dtype: np.dtype[Any]) -> None:
        self._n, self._dtype = n_dates, dtype
        self._bits = np.dtype(f"i{dtype.itemsize}")
        if dtype.kind == "f":
            self._ends = np.array([-np.inf, np.inf], dtype)
        else:
            self._ends = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
        self._flip = np.bitwise_xor(*self._ends.view(self._bits))
        self._buffers: list[NDArray[Any]] = []
        self._rows: list[NDArray[Any]] = []
        self._spare = self._filler = np.empty((0, 0), dtype)

    def load(self, values: NDArray[Any], clear: NDArray[np.bool_]) -> NDArray[np.uint16]:
        """Take a strip, (T, h, w), with the ends of the dtype where it is not clear. Returns how often each pixel is."""
        shape = values.shape[1:]
        n_px = int(np.prod(shape))
        if not self._buffers or self._buffers[0].size < n_px:
            self._buffers = [np.empty(n_px, self._dtype) for _ in range(self._n + 2)]
        *self._rows, self._spare, self._filler = [buffer[:n_px].reshape(shape) for buffer in self._buffers]
        n_clear = np.zeros(shape, np.uint16)
        hidden, filler = np.empty(shape, self._bits), self._filler.view(self._bits)
        self._filler[...] = self._ends[1]
        for row, given, seen in zip(self._rows, values, clear, strict=True):
            if self._dtype.kind == "f":
                with np.errstate(invalid="ignore"):  # of a signalling NaN that is nodata
                    np.add(given, 0.0, out=row)  # of -0.0 and 0.0 neither is the smaller one: which wins is not defined
            else:
                row[...] = given
            n_clear += seen
            np.subtract(seen.view(np.int8), 1, out=hidden, dtype=self._bits)  # all bits where it is not clear
            select(row, self._filler, hidden, self._spare)
            np.bitwise_and(hidden, self._flip, out=hidden)
            np.bitwise_xor(filler, hidden, out=filler)  # the next gap of such a pixel is filled from the other end
        return n_clear

    def compare(self, low: int, high: int, *, keeps_low: bool, keeps_high: bool) -> None:
        rows = self._rows
        if keeps_low and keeps_high:
            np.minimum(rows[low], rows[high], out=self._spare)
            np.maximum(rows[low], rows[high], out=rows[high])
            rows[low], self._spare = self._spare, rows[low]
        elif keeps_low:
            np.minimum(rows[low], rows[high], out=rows[low])
        else:
            np.maximum(rows[low], rows[high], out=rows[high])

    def middle(self, lower: int, upper: int, n_clear: NDArray[np.uint16], nodata: float) -> NDArray[Any]:
        """The median, given the sorted values at the two positions in the middle of all T."""
        first, second = self._rows[lower], self._rows[upper]
        odd = n_clear % 2 == 1
        # as many ends lie above as below the clear values, or one more above
        alone = first if self._n % 2 == 0 else second
        if self._dtype.kind == "f":
            with np.errstate(invalid="ignore", over="ignore"):  # of pixels that are nowhere clear
                wide = np.result_type(self._dtype, np.float64)
                mean = (first.astype(wide) + second.astype(wide)) / 2
            mean = mean.astype(self._dtype) + self._dtype.type(0)  # half of the smallest number below 0 is -0.0
            return np.where(odd, alone, mean)
        apart = first ^ second
        mean = (first & second) + (apart >> 1)  # the floor, without a sum that would not fit
        mean += apart & mean & 1
        mean += mean == int(nodata)  # between two values that are not nodata, so there is one above it
        return np.where(odd, alone, mean)


def select(into: NDArray[Any], other: NDArray[Any], mask: NDArray[Any], spare: NDArray[Any]) -> None:
    """Replace `into` by `other` where all bits of `mask` are set: three passes that use the whole width of a register.

    Args:
        mask: of a signed integer as wide as the values, 0 or -1.
        spare: overwritten.
    """
    bits = mask.dtype
    spare_bits, into_bits = spare.view(bits), into.view(bits)
    np.bitwise_xor(into_bits, other.view(bits), out=spare_bits)
    np.bitwise_and(spare_bits, mask, out=spare_bits)
    np.bitwise_xor(into_bits, spare_bits, out=into_bits)
