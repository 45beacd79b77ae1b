from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.tiling.chips import split_blocks
from earthloom.tiling.reading.tile_cache import Cell, TileCache
from earthloom.tiling.window import Window

SCENE = Window(0, 0, 1900, 1300)
VALUES = np.random.default_rng(1).integers(0, 9999, (2, *SCENE.shape)).astype(np.uint16)
MASK = VALUES[0] % 3 > 0


class Source:
    """Counts what is asked of it."""

    def __init__(self, masked: bool = True) -> None:
        self.loaded: list[Window] = []
        self.masked = masked

    def __call__(self, window: Window) -> Cell:
        self.loaded.append(window)
        inside = window.slices(SCENE)
        return VALUES[(slice(None), *inside)], MASK[inside] if self.masked else None


window = st.builds(Window, st.integers(0, 1800), st.integers(0, 1200), st.integers(1, 900), st.integers(1, 900)).map(
    lambda one: one & SCENE
)


@settings(deadline=None, max_examples=60)
@given(
    windows=st.lists(window, min_size=1, max_size=6), cell=st.tuples(st.integers(60, 400), st.integers(60, 400)),
    limit=st.sampled_from([0, 400_000, 1 << 30]), reach_px=st.sampled_from([1, 64, 2000]), masked=st.booleans(),
)  # fmt: skip
def test_what_comes_through_the_cache_is_what_the_file_holds(
    windows: list[Window], cell: tuple[int, int], limit: int, reach_px: int, masked: bool
) -> None:
    cache, source = TileCache(limit), Source(masked)
    for one in windows:
        values, mask = cache.read("file", source, one, extent=SCENE, cell=cell, reach_px=reach_px)
        np.testing.assert_array_equal(values, VALUES[(slice(None), *one.slices(SCENE))])
        if masked:
            assert mask is not None
            np.testing.assert_array_equal(mask, MASK[one.slices(SCENE)])
        else:
            assert mask is None


def test_files_and_readings_of_them_are_kept_apart() -> None:
    cache, source = TileCache(), Source()
    for name in ("a", "b", "a"):
        cache.read(name, source, Window(0, 0, 100, 100), extent=SCENE, cell=(64, 64), reach_px=2000)
    assert len(source.loaded) == 2


def test_in_strips_a_tile_that_blocks_share_is_loaded_once_but_for_the_edges_of_strips() -> None:
    scene = Window(0, 0, 12 * 256, 16 * 256)
    decoded = {}
    for strip in (3, None):
        loaded: list[Window] = []

        def load(part: Window, loaded: list[Window] = loaded) -> Cell:
            loaded.append(part)
            return np.zeros((1, *part.shape), np.uint8), None

        cache = TileCache(60 * 64 * 64)  # tiles; a row of blocks over the whole scene leaves 100 behind
        for block in split_blocks(scene, core_px=256, block_px=256, shard_px=256, strip=strip):
            read = block.core.grow(20) & scene
            cache.read("file", load, read, extent=scene, cell=(64, 64), reach_px=20)
        decoded[strip] = sum(part.size_px for part in loaded) / scene.size_px
    assert decoded[3] < 1.2
    assert decoded[None] > 1.4, "the bound is not tight enough to tell anything"


def test_missing_cells_are_loaded_as_few_rectangles() -> None:
    cache, source = TileCache(), Source()
    cache.read("file", source, Window(0, 0, 512, 512), extent=SCENE, cell=(256, 256), reach_px=2000)
    cache.read("file", source, Window(256, 256, 768, 768), extent=SCENE, cell=(256, 256), reach_px=2000)
    assert source.loaded == [
        Window(0, 0, 512, 512), Window(512, 256, 512, 256), Window(256, 512, 768, 512),
    ]  # fmt: skip
