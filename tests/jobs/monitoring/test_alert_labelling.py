"""Components of masks against scipy's."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy import ndimage

from earthloom.jobs.monitoring.alerts.labelling import label, overlaps
from earthloom.tiling.components import join, meeting, number_sets

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=24))
EIGHT, FOUR = np.ones((3, 3)), None


@settings(deadline=None, max_examples=200)
@given(mask=MASKS, diagonal=st.booleans())
def test_components_are_those_of_scipy_in_the_order_of_their_first_pixels(
    mask: NDArray[np.bool_], diagonal: bool
) -> None:
    found = label(mask, diagonal=diagonal)
    wanted, n = ndimage.label(mask, EIGHT if diagonal else FOUR)
    image = found.image(mask.shape)
    assert found.n_components == n
    assert ((image > 0) == mask).all()
    assert len(set(zip(image[mask].tolist(), wanted[mask].tolist(), strict=True))) == n
    firsts = [int(np.flatnonzero(image.reshape(-1) == number + 1)[0]) for number in range(n)]
    assert firsts == sorted(firsts)
    rows, cols = found.first_pixels()
    assert (rows * mask.shape[1] + cols).tolist() == firsts


@settings(deadline=None, max_examples=100)
@given(mask=MASKS, seed=st.integers(0, 2**16))
def test_sums_and_maxima_are_those_of_scipy(mask: NDArray[np.bool_], seed: int) -> None:
    values = np.random.default_rng(seed).integers(-5, 2**40, mask.shape)
    found = label(mask)
    wanted, n = ndimage.label(mask, EIGHT)
    order = [wanted[row, col] for row, col in zip(*found.first_pixels(), strict=True)]
    assert found.sum_pixels(values[mask]).tolist() == [int(values[wanted == one].sum()) for one in order]
    assert found.max_pixels(values[mask]).tolist() == [int(values[wanted == one].max()) for one in order]
    assert found.sum(found.length).tolist() == [int((wanted == one).sum()) for one in order]
    keep = np.arange(n) % 2 == 0
    kept = found.select(keep).image(mask.shape)
    assert ((kept > 0) == np.isin(wanted, [one for one, kept in zip(order, keep, strict=True) if kept])).all()


@settings(deadline=None, max_examples=100)
@given(data=st.data(), shape=array_shapes(min_dims=2, max_dims=2, max_side=20))
def test_overlaps_are_the_pixels_that_two_components_share(data: st.DataObject, shape: tuple[int, int]) -> None:
    one, other = (data.draw(arrays(np.bool_, shape)) for _ in range(2))
    now, before = label(one), label(other)
    both = one & other
    wanted = Counter(zip((now.image(shape)[both] - 1).tolist(), (before.image(shape)[both] - 1).tolist(), strict=True))
    mine, theirs, shared = overlaps(now, before)
    assert dict(zip(zip(mine.tolist(), theirs.tolist(), strict=True), shared.tolist(), strict=True)) == dict(wanted)
    assert mine.tolist() == sorted(mine.tolist())


@settings(deadline=None, max_examples=100)
@given(n=st.integers(1, 60), pairs=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=80))
def test_joined_numbers_are_those_of_a_graph(n: int, pairs: list[tuple[int, int]]) -> None:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    kept = [(a, b) for a, b in pairs if a < n and b < n]
    left, right = (np.array([pair[i] for pair in kept], np.int64) for i in (0, 1))
    sets = number_sets(join(n, left, right))
    _, wanted = connected_components(coo_matrix((np.ones(len(kept)), (left, right)), shape=(n, n)), directed=False)
    assert len(set(zip(sets.tolist(), wanted.tolist(), strict=True))) == len(set(sets.tolist())) == wanted.max() + 1
    assert [int(np.flatnonzero(sets == one)[0]) for one in range(wanted.max() + 1)] == sorted(
        int(np.flatnonzero(wanted == one)[0]) for one in range(wanted.max() + 1)
    )


@pytest.mark.parametrize(("corners", "wanted"), [(True, [(0, 0), (0, 1), (1, 2)]), (False, [(0, 0), (1, 2)])])
def test_intervals_meet_at_corners_only_where_that_is_enough(corners: bool, wanted: list[tuple[int, int]]) -> None:
    begins, ends = np.array([2, 10]), np.array([5, 11])
    others = np.array([0, 5, 9]), np.array([3, 7, 12])
    mine, theirs = meeting(begins, ends, *others, corners=corners)
    assert list(zip(mine.tolist(), theirs.tolist(), strict=True)) == wanted
