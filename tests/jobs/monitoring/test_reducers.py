"""Best, greatest and commonest against numpy and scipy, pixel by pixel, with ties in order."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from earthloom.jobs.monitoring.composites import reducers
from earthloom.jobs.monitoring.composites.reducers import clear_of, count_clear, extreme, first_clear, mode, take
from earthloom.tiling.errors import TilingError

shapes = st.tuples(st.integers(1, 8), st.integers(1, 5), st.integers(1, 6))


def masks(shape: tuple[int, ...]) -> st.SearchStrategy[NDArray[np.bool_]]:
    return hnp.arrays(np.bool_, shape, elements=st.booleans())


@settings(deadline=None)
@given(data=st.data(), shape=shapes, n_classes=st.integers(1, 5))
def test_the_commonest_class_is_scipys_mode(data: st.DataObject, shape: tuple[int, int, int], n_classes: int) -> None:
    classes = data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, n_classes - 1)))
    clear = data.draw(masks(shape))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of pixels without data
        theirs = scipy.stats.mode(np.where(clear, classes.astype(float), np.nan), axis=0, nan_policy="omit")
    n_clear = clear.sum(axis=0)
    found, share = mode(np.where(clear, classes, 255).astype(np.uint8), clear, n_classes)
    assert np.array_equal(found, np.where(n_clear > 0, np.nan_to_num(theirs.mode), 255))
    exact = np.floor(250 * np.nan_to_num(theirs.count) / np.maximum(n_clear, 1) + 0.5)
    assert np.array_equal(share, np.where(n_clear > 0, exact, 255))
    hidden, same = mode(classes, clear, n_classes)  # what is not clear may hold anything
    assert np.array_equal(hidden, found)
    assert np.array_equal(same, share)


def test_votes_beyond_255_are_counted() -> None:
    classes = np.zeros((600, 1, 2), np.uint8)
    classes[:300, 0, 0] = 1
    classes[299, 0, 0] = 2
    found, share = mode(classes, np.ones(classes.shape, np.bool_), 3)
    assert found.tolist() == [[0, 0]]
    assert share.tolist() == [[125, 250]]


def test_a_class_that_the_legend_does_not_have_is_refused() -> None:
    classes = np.array([[[0, 4]], [[1, 255]]], np.uint8)
    with pytest.raises(TilingError, match="of class 4, but there are 3 classes"):
        mode(classes, classes != 255, 3)


@settings(deadline=None)
@given(
    data=st.data(), shape=shapes, dtype=st.sampled_from(["uint8", "int16", "float32", "float64"]), least=st.booleans()
)
def test_the_greatest_of_a_score_wins_and_ties_go_by_the_order(
    data: st.DataObject, shape: tuple[int, int, int], dtype: str, least: bool
) -> None:
    score = data.draw(hnp.arrays(dtype, shape, elements=st.integers(0, 3)))
    clear, order = data.draw(masks(shape)), data.draw(st.permutations(range(shape[0])))
    if score.dtype.kind == "f":
        score[~clear] = np.nan
    found = extreme(score, clear, order, least=least)
    values = data.draw(hnp.arrays(np.uint16, shape, elements=st.integers(0, 65534)))
    taken = take(values, found, 65535)
    for row, col in np.ndindex(shape[1:]):
        rivals = [date for date in order if clear[date, row, col]]
        wanted = (min if least else max)(rivals, key=lambda date: score[date, row, col], default=-1)
        assert found[row, col] == wanted
        assert taken[row, col] == (65535 if wanted < 0 else values[wanted, row, col])
    assert np.array_equal(first_clear(clear, order), extreme(np.zeros(shape, np.uint8), clear, order))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_values_are_taken_bit_by_bit(dtype: str) -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 256, (5, 30, 40 * np.dtype(dtype).itemsize), dtype=np.uint8).view(dtype)
    index = rng.integers(-1, 5, (30, 40)).astype(np.int16)
    expected = np.where(
        index < 0, np.array(3, dtype), np.take_along_axis(values, np.maximum(index, 0)[None].astype(int), 0)[0]
    )
    assert take(values, index, 3).tobytes() == expected.tobytes()
    turned = np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 0, -1)), -1, 0)
    assert take(turned, index, 3).tobytes() == expected.tobytes()


@pytest.mark.parametrize("strip_px", [1, 13, 10**6])
def test_no_pixel_depends_on_how_it_was_cut(monkeypatch: pytest.MonkeyPatch, strip_px: int) -> None:
    rng = np.random.default_rng(2)
    classes = rng.integers(0, 4, (7, 23, 31), dtype=np.uint8)
    clear, score = rng.random(classes.shape) < 0.6, rng.integers(0, 5, classes.shape, dtype=np.uint8)

    def everything() -> list[bytes]:
        index = extreme(score, clear, range(7))
        return [made.tobytes() for made in (*mode(classes, clear, 4), index, take(score, index, 255))]

    whole = everything()
    monkeypatch.setattr(reducers, "_STRIP_PX", strip_px)
    assert everything() == whole


def test_an_observation_is_clear_where_all_layers_hold_data() -> None:
    red = np.array([[[0, 7, 7]]], np.uint16)
    ndvi = np.array([[[1.0, np.nan, 3.0]]], np.float32)
    filled = np.array([[[1.0, 1.0, -9999.0]]], np.float32)
    assert clear_of([(red, 0)]).tolist() == [[[False, True, True]]]
    assert clear_of([(red, 0), (ndvi, float("nan"))]).tolist() == [[[False, False, True]]]
    assert clear_of([(red, 0), (ndvi, -9999.0), (filled, -9999.0)]).tolist() == [[[False, False, False]]]
    assert count_clear(clear_of([(red, 0)]), "uint8").tolist() == [[0, 1, 1]]


def test_layers_of_unlike_shapes_are_refused() -> None:
    other: Any = np.zeros((1, 1, 2), np.uint8)
    with pytest.raises(TilingError, match=r"one shape, got \(1, 1, 3\) and \(1, 1, 2\)"):
        clear_of([(np.zeros((1, 1, 3), np.uint8), 0), (other, 0)])
    with pytest.raises(TilingError, match="at least one layer"):
        clear_of([])
