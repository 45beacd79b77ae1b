"""Alerts are a pure function of a cube's dates: whatever the order, the duplicates, the kills and the shards."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earthloom.jobs.monitoring.alerts.head import read_head
from earthloom.jobs.monitoring.alerts.pixels import AFTER, BEFORE
from earthloom.jobs.monitoring.alerts.rule import Rule
from earthloom.jobs.monitoring.alerts.stage import plan_alerts
from earthloom.tiling.storage.store import Store
from tests.faults.loop import drawn
from tests.faults.store import Fault, FaultyStore, Injector
from tests.jobs.monitoring.alert_cubes import alerts_of, cube_of, persist, published, update
from tests.jobs.monitoring.alert_worlds import World, worlds
from tests.memory_store import MemoryStore

TILES = st.sampled_from([4, 8, 32])
EVERY_3 = mock.patch("earthloom.jobs.monitoring.alerts.history.CHECKPOINT_STEPS", 3)
FAULTS = 16
SEED = 5


def at_once(world: World, tile_px: int) -> dict[str, bytes]:
    """What is published when all dates come in one update."""
    store, of = MemoryStore(), alerts_of(cube_of(world, tile_px, range(len(world.days))), world.rule)
    update(store, of)
    assert not plan_alerts(store, of), "what is up to date gives no task"
    return published(store, of)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.data_too_large])
@given(world=worlds(side_px=12, most_days=6), tile_px=TILES, data=st.data())
def test_dates_in_any_order_with_updates_between_give_the_same_bytes(
    world: World, tile_px: int, data: st.DataObject
) -> None:
    positions = range(len(world.days))
    arrivals = data.draw(st.lists(st.sampled_from(positions), max_size=6), label="arrivals, some twice")
    arrivals += data.draw(st.permutations(positions), label="and all at last")
    store, known, generation = MemoryStore(), set[int](), 1
    with EVERY_3:
        wanted = at_once(world, tile_px)
        for number, arrival in enumerate(arrivals):
            if known and arrival < max(known) and arrival not in known:
                generation += 1
            known.add(arrival)
            of = alerts_of(cube_of(world, tile_px, known, generation), world.rule)
            if number == len(arrivals) - 1 or data.draw(st.booleans(), label="update now"):
                update(store, of)
    assert published(store, of) == wanted


@settings(deadline=None, max_examples=15)
@given(world=worlds(side_px=12), tile_px=TILES)
def test_the_view_is_what_the_partitions_said_last_of_each_alert(world: World, tile_px: int) -> None:
    """So whoever keeps the partitions knows what was known on any day."""
    files = at_once(world, tile_px)
    told: dict[str, dict[str, Any]] = {}
    for name in sorted(files):  # by date
        if name not in ("alerts.parquet", "alerts.fgb", "alerts.pmtiles", "item.json"):
            told |= {row["id"]: row for row in pq.read_table(io.BytesIO(files[name])).to_pylist()}
    view = pq.read_table(io.BytesIO(files["alerts.parquet"])).to_pylist()
    assert {row["id"]: row for row in view} == told


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.data_too_large])
@given(world=worlds(side_px=12), tile_px=TILES, data=st.data())
def test_an_update_that_is_killed_at_any_requests_ends_with_the_same_bytes(
    world: World, tile_px: int, data: st.DataObject
) -> None:
    store, dates = MemoryStore(), len(world.days)
    updates = [*sorted(data.draw(st.sets(st.integers(1, dates), max_size=2), label="updates after")), dates]
    deaths = data.draw(st.lists(st.integers(1, 60), max_size=3), label="requests until each death")

    def dying() -> Iterator[Store]:
        while deaths:
            left = [deaths.pop()]

            def fate(_: Any, left: list[int] = left) -> str | None:
                left[0] -= 1
                return None if left[0] else "kill after" if len(deaths) % 2 else "kill before"

            yield FaultyStore(store, Injector(chance=fate))
        yield store

    for n in updates:
        of = alerts_of(cube_of(world, tile_px, range(n)), world.rule)
        persist(dying(), of)
    assert published(store, of) == at_once(world, tile_px)


@cache
def a_world() -> World:
    """Five dates on which alerts begin, grow together, fall apart and end, across four shards of 8 px."""
    seen = np.full((5, 12, 14), BEFORE, np.uint8)
    seen[1, 2:5, 2:6] = seen[1, 7:10, 2:12] = AFTER
    seen[2, 2:9, 2:7] = seen[2, 9:11, 5:13] = AFTER
    seen[3, 2:4, 2:7] = seen[3, 9:11, 5:13] = seen[3, 0, 13] = AFTER
    seen[4, 9:11, 5:9] = AFTER
    rng = np.random.default_rng(1)
    confidence = rng.integers(0, 251, seen.shape).astype(np.uint8)
    rule = Rule(name="land-to-water", before="land", after="water", confirmations=2, closing=1, min_area_m2=3000.0)
    return World(seen=seen, confidence=confidence, days=(18_000, 18_010, 18_020, 18_040, 18_041), rule=rule)


@cache
def _before_the_fault() -> dict[str, bytes]:
    store, world = MemoryStore(), a_world()
    for known in ([0, 2], [0, 2, 3]):
        update(store, alerts_of(cube_of(world, 8, known), world.rule))
    return store.objects


def before_the_fault() -> MemoryStore:
    """Three of the dates are taken into account; of a cube whose past has changed since."""
    return MemoryStore(objects=_before_the_fault())


@cache
def wanted() -> dict[str, bytes]:
    return at_once(a_world(), 8)


def everything() -> Any:
    return alerts_of(cube_of(a_world(), 8, range(5), generation=2), a_world().rule)


@pytest.mark.parametrize("number", range(FAULTS))
def test_any_request_of_an_update_may_fail_in_any_way(number: int) -> None:
    fault = drawn(faults(), SEED)[number]
    assert not strike(fault)


@cache
def faults() -> tuple[Fault, ...]:
    store, injector = before_the_fault(), Injector()
    update(FaultyStore(store, injector), everything())
    return tuple(Fault(request, action) for request in injector.requests for action in request.actions)


def strike(fault: Fault) -> str:
    """What is wrong after an update that meets a fault and further ones that do not; empty if nothing is."""
    store, of, injector = before_the_fault(), everything(), Injector(fault)
    before = read_head(store, of.places())
    tries = persist((FaultyStore(store, injector), store, store), of)
    if not injector.fired:
        return f"{fault} was never met"
    if published(store, of) != wanted():
        return f"{fault}: other bytes after {tries} updates"
    return "" if read_head(store, of.places()) != before else f"{fault}: nothing was published"


def test_a_shard_whose_pieces_need_more_memory_than_planned_says_so_and_is_planned_with_that() -> None:
    world = a_world()
    store, of = MemoryStore(), alerts_of(cube_of(world, 16, range(5)), world.rule)
    (usual,) = plan_alerts(store, of)
    assert usual.do(store) < len(world.days), "it stops before it would take more"
    (enough,) = plan_alerts(store, of)
    assert enough.memory_bytes > usual.memory_bytes
    assert enough.key != usual.key
    assert enough.do(store) == len(world.days)
    update(store, of)
    assert published(store, of) == at_once(world, 16)
