"""Alerts of small worlds: against plain Python, and the same however the grid is cut and the dates are taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.jobs.monitoring.alerts.ledger_file import decode, encode
from earthloom.jobs.monitoring.alerts.lives import Alert, Ledger
from earthloom.jobs.monitoring.alerts.pixels import AFTER, BEFORE, NOTHING
from earthloom.jobs.monitoring.alerts.rule import Rule
from tests.jobs.monitoring.alert_worlds import Pixel, World, run, slow_alerts, worlds


@settings(deadline=None, max_examples=100)
@given(world=worlds(), tile_px=st.sampled_from([4, 8, 16, 32]))
def test_alerts_are_those_of_plain_python_on_every_day(world: World, tile_px: int) -> None:
    for (ledger, _), wanted in zip(run(world, tile_px), slow_alerts(world), strict=True):
        found = {alert.id: _told(alert) for alert in ledger.alerts}
        assert len(found) == len(ledger.alerts), "ids differ"
        assert found == {name: _expected(alert, world.rule.settling) for name, alert in wanted.items()}


def _told(alert: Alert) -> dict[str, Any]:
    return {
        "born": alert.born_day, "first_pixel": (alert.born_row, alert.born_col), "split_from": alert.split_from,
        "confirmed": alert.confirmed_day, "over": alert.closed_day, "merged_into": alert.merged_into, "first": alert.first_day,
        "last": alert.last_day, "grown": alert.grown_day, "count": alert.count, "area": alert.now.area, "px": alert.now.px,
        "observations": alert.now.observations, "confidence": alert.now.confidence, "state": alert.state,
        "pixels": _pixels(alert.now.outline),
    }  # fmt: skip


def _expected(alert: dict[str, Any], settling: int) -> dict[str, Any]:
    told = {name: alert[name] for name in ("born", "first_pixel", "split_from", "confirmed", "over", "merged_into",
                                           "first", "last", "grown", "count")}  # fmt: skip
    shown = "largest_" if alert["over"] is not None else ""
    pixels = alert[f"{shown}pixels"]
    if alert["over"] is None:
        state = "provisional" if alert["confirmed"] is None else "confirmed"
    else:
        state = "merged" if alert["merged_into"] else "dropped" if alert["confirmed"] is None else "closed"
        if state == "closed" and settling and alert["count"] >= settling:
            state = "settled"
    return told | {
        "area": alert["largest"] if shown else alert["area"], "px": len(pixels), "pixels": pixels, "state": state,
        "observations": alert[f"{shown}observations"], "confidence": alert[f"{shown}confidence"],
    }  # fmt: skip


def _pixels(outline: bytes) -> set[Pixel]:
    """The pixels whose centres lie in an outline."""
    shape = shapely.from_wkb(outline)
    assert shape.geom_type == "MultiPolygon"
    assert shape.is_valid
    left, top, right, bottom = (int(edge) for edge in shape.bounds)
    rows, cols = np.mgrid[top:bottom, left:right]
    inside = shapely.contains_xy(shape, cols.ravel() + 0.5, rows.ravel() + 0.5)
    assert shape.area == inside.sum()
    return set(zip(rows.ravel()[inside].tolist(), cols.ravel()[inside].tolist(), strict=True))


@settings(deadline=None, max_examples=300)
@given(world=worlds(most_days=9), tile_px=st.sampled_from([4, 32]))
def test_alerts_are_confirmed_between_their_first_and_latest_observation(world: World, tile_px: int) -> None:
    for ledger, _ in run(world, tile_px):
        for alert in ledger.alerts:
            if alert.confirmed_day is not None:
                assert alert.first_day <= alert.confirmed_day <= alert.last_day


def line(*days: str) -> World:
    """Pixels side by side, day by day: `B`efore, `A`fter, `.` nothing; two observations confirm, and one pixel is enough."""
    codes = {"B": BEFORE, "A": AFTER, ".": NOTHING}
    seen = np.array([[[codes[pixel] for pixel in day]] for day in days], np.uint8)
    rule = Rule(name="test", before="land", after="water", confirmations=2, closing=0, min_area_m2=0.0)
    return World(seen=seen, confidence=np.full_like(seen, 200), days=tuple(range(len(days))), rule=rule)


@pytest.mark.parametrize(
    ("world", "first_confirmed_last"),
    [
        # the alert is confirmed on day 2, the part is first seen on day 3 and falls off on day 5
        pytest.param(line("BBB", "A..", "A..", ".AA", "..A", ".B."), (3, 3, 4), id="a part that came later"),
        # the part is seen until day 3, and is confirmed by way of an older alert that it meets on day 4
        pytest.param(line("BBB", "A..", "..A", "..A", ".A.", ".B."), (2, 3, 3), id="a part that was seen before"),
    ],
)
def test_a_part_of_a_confirmed_alert_is_confirmed_within_its_own_observations(
    world: World, first_confirmed_last: tuple[int, int, int]
) -> None:
    *_, (ledger, _) = run(world, 32)
    (part,) = [alert for alert in ledger.alerts if alert.split_from]
    assert (part.first_day, part.confirmed_day, part.last_day) == first_confirmed_last


@settings(deadline=None, max_examples=60)
@given(world=worlds(side_px=20), tiles=st.permutations([3, 4, 8, 16, 32]))
def test_alerts_do_not_depend_on_how_the_grid_is_cut(world: World, tiles: list[int]) -> None:
    one, other = (list(run(world, tile_px)) for tile_px in tiles[:2])
    for (ledger, changed), (same, also_changed) in zip(one, other, strict=True):
        assert ledger.alerts == same.alerts
        assert changed == also_changed


@settings(deadline=None, max_examples=60)
@given(world=worlds(side_px=20))
def test_what_changed_is_all_that_differs_from_the_day_before(world: World) -> None:
    before = Ledger()
    for ledger, changed in run(world, 8):
        known = dict(enumerate(before.alerts))
        assert changed == tuple(n for n, alert in enumerate(ledger.alerts) if alert != known.get(n))
        before = ledger


@settings(deadline=None, max_examples=20)
@given(world=worlds(side_px=20))
def test_a_stored_ledger_is_read_as_it_was(world: World) -> None:
    for ledger, _ in run(world, 8, stored=True):
        found = decode(encode(ledger), "a test")
        assert found.alerts == ledger.alerts
        assert {shard: owners.tolist() for shard, owners in found.pieces.items()} == {
            shard: owners.tolist() for shard, owners in ledger.pieces.items()
        }
