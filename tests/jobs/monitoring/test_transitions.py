"""The matrix of transitions against pandas' crosstab and GeographicLib's areas; the map of changes and its legend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.jobs.monitoring.change.transitions import (
    MOST_CLASSES,
    Sides,
    Transition,
    change_classes,
    change_layers,
    change_value,
    count_transitions,
    exact_areas_m2,
    merge_transitions,
    transition_rows,
    transitions_from_json,
    transitions_to_json,
)
from earthloom.jobs.monitoring.cube.cube import ClassInfo
from earthloom.tiling.errors import ConfigError, PublishError
from earthloom.tiling.grid import Grid
from earthloom.tiling.window import Window
from tests.oracles import geodesic_area_m2

GRID = Grid(crs="EPSG:4326", transform=(3e-4, 0.0, -74.9, 0.0, -3e-4, 61.0), width=120, height=90)
CLASSES = (
    ClassInfo(value=0, name="land", color="#b59f6b"),
    ClassInfo(value=1, name="water", color="#1f78b4"),
    ClassInfo(value=2, name="snow ice", color="#a6eef2"),
)


def sides(seed: int, shape: tuple[int, int], n_classes: int = 3) -> Sides:
    rng = np.random.default_rng(seed)
    values = np.array([*range(n_classes), 255], np.uint8)
    before, after = rng.choice(values, shape), rng.choice(values, shape)
    trust, trust_after = (
        np.where(side == 255, 255, rng.integers(0, 251, shape)).astype(np.uint8) for side in (before, after)
    )
    return Sides(before=before, after=after, before_confidence=trust, after_confidence=trust_after)


def cut(whole: Sides, window: Window) -> Sides:
    at = window.slices(GRID.window)
    return Sides(
        before=whole.before[at], after=whole.after[at], before_confidence=whole.before_confidence[at],
        after_confidence=whole.after_confidence[at],
    )  # fmt: skip


def count(window: Window, whole: Sides) -> tuple[Transition, ...]:
    return count_transitions(cut(whole, window), exact_areas_m2(GRID, window), 3)


def test_the_matrix_is_that_of_pandas_with_areas_of_geographiclib_and_products_of_both_confidences() -> None:
    arrays = sides(1, GRID.shape)
    before, after = arrays.before, arrays.after
    found = {(one.before, one.after): one for one in count(GRID.window, arrays)}
    table = pd.crosstab(before.ravel(), after.ravel())
    rows = [geodesic_area_m2(GRID, Window(0, row, GRID.width, 1)) for row in range(GRID.height)]
    for of in (0, 1, 2, 255):
        for to in (0, 1, 2, 255):
            mask = (before == of) & (after == to)
            one = found[of, to]
            assert one.pixels == table.loc[of, to]
            assert one.area_m2 == pytest.approx((mask.mean(axis=1) * rows).sum(), rel=1e-6)
            if 255 in (of, to):
                assert one.confidence is None
                assert one.confidence_sum == 0
            else:
                both = (arrays.before_confidence[mask] / 250.0) * (arrays.after_confidence[mask] / 250.0)
                assert one.confidence == pytest.approx(both.mean(), rel=1e-12)
    assert sum(one.pixels for one in found.values()) == before.size


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 99), step=st.integers(7, 130), strip=st.integers(1, 50))
def test_neither_the_cut_nor_the_order_of_adding_changes_a_bit(seed: int, step: int, strip: int) -> None:
    arrays = sides(seed, GRID.shape)
    whole = count(GRID.window, arrays)
    parts = [count(part, arrays) for part in GRID.window.split(step)]
    assert merge_transitions(reversed(parts)) == whole
    nested = [merge_transitions(parts[i : i + strip]) for i in range(0, len(parts), strip)]
    assert merge_transitions(nested) == whole
    assert transitions_from_json(transitions_to_json(whole)) == whole


def test_what_left_a_class_and_what_came_into_it_balance() -> None:
    arrays = sides(3, GRID.shape)
    found = count(GRID.window, arrays)
    areas = exact_areas_m2(GRID, GRID.window)
    for value in (0, 1, 2):
        was = sum(one.area_m2 for one in found if one.before == value)
        became = sum(one.area_m2 for one in found if one.after == value)
        assert was == areas[arrays.before == value].sum()
        assert became == areas[arrays.after == value].sum()


@settings(deadline=None, max_examples=30)
@given(n_classes=st.integers(1, MOST_CLASSES))
def test_every_change_has_a_value_of_its_own_and_the_legend_has_no_gap(n_classes: int) -> None:
    classes = tuple(ClassInfo(value=i, name=f"c{i}", color=f"#{i:02x}{i:02x}00") for i in range(n_classes))
    legend = change_classes(classes)
    assert [entry.value for entry in legend] == list(range(n_classes * (n_classes - 1) + 1))
    names = {
        change_value(of, to, n_classes): f"c{of} → c{to}"
        for of in range(n_classes)
        for to in range(n_classes)
        if of != to
    }
    assert {entry.value: entry.name for entry in legend[1:]} == names
    assert legend[0].name == "unchanged"


def test_the_map_says_what_became_of_each_pixel() -> None:
    arrays = sides(4, (40, 50))
    layers = change_layers(arrays, 3)
    legend = {entry.value: entry.name for entry in change_classes(CLASSES)}
    names = {one.value: one.name for one in CLASSES}
    columns = (
        arrays.before, arrays.after, arrays.before_confidence, arrays.after_confidence, layers["classes"],
        layers["confidence"],
    )  # fmt: skip
    for of, to, p, q, value, stored in zip(*(array.ravel().tolist() for array in columns), strict=True):
        if 255 in (of, to):
            assert (value, stored) == (255, 255)
        else:
            assert legend[value] == ("unchanged" if of == to else f"{names[of]} → {names[to]}")
            assert abs(stored / 250 - p * q / 250**2) <= 0.5001 / 250
    assert layers["classes"].dtype == layers["confidence"].dtype == np.uint8


def test_changes_into_one_class_look_alike_and_not_the_same() -> None:
    colors = {entry.name: entry.color for entry in change_classes(CLASSES)}
    assert colors["land → water"] == "#4582a2"  # a quarter of #b59f6b, three of #1f78b4
    assert len(set(colors.values())) == len(colors)


def test_a_table_has_names_and_says_where_a_side_does_not_know() -> None:
    found = (
        Transition(before=0, after=1, pixels=4, area_m2=3600.00049, confidence_sum=4 * 200 * 250),
        Transition(before=1, after=255, pixels=1, area_m2=900.0, confidence_sum=0),
    )
    first, second = transition_rows(found, CLASSES)
    assert first == {
        "value": 1, "before": "land", "after": "water", "color": "#4582a2", "pixels": 4, "area_m2": 3600.0,
        "confidence": 0.8,
    }  # fmt: skip
    assert (second["value"], second["after"], second["confidence"]) == (None, "nodata", None)


def test_of_more_classes_than_a_byte_has_pairs_the_map_tells_what_became_and_the_table_all() -> None:
    classes = tuple(ClassInfo(value=i, name=f"c{i}", color=f"#0000{i:02x}") for i in range(MOST_CLASSES + 1))
    legend = change_classes(classes)
    assert [entry.name for entry in legend] == ["unchanged", *(f"→ c{i}" for i in range(17))]
    (row,) = transition_rows([Transition(before=0, after=16, pixels=1, area_m2=1.0, confidence_sum=9)], classes)
    assert (row["value"], row["before"], row["after"], row["color"]) == (17, "c0", "c16", "#000010")
    many = [ClassInfo(value=i, name=f"c{i}", color="#000000") for i in range(254)]
    assert len(change_classes(many[:253])) == 254
    with pytest.raises(ConfigError, match="room for 253 classes, and these are 254"):
        change_classes(many)


def test_maps_of_another_model_are_refused() -> None:
    arrays, areas, sure = sides(5, (10, 10)), np.ones((10, 10)), np.full((10, 10), 250, np.uint8)
    with pytest.raises(PublishError, match="have the value 7 after the change, but the product has 3 classes"):
        count_transitions(replace(arrays, after=np.full((10, 10), 7, np.uint8), after_confidence=sure), areas, 3)
    with pytest.raises(PublishError, match="confidence 251, above 250"):
        count_transitions(replace(arrays, before_confidence=np.full((10, 10), 251, np.uint8)), areas, 3)
    with pytest.raises(PublishError, match="differ in shape"):
        replace(arrays, after=arrays.after[:5])
