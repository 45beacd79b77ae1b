"""Rules by name, what they refuse, in which order dates win, and what each makes of a small stack."""

from __future__ import annotations

import datetime
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from earthloom.jobs.monitoring.composites.periods import parse_period
from earthloom.jobs.monitoring.composites.rules import CompositeTable, parse_rule, reduce_dates
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.writing.zarr_sink import Layer

MAP = (Layer(name="classes"), Layer(name="confidence"))
IMAGE = (Layer(name="red", dtype="uint16", nodata=0), Layer(name="ndvi", dtype="float32", nodata=math.nan))


@pytest.mark.parametrize("text", ["median", "mode", "best", "best:middle", "best:clear", "max:ndvi", "min:a:b"])
def test_a_rule_is_its_name(text: str) -> None:
    assert str(parse_rule(text)) == text
    assert ":" not in parse_rule(text).slug


@pytest.mark.parametrize("text", ["", "mean", "median:red", "max", "max:", "best:cloud", "mode:", "Median"])
def test_what_is_no_rule_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ConfigError, match="give median, mode, best"):
        parse_rule(text)
    with pytest.raises(ValidationError, match="give median, mode, best"):
        CompositeTable(every="year", rule=text)


@pytest.mark.parametrize(
    ("rule", "layers", "message"),
    [
        ("median", MAP, "classes have no median"),
        ("mode", IMAGE, "the layers are red, ndvi"),
        ("max:nir", IMAGE, "no layer 'nir'; there is red, ndvi"),
        ("best", (*IMAGE, Layer(name="count")), "rename it"),
    ],
)
def test_a_rule_that_means_nothing_for_the_layers_is_refused(
    rule: str, layers: tuple[Layer, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_rule(rule).check(layers)


def test_dates_near_the_middle_come_first_and_the_earlier_of_two() -> None:
    dates = [datetime.date(2020, 6, day) for day in (1, 14, 15, 16, 30)]
    june = parse_period("2020-06")
    assert parse_rule("best").order(june, dates) == (2, 3, 1, 0, 4)
    assert parse_rule("best:clear").order(june, dates, [9, 1, 7, 9, 9]) == (3, 0, 4, 2, 1)
    with pytest.raises(ConfigError, match="how much of the area is clear"):
        parse_rule("best:clear").order(june, dates)


def test_each_rule_of_a_map() -> None:
    classes = np.array([[[0, 1, 255]], [[2, 1, 255]], [[2, 0, 255]]], np.uint8)
    confidence = np.array([[[200, 99, 255]], [[100, 99, 255]], [[50, 99, 255]]], np.uint8)
    stacks = {"classes": classes, "confidence": confidence}

    def made(rule: str) -> Any:
        found = reduce_dates(parse_rule(rule), MAP, stacks, (1, 2, 0), n_classes=3, count_dtype="uint8")
        return tuple(found[name][0].tolist() for name in ("classes", "confidence", "count"))

    assert made("mode") == ([2, 1, 255], [167, 167, 255], [3, 3, 0])
    assert made("best") == made("max:confidence") == ([0, 1, 255], [200, 99, 255], [3, 3, 0])
    assert made("best:middle") == ([2, 1, 255], [100, 99, 255], [3, 3, 0])
    assert made("min:confidence") == ([2, 1, 255], [50, 99, 255], [3, 3, 0])


def test_each_rule_of_an_image() -> None:
    red = np.array([[[10, 0, 30]], [[11, 20, 0]], [[14, 21, 0]]], np.uint16)
    ndvi = np.array([[[0.1, 0.2, np.nan]], [[0.5, 0.5, 0.5]], [[0.3, 0.9, 0.9]]], np.float32)
    stacks: dict[str, NDArray[Any]] = {"red": red, "ndvi": ndvi}

    def made(rule: str) -> Any:
        found = reduce_dates(parse_rule(rule), IMAGE, stacks, (1, 2, 0), n_classes=0, count_dtype="uint16")
        assert [str(found[name].dtype) for name in ("red", "ndvi", "count")] == ["uint16", "float32", "uint16"]
        return tuple(found[name][0].tolist() for name in ("red", "ndvi", "count"))

    # an observation without one of its layers is none: neither the red of 30 nor the 0.9 above it has a say
    assert made("median") == ([11, 20, 0], pytest.approx([0.3, 0.7, math.nan], nan_ok=True), [3, 2, 0])
    assert made("max:ndvi") == ([11, 21, 0], pytest.approx([0.5, 0.9, math.nan], nan_ok=True), [3, 2, 0])
    assert made("best") == ([11, 20, 0], pytest.approx([0.5, 0.5, math.nan], nan_ok=True), [3, 2, 0])
