"""Scenes of one day become one layer by a rule whose ties are ordered."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from earthloom.jobs.monitoring.cube.overlap import in_order, merge
from earthloom.jobs.monitoring.cube.sources import Source
from earthloom.tiling.writing.zarr_sink import Layer

LAYERS = (Layer(name="classes"), Layer(name="confidence"))
SHAPE = (3, 4)
Stacks = list[tuple[dict[str, NDArray[np.uint8]], NDArray[np.bool_]]]


def source(scene_id: str, moment: str = "2020-01-01T10:00:00Z") -> Source:
    return Source(prefix=f"scenes/{scene_id}/k", scene_id=scene_id, moment=moment, rasters=(), classes=())


def test_the_latest_scene_comes_first_and_a_tie_goes_by_prefix() -> None:
    scenes = [source("b"), source("a"), source("late", "2020-01-01T10:00:01Z"), source("c")]
    for given_order in itertools.permutations(scenes):
        assert [one.scene_id for one in in_order(given_order, "latest")] == ["late", "a", "b", "c"]


def test_a_part_of_a_second_later_is_later() -> None:
    scenes = [source("a"), source("b", "2020-01-01T10:00:00.250000Z")]
    assert [one.scene_id for one in in_order(scenes, "latest")] == ["b", "a"]


def test_patterns_rank_scenes_and_the_rest_comes_last() -> None:
    scenes = [source("S2A_x"), source("LC08_x"), source("LC09_x", "2019-01-01T00:00:00Z"), source("other")]
    ordered = [one.scene_id for one in in_order(scenes, ("LC09*", "LC08*"))]
    assert ordered == ["LC09_x", "LC08_x", "S2A_x", "other"]


@st.composite
def stacks(draw: st.DrawFn) -> Stacks:
    small = st.integers(0, 3)
    return [
        (
            {name: draw(arrays.arrays(np.uint8, SHAPE, elements=small)) for name in ("classes", "confidence")},
            draw(arrays.arrays(np.bool_, SHAPE)),
        )
        for _ in range(draw(st.integers(0, 4)))
    ]


@settings(deadline=None, max_examples=60)
@given(scenes=stacks(), by=st.sampled_from([None, "confidence"]))
def test_each_pixel_is_from_the_first_valid_scene_or_the_first_of_the_most_confident(
    scenes: Stacks, by: str | None
) -> None:
    made = merge(iter(scenes), LAYERS, SHAPE, by=by)
    for place in np.ndindex(*SHAPE):
        valid = [values for values, mask in scenes if mask[place]]
        best = max(valid, key=lambda values: values[by][place] if by else 0, default=None)  # max takes the first
        for layer in LAYERS:
            assert made[layer.name][place] == (255 if best is None else best[layer.name][place])


def test_nothing_valid_is_nodata_in_the_dtype_of_the_layer() -> None:
    layer = Layer(name="ndvi", dtype="float32", nodata=float("nan"))
    made = merge([({"ndvi": np.ones(SHAPE, np.float32)}, np.zeros(SHAPE, np.bool_))], (layer,), SHAPE, by=None)
    assert made["ndvi"].dtype == np.float32
    assert np.isnan(made["ndvi"]).all()
