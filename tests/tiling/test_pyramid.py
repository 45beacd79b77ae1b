from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from earthloom.tiling.window import Window
from earthloom.tiling.writing.overview import reduce_mode
from earthloom.tiling.writing.pyramid import TILE_PX, Pyramid


def mode(pixels: NDArray[Any]) -> NDArray[Any]:
    return reduce_mode(pixels[0])[None]


sides = st.integers(1, 5200)


@settings(deadline=None, max_examples=25)
@given(height=sides, width=st.integers(1, 1700), shard_px=st.sampled_from([512, 1024, 1536, 2048, 2560]))
def test_levels_made_shard_by_shard_and_tile_by_tile_are_the_cascade_over_the_whole(
    height: int, width: int, shard_px: int
) -> None:
    pyramid = Pyramid(height=height, width=width, shard_px=shard_px)
    whole = [np.random.default_rng(0).integers(0, 4, (1, height, width)).astype(np.uint8)]
    while len(whole) < len(pyramid.shapes):
        whole.append(mode(whole[-1]))
    assert [level.shape[1:] for level in whole] == pyramid.shapes

    def cut(level: int, window: Window) -> NDArray[Any]:
        return whole[level][(slice(None), *window.slices(Window(0, 0, *pyramid.shapes[level][::-1])))]

    seeds, covered = {}, [np.zeros(shape, np.int64) for shape in pyramid.shapes]
    rows, cols = pyramid.shard_grid
    for row in range(rows):
        for col in range(cols):
            levels = pyramid.levels_of(cut(0, pyramid.part(0, row, col)), mode)
            assert len(levels) == pyramid.own + 1 + pyramid.seeded
            for level, pixels in enumerate(levels):
                np.testing.assert_array_equal(pixels, cut(level, pyramid.part(level, row, col)))
                if level <= pyramid.own:
                    covered[level][pyramid.part(level, row, col).slices(Window(0, 0, width, height))] += 1
            seeds[row, col] = levels[-1]
    order = []
    for (level, row, col), pixels in pyramid.make_further(lambda row, col: seeds[row, col], mode):
        window = pyramid.part(level, row, col, TILE_PX)
        np.testing.assert_array_equal(pixels, cut(level, window))
        covered[level][window.slices(Window(0, 0, width, height))] += 1
        order.append((level, row, col))
    assert order == list(pyramid.further())
    assert all((count == 1).all() for count in covered), "a pixel was made twice, or never"


def test_a_shard_s_owner_makes_every_level_whose_tiles_lie_inside_it() -> None:
    assert Pyramid(height=20000, width=20000, shard_px=2048).own == 2
    assert Pyramid(height=20000, width=20000, shard_px=512).own == 0
    assert Pyramid(height=20000, width=20000, shard_px=1536).own == 0
    assert Pyramid(height=600, width=20, shard_px=2048).own == 1
    assert not Pyramid(height=600, width=20, shard_px=2048).seeded
