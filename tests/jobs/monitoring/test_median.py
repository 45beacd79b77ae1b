"""The median against exact fractions, numpy and the zero-one principle, and that no pixel knows how it was cut."""

from __future__ import annotations

import itertools
import math
import statistics
import tracemalloc
import warnings
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from earthloom.jobs.monitoring.composites import median as module
from earthloom.jobs.monitoring.composites.median import batcher_network, median, selection_network, strips

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "uint64")


@pytest.mark.parametrize("n", range(1, 14))
def test_a_network_that_sorts_zeros_and_ones_sorts_everything(n: int) -> None:
    """Knuth, TAOCP vol. 3, 5.3.4, theorem Z: all 2^n sequences of 0 and 1 stand for all sequences."""
    lines = np.array(list(itertools.product((0, 1), repeat=n)), np.uint8).T.copy()
    ordered = np.sort(lines, axis=0)
    middle = sorted({max((n - 1) // 2, 0), n // 2})
    selected = lines.copy()
    for low, high in batcher_network(n):
        lines[low], lines[high] = np.minimum(lines[low], lines[high]), np.maximum(lines[low], lines[high])
    assert np.array_equal(lines, ordered)
    for low, high, keeps_low, keeps_high in selection_network(n, middle):
        small, large = np.minimum(selected[low], selected[high]), np.maximum(selected[low], selected[high])
        selected[low], selected[high] = small if keeps_low else 99, large if keeps_high else 99
    assert np.array_equal(selected[middle], ordered[middle])


def exact(values: list[int], nodata: int) -> int:
    """By fractions: Python rounds halves to even."""
    if not values:
        return nodata
    found = round(statistics.median(Fraction(value) for value in values))
    return found + (found == nodata)


@pytest.mark.parametrize(
    ("values", "nodata", "expected"), [((-1, 1), 0, 1), ((-3, 2), 0, 1), ((-2, 0), -1, 0), ((6, 8), 7, 8)]
)
def test_a_mean_that_would_be_nodata_is_one_more(values: tuple[int, int], nodata: int, expected: int) -> None:
    stack = np.array(values, np.int16).reshape(2, 1, 1)
    assert median(stack, np.ones(stack.shape, np.bool_), nodata).tolist() == [[expected]]


@settings(deadline=None, max_examples=150)
@given(data=st.data(), name=st.sampled_from(INTEGERS), n_dates=st.integers(1, 14))
def test_integers_are_exact_in_every_dtype(data: st.DataObject, name: str, n_dates: int) -> None:
    dtype = np.dtype(name)
    ends = np.iinfo(dtype)
    nodata = data.draw(st.sampled_from([ends.min, ends.max, 0]))
    near = st.sampled_from([ends.min, ends.min + 1, 0, 1, 2, 3, ends.max - 1, ends.max]) | st.integers(
        ends.min, ends.max
    )
    values = data.draw(hnp.arrays(dtype, (n_dates, 2, 3), elements=near))
    clear = values != dtype.type(nodata)
    found = median(values, clear, nodata)
    assert found.dtype == dtype
    for row, col in np.ndindex(2, 3):
        seen = [int(value) for value in values[:, row, col][clear[:, row, col]]]
        assert int(found[row, col]) == exact(seen, nodata), (seen, nodata)


@settings(deadline=None, max_examples=100)
@given(
    data=st.data(), name=st.sampled_from(["float16", "float32", "float64"]), n_dates=st.integers(1, 9),
    nodata=st.sampled_from([math.nan, -9999.0, 0.0]),
)  # fmt: skip
def test_floats_are_those_of_nanmedian(data: st.DataObject, name: str, n_dates: int, nodata: float) -> None:
    dtype = np.dtype(name)
    elements = (
        st.floats(-60000, 60000, width=cast(Any, dtype.itemsize * 8))
        | st.just(float(dtype.type(nodata)))
        | st.just(-0.0)
    )
    values = data.draw(hnp.arrays(dtype, (n_dates, 2, 3), elements=elements))
    clear = ~np.isnan(values) & (values != dtype.type(nodata))
    wide = np.where(clear, values.astype(np.float64), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of pixels without data
        expected = np.nanmedian(wide, axis=0).astype(dtype)
    found = median(values, clear, nodata)
    assert found.dtype == dtype
    assert np.array_equal(found, np.where(clear.any(axis=0), expected, dtype.type(nodata)), equal_nan=True)
    assert not np.signbit(found[found == 0]).any()


def test_a_mean_that_is_too_small_to_be_stored_is_a_zero_without_a_sign() -> None:
    values = np.array([0, -1e-45], np.float32).reshape(2, 1, 1)
    found = median(values, np.ones(values.shape, np.bool_), np.nan)
    assert found.item() == 0
    assert not np.signbit(found).any()


def noisy(n_dates: int, height: int, width: int, dtype: str = "uint16", gaps: float = 0.4) -> NDArray[Any]:
    rng = np.random.default_rng(n_dates)
    values = rng.integers(0, 10_000, (n_dates, height, width)).astype(dtype)
    values[rng.random(values.shape) < gaps] = 65535
    return values


@pytest.mark.parametrize("n_dates", [1, 2, 3, 12, 31, 100])
def test_many_dates_are_those_of_numpy_with_halves_to_even(n_dates: int) -> None:
    values = noisy(n_dates, 40, 50)
    values[:, :5] = 65535
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = np.nanmedian(np.where(values == 65535, np.nan, values.astype(np.float64)), axis=0)
    found = median(values, values != 65535, 65535)
    assert np.array_equal(found, np.where(np.isnan(expected), 65535, np.rint(expected)))


@pytest.mark.parametrize("strip_px", [1, 7, 64, 1000, 10**6])
def test_no_pixel_depends_on_how_it_was_cut(monkeypatch: pytest.MonkeyPatch, strip_px: int) -> None:
    values = np.stack([noisy(9, 37, 53).astype(np.float32), -noisy(9, 37, 53).astype(np.float32)], axis=-1).reshape(
        9, 37, 106
    )
    values[::2][values[::2] % 7 == 0] = -0.0
    clear = np.abs(values) != 65535
    whole = median(values, clear, math.nan)
    assert set(
        np.concatenate([np.arange(37 * 106).reshape(37, 106)[part].ravel() for part in strips((37, 106), strip_px)])
    ) == set(range(37 * 106))
    monkeypatch.setattr(module, "_LEAST_PX", strip_px)
    monkeypatch.setattr(module, "_BUFFERS_BYTES", 1)
    assert median(values, clear, math.nan).tobytes() == whole.tobytes()
    turned = median(np.asfortranarray(values), np.asfortranarray(clear), math.nan)
    assert turned.tobytes() == whole.tobytes()


def test_nothing_gives_nothing() -> None:
    assert median(np.empty((0, 2, 3), np.uint8), np.empty((0, 2, 3), np.bool_), 7).tolist() == [[7] * 3] * 2
    assert median(np.empty((4, 0, 3), np.uint8), np.empty((4, 0, 3), np.bool_), 7).shape == (0, 3)


def test_it_works_beside_its_result_in_few_bytes() -> None:
    values = noisy(24, 512, 512)
    clear = values != 65535
    median(values[:, :8], clear[:, :8], 65535)
    tracemalloc.start()
    median(values, clear, 65535)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 512 * 512 * 2 + 3 * 2**20
