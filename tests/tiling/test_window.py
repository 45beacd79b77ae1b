from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.tiling.chips import ChipGrid, reflect_indices, split_blocks
from earthloom.tiling.errors import TilingError
from earthloom.tiling.window import Window

windows = st.builds(
    Window,
    col_off=st.integers(-50, 50),
    row_off=st.integers(-50, 50),
    width=st.integers(0, 60),
    height=st.integers(0, 60),
)


def pixels(window: Window) -> set[tuple[int, int]]:
    rows, cols = range(window.row_off, window.row_end), range(window.col_off, window.col_end)
    return {(row, col) for row in rows for col in cols}


@settings(deadline=None)
@given(a=windows, b=windows)
def test_the_common_part_holds_exactly_the_common_pixels(a: Window, b: Window) -> None:
    assert pixels(a & b) == pixels(a) & pixels(b)


@settings(deadline=None)
@given(window=windows, step=st.integers(1, 20))
def test_aligning_gives_the_smallest_aligned_window_around(window: Window, step: int) -> None:
    aligned = window.align(step)
    assert aligned.contains(window)
    assert all(edge % step == 0 for edge in (aligned.col_off, aligned.row_off, aligned.col_end, aligned.row_end))
    assert window.col_off - aligned.col_off < step
    assert aligned.row_end - window.row_end < step


def test_slices_outside_the_base_are_refused_rather_than_wrapped_around() -> None:
    with pytest.raises(TilingError, match="not inside"):
        Window(-1, 0, 2, 2).slices(Window(0, 0, 10, 10))


@settings(deadline=None)
@given(
    width=st.integers(1, 200),
    height=st.integers(1, 200),
    core=st.sampled_from([4, 8, 16]),
    shards=st.integers(1, 3),
    blocks=st.integers(1, 3),
    halo=st.sampled_from([0, 4, 8]),
    blend=st.booleans(),
)
def test_every_pixel_is_owned_once_and_sees_its_whole_context(
    width: int, height: int, core: int, shards: int, blocks: int, halo: int, blend: bool
) -> None:
    blend = blend and 0 < 2 * halo <= core
    chips = ChipGrid(scene=Window(0, 0, width, height), core_px=core, halo_px=halo, stride_px=4, blend=blend)
    owners = np.zeros((height, width), int)
    for block in split_blocks(chips.scene, core_px=core, block_px=core * shards * blocks, shard_px=core * shards):
        owners[block.core.slices(chips.scene)] += 1
        read = chips.read(block.core)
        for owned in chips.cores(block.core):
            assert read.contains(owned.grow(halo)), "a chip would miss context"
        assert chips.extent.contains(read)
        covered = np.zeros((height, width), bool)
        for owned in chips.cores(block.core):
            covered[(owned & chips.scene).slices(chips.scene)] = True
        assert covered[block.core.slices(chips.scene)].all(), "a pixel has no chip"
    assert (owners == 1).all()


@settings(deadline=None)
@given(start=st.integers(-40, 0), stop=st.integers(1, 60), length=st.integers(1, 30), halo=st.integers(0, 35))
def test_reflection_is_numpys_and_stops_at_the_halo(start: int, stop: int, length: int, halo: int) -> None:
    padded = np.pad(np.arange(length), halo, mode="reflect")
    for position, index in zip(range(start, stop), reflect_indices(start, stop, length, halo), strict=True):
        inside = -halo <= position < length + halo
        assert index == (padded[position + halo] if inside else -1)


@pytest.mark.parametrize(
    ("core", "halo", "stride", "message"),
    [
        (100, 32, 32, "core 100 px is not a multiple .* stride 32 .* use 128"),
        (128, 48, 32, "halo 48 px is not a multiple .* use 64"),
        (0, 0, 1, "need core > 0"),
    ],
)
def test_a_chip_grid_that_would_shift_pooling_is_refused(core: int, halo: int, stride: int, message: str) -> None:
    with pytest.raises(TilingError, match=message):
        ChipGrid(scene=Window(0, 0, 10, 10), core_px=core, halo_px=halo, stride_px=stride)


def test_blocks_that_would_share_a_shard_or_a_chip_are_refused_with_the_size_to_use() -> None:
    scene = Window(0, 0, 999, 999)
    with pytest.raises(TilingError, match=r"block 1500 px .* set `block` to 1024"):
        next(split_blocks(scene, core_px=512, block_px=1500, shard_px=1024))
    with pytest.raises(TilingError, match=r"shard 768 px is not a multiple of the chip core 512"):
        next(split_blocks(scene, core_px=512, block_px=768, shard_px=768))


@given(
    col=st.integers(-50, 50), row=st.integers(-50, 50), width=st.integers(1, 40), height=st.integers(1, 40),
    factor=st.integers(1, 5),
)  # fmt: skip
def test_coarser_pixels_cover_the_finer_ones_and_no_more_than_they_must(
    col: int, row: int, width: int, height: int, factor: int
) -> None:
    fine = Window(col, row, width, height)
    coarse = fine.unzoom(factor)
    assert coarse.zoom(factor).contains(fine)
    assert fine.zoom(factor).unzoom(factor) == fine
    for side in (coarse.width, coarse.height):
        assert side <= (max(width, height) + factor - 2) // factor + 1


def test_a_blend_needs_ramps_that_do_not_meet() -> None:
    with pytest.raises(TilingError, match="0 < 2 \\* halo <= core"):
        ChipGrid(scene=Window(0, 0, 10, 10), core_px=64, halo_px=64, stride_px=32, blend=True)
