"""The life of single pixels, told as rows of letters, and against plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from earthloom.jobs.monitoring.alerts.pixels import (
    AFTER,
    BEFORE,
    MAGNITUDE_STEPS,
    NOTHING,
    OTHER,
    Observation,
    PixelStates,
    advance,
    observe_classes,
    observe_flags,
)
from earthloom.jobs.monitoring.alerts.rule import Change, Rule
from earthloom.jobs.monitoring.alerts.tasks import decode_pixels, encode_pixels
from earthloom.jobs.monitoring.trends.detectors.anomalies import UNKNOWN
from earthloom.tiling.errors import ConfigError, PublishError, TilingError
from tests.jobs.monitoring.alert_worlds import World, slow_pixels, worlds

CODES = {" ": NOTHING, "l": BEFORE, "W": AFTER, "s": OTHER}


def phases(seen: str, **options: Any) -> str:
    """Phase of a pixel after each date: idle, armed, provisional, confirmed."""
    rule = Rule(name="test", before="land", after="water", **options)
    states, told = PixelStates.idle((1, 1)), ""
    for day, letter in enumerate(seen):
        advance(states, Observation(seen=np.array([[CODES[letter]]], np.uint8)), day, rule)
        told += "iapc"[states.phase[0, 0]]
    return told


@pytest.mark.parametrize(
    ("seen", "options", "wanted"),
    [
        ("lW", {}, "ap"),  # the first observation of the change is provisional
        ("lWW", {}, "apc"),
        ("lWlW", {}, "apap"),  # another one drops it, and arms it where it is the state before
        ("lWsW", {}, "apii"),  # after a third state, the change did not begin from the right one
        ("WWWW", {}, "iiii"),  # what was never seen before the change has not changed
        ("lsWW", {}, "aiii"),
        ("l  W   W", {}, "aaapppp" + "c"),  # no data say nothing
        ("lWWlWl", {}, "apcccc"),  # one miss does not end a confirmed pixel, and a hit forgets it
        ("lWWllWW", {}, "apccapc"),  # two do; and it may begin anew
        ("lWWlsW", {}, "apccii"),
        ("lWWl l", {}, "apccca"),
        ("lWWllll", {"closing": 0}, "apccccc"),  # never over
        ("lWWl", {"closing": 1}, "apca"),
        ("lW", {"confirmations": 1}, "ac"),
        ("lWl", {"confirmations": 1}, "acc"),
        ("lWWWW", {"settling": 3}, "apcci"),  # settled on the date after the third
        ("lWWW lWW", {"settling": 3}, "apcciapc"),
        ("lWWWl", {"settling": 3}, "apcca"),
        ("lWlWWW", {"settling": 3}, "apapcc"),
    ],
)
def test_a_pixel_lives_as_the_diagram_says(seen: str, options: dict[str, Any], wanted: str) -> None:
    assert phases(seen, **options) == wanted


@settings(deadline=None, max_examples=80)
@given(world=worlds(side_px=9, most_days=12))
def test_pixels_are_those_of_plain_python_after_every_day(world: World) -> None:
    states = PixelStates.idle(world.grid.shape)
    for step, (day, pixels) in enumerate(zip(world.days, slow_pixels(world), strict=True)):
        advance(states, Observation(seen=world.seen[step], confidence=world.confidence[step]), day, world.rule)
        for place, pixel in pixels.items():
            days = pixel.to_days
            assert bool(states.active[place]) == bool(days)
            told = [int(states.arrays()[name][place]) for name in ("count", "first_day", "last_day", "confidence")]
            assert told == [len(days), days[0][0] if days else 0, days[-1][0] if days else 0, sum(c for _, c in days)]
            assert (states.phase[place] == 3) == pixel.confirmed
        again, tracked = decode_pixels(encode_pixels(states, states.active), states.shape, "a test")
        assert (tracked == states.active).all()
        assert all((states.arrays()[name] == values).all() for name, values in again.arrays().items())


def test_classes_are_observed_by_their_lists_and_no_data_is_none() -> None:
    classes = np.array([[0, 1, 2, 3, 255, 1]], np.uint8)
    confidence = np.array([[200, 210, 220, 230, 255, 255]], np.uint8)
    found = observe_classes(classes, confidence, Change(before=(0,), after=(1,), ignore=(3,)))
    assert found.seen.tolist() == [[BEFORE, AFTER, OTHER, NOTHING, NOTHING, NOTHING]]


@pytest.mark.parametrize(
    ("direction", "wanted"), [(None, [AFTER, AFTER]), ("fall", [AFTER, OTHER]), ("rise", [OTHER, AFTER])]
)
def test_flags_are_observed_by_their_direction(direction: Any, wanted: list[int]) -> None:
    found = observe_flags(np.array([[0, -2, 5, UNKNOWN]], np.int8), direction)
    assert found.seen.tolist() == [[BEFORE, *wanted, NOTHING]]
    assert found.magnitude is not None
    assert found.magnitude[0, :3].tolist() == [0, 2 * MAGNITUDE_STEPS, 5 * MAGNITUDE_STEPS]


def test_an_observation_of_another_shape_is_refused() -> None:
    rule = Rule(name="test", before="a", after="b")
    with pytest.raises(TilingError, match=r"\(2, 3\).*\(3, 2\)"):
        advance(PixelStates.idle((3, 2)), Observation(seen=np.zeros((2, 3), np.uint8)), 0, rule)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Land to water"}, "small letters"),
        ({"confirmations": 0}, "0 confirmations"),
        ({"closing": 256}, "256 closing"),
        ({"settling": 1}, "never confirmed by 2"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Rule(**{"name": "test", "before": "a", "after": "b"} | options)


def test_stored_pixels_that_are_damaged_are_refused_with_the_remedy() -> None:
    data = encode_pixels(PixelStates.idle((4, 5)), np.zeros((4, 5), np.bool_))
    for wrong, shape in ((data[:-40], (4, 5)), (b"", (4, 5)), (data, (5, 5))):
        with pytest.raises(PublishError, match="remove the folder"):
            decode_pixels(wrong, shape, "state/0_0.pixels")
