"""Alerts are a pure function of a cube's dates: whatever the order, the duplicates, the kills and the shards."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earthloom.jobs.monitoring.alerts.stage import plan_alerts
from tests.faults.store import Fault, FaultyStore, Injector, Killed
from tests.jobs.monitoring.alert_cubes import alerts_of, cube_of, local, persist, published, update
from tests.jobs.monitoring.alert_worlds import World, worlds

TILES = st.sampled_from([4, 8, 32])


def at_once(folder: Path, world: World, tile_px: int) -> dict[str, bytes]:
    """What is published when all dates come in one update."""
    store, of = local(folder), alerts_of(cube_of(world, tile_px, range(len(world.days))), world.rule)
    update(store, of)
    assert not plan_alerts(store, of), "what is up to date gives no task"
    return published(store, of)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.data_too_large])
@given(world=worlds(side_px=12, most_days=5), tile_px=TILES, data=st.data())
def test_dates_in_any_order_with_updates_between_give_the_same_bytes(
    world: World, tile_px: int, data: st.DataObject
) -> None:
    arrivals = data.draw(st.lists(st.integers(0, len(world.days) - 1), max_size=6), label="arrivals")
    arrivals += data.draw(st.permutations(range(len(world.days))), label="the rest")
    with tempfile.TemporaryDirectory() as folder:
        wanted = at_once(Path(folder, "once"), world, tile_px)
        store, known, generation = local(Path(folder, "many")), set[int](), 1
        for number, arrival in enumerate(arrivals):
            if known and arrival < max(known) and arrival not in known:
                generation += 1
            known.add(arrival)
            of = alerts_of(cube_of(world, tile_px, known, generation), world.rule)
            if number == len(arrivals) - 1 or data.draw(st.booleans(), label="update now"):
                update(store, of)
        assert published(store, of) == wanted
