"""The thinned scene behind objects: what numpy picks from the whole scene, however it was cut into shards and reads."""

from __future__ import annotations

import numpy as np
import pytest

from earthloom.jobs.products.backdrop import backdrop, backdrop_part
from earthloom.models.inference.stack import Stack
from earthloom.tiling.window import Window
from earthloom.tiling.writing.pyramid import Pyramid

BANDS = ("nir", "blue", "green", "red")


@pytest.mark.parametrize(("scale", "level"), [(1, 0), (1, 2), (2, 0), (2, 3)])
def test_the_parts_of_all_shards_are_every_nth_pixel_of_the_scene_in_natural_colours(scale: int, level: int) -> None:
    rng = np.random.default_rng(0)
    height, width = 1300 // scale, 2200 // scale
    values = rng.integers(0, 10_000, (4, height, width), dtype=np.uint16)
    valid = rng.random((height, width)) < 0.9
    pyramid = Pyramid(height=height * scale, width=width * scale, shard_px=512)
    parts = []
    for part in Window(0, 0, width * scale, height * scale).split(512):
        around = Window(part.col_off // scale - 40, part.row_off // scale - 40, 512 // scale + 80, 512 // scale + 80)
        whole = Stack(
            window=Window(0, 0, width, height), names=BANDS, values=values, valid=valid,
            gain=np.full(4, 1e-4, np.float32), bias=np.full(4, -0.1, np.float32),
        )  # fmt: skip
        parts.append(backdrop_part(whole.over(around), part, pyramid, level, scale))
    found = backdrop(b"".join(parts[::-1]), pyramid, level)
    picked = np.arange(0, height * scale, 1 << level) // scale, np.arange(0, width * scale, 1 << level) // scale
    expected = np.where(valid, values[[3, 2, 1]] * 1e-4 - 0.1, np.nan)[:, picked[0]][:, :, picked[1]]
    assert found.shape == (3, *pyramid.shapes[level])
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_shard_without_data_leaves_a_hole_and_values_beyond_half_precision_stay_numbers() -> None:
    pyramid = Pyramid(height=512, width=1024, shard_px=512)
    part = Window(512, 0, 512, 512)
    bright = Stack(
        window=part, names=("vv",), values=np.full((1, 512, 512), 70_000, np.uint32), valid=np.ones((512, 512), bool),
        gain=np.ones(1, np.float32), bias=np.zeros(1, np.float32),
    )  # fmt: skip
    found = backdrop(backdrop_part(bright, part, pyramid, 0, 1), pyramid, 0)
    assert np.isnan(found[:, :, :512]).all()
    assert (found[:, :, 512:] == 65_504).all()
