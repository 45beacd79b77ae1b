"""Alerts as a stage of monitoring: what is to be done, and how it becomes what readers see.

A driver lists what is stored and plans: first the shards, then the join, then the tiles. When the view is there, `head.json` is
pointed to it, and what nobody needs any more is removed. Two drivers may do all of this at once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from earthloom.jobs.monitoring.alerts.components import Shard
from earthloom.jobs.monitoring.alerts.evidence import ClassEvidence, Evidence, MonitorEvidence
from earthloom.jobs.monitoring.alerts.head import Head, is_reached, point, read_head, view_name
from earthloom.jobs.monitoring.alerts.history import CHECKPOINT_STEPS, AlertSet, Places, base_of, start_of
from earthloom.jobs.monitoring.alerts.rule import AlertTable, change_of
from earthloom.jobs.monitoring.alerts.tasks import TABLES, JoinTask, ShardTask, TilesTask, usual_bytes
from earthloom.jobs.monitoring.linking import relink
from earthloom.jobs.monitoring.stage import Monitored, Stage
from earthloom.jobs.monitoring.trends.map import MonitorMap
from earthloom.jobs.monitoring.trends.stage import maps_of
from earthloom.jobs.monitoring.worker import MonitorTask
from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.canonical import read_document
from earthloom.jobs.records.names import ITEM
from earthloom.tiling.errors import ConfigError, MissingObjectError, PublishError
from earthloom.tiling.storage.store import Store


def alerts_of(monitored: Monitored) -> list[tuple[AlertSet, str | None]]:
    """The sets of alerts that the `alert` tables of a product ask for, and what each waits for, None if nothing.

    Raises:
        ConfigError: if a table names a class or a monitor that the product does not have, or two have one name.
    """
    sets: dict[str, tuple[AlertSet, str | None]] = {}
    for table in monitored.product.alert:
        if table.name in sets:
            raise ConfigError(
                f"{monitored.name}: there are two alerts called {table.name}; each needs a name of its own"
            )
        evidence: Evidence
        if table.monitor is None:
            evidence = ClassEvidence(change=change_of(table, monitored.cube.classes))
            rule, waits = table.rule("+".join(table.before), "+".join(table.after)), None
        else:
            made, waits = _monitor(monitored, table)
            evidence = MonitorEvidence(made=made, direction=table.direction)
            rule = table.rule("stable", table.direction or "change")
        of = AlertSet(
            cube=monitored.cube, prefix=monitored.prefix, product=monitored.name, rule=rule, evidence=evidence
        )  # fmt: skip
        sets[table.name] = of, waits
    return list(sets.values())


def _monitor(monitored: Monitored, table: AlertTable) -> tuple[MonitorMap, str | None]:
    monitors = {monitor_map.name: (monitor_map, waits) for monitor_map, waits in maps_of(monitored)}
    if table.monitor not in monitors:
        names = ", ".join(monitors) or "none"
        raise ConfigError(f"alert {table.name}: there is no monitor {table.monitor!r}; {monitored.name} has {names}")
    monitor_map, waits = monitors[table.monitor]
    if not monitor_map.rule.breaks:
        raise ConfigError(
            f"alert {table.name}: {monitor_map.rule.method} finds trends and flags no date; alerts follow bfast-monitor, "
            "ewmacd, cusum"
        )
    return monitor_map, waits


def plan_alerts(store: Store, of: AlertSet) -> Sequence[MonitorTask]:
    """Tasks that can be done now: shards that have not seen all dates, else the join, else tiles; none if the view is there."""
    if not of.cube.steps:
        return []
    places = of.places()
    if is_reached(read_head(store, places), places):
        return []
    sizes = {head.key: head.size for head in store.list(places.folder)}
    total, shards = len(places.names), {(row, col): window for row, col, window in of.cube.shards()}
    base = base_of(places, shards, sizes)
    starts = {shard: start_of(places, shard, base, sizes) for shard in shards}
    if waiting := [shard for shard, start in starts.items() if start < total]:
        return [
            ShardTask(
                alerts=of, shard=shard, window=shards[shard], start=starts[shard],
                pieces_bytes=_need(store, places, shard, starts[shard], sizes, usual_bytes(shards[shard])),
            )
            for shard in waiting
        ]  # fmt: skip
    own = [places.update(n) in sizes for n in range(1, total + 1)]
    if base == total and all(own) and all(f"{places.view}/{name}" in sizes for name in TABLES):
        if f"{places.view}/{ITEM}" in sizes:
            return []
        return [TilesTask(alerts=of, stored_bytes=sizes[places.ledger(total)])]
    pieces = [sum(sizes[places.pieces(n, shard)] for shard in shards) for n in range(base + 1, total + 1)]
    return [
        JoinTask(
            alerts=of, base=base, borrowed=_borrowed(places, base, sizes),
            stored_bytes=(sizes[places.ledger(base)] if base else 0) + max(pieces, default=0),
        )
    ]  # fmt: skip


def _need(
    store: Store, places: Places, shard: Shard, start: int, present: Collection[str], usual: int
) -> int:  # fmt: skip
    """Bytes for a shard's pieces: what a task that stopped has found, up to the last date or to where it goes on."""
    most = usual
    for n in {len(places.names), start} - {0}:
        if (key := places.need(n, shard)) in present:
            with suppress(MissingObjectError):  # another driver has come further, and has cleaned up
                most = max(most, int(read_document(store.get(key), key)["bytes"]))
    return most


def _borrowed(places: Places, base: int, present: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Partitions up to the base that only another generation has; equal names have equal content."""
    known = {key.rpartition("/")[2]: key for key in present if key.startswith(f"{places.folder}/updates/")}
    wanted = [places.update(n) for n in range(1, base + 1)]
    own = set(present)
    return tuple((known[key.rpartition("/")[2]], key) for key in wanted if key not in own)


def finish_alerts(store: Store, of: AlertSet) -> Mapping[str, Any]:
    """Make the view current, unless a newer one is, link its item from the area's collection, and say what it holds.

    Raises:
        PublishError: if there is no view, because a task of it failed.
    """
    if not of.cube.steps:
        return {"dates": 0, "alerts": {}}
    places = of.places()
    head = read_head(store, places)
    before = None
    if not is_reached(head, places):
        before = point(store, places, _head(store, places, head))
        head = read_head(store, places)
    assert head is not None
    relink(store, of.aoi, places.folder, [f"{places.folder}/{head.view}"])
    if before is not None:
        _clean(store, places, before)
    item = json.loads(store.get(f"{places.folder}/{head.view}/{ITEM}"))
    return {
        "dates": len(head.updates), "alerts": item["properties"]["earthloom:alerts"],
        "view": f"{places.folder}/{head.view}",
    }  # fmt: skip


def _head(store: Store, places: Places, before: Head | None) -> Head:
    known = before.updates if before else {}
    updates = {
        name: known.get(name) or StoredObject.of(store.get(places.update(n + 1))) for n, name in enumerate(places.names)
    }
    data = store.get(f"{places.view}/{ITEM}")
    try:
        assets = json.loads(data)["assets"].values()
        files = {asset["href"].removeprefix("./"): _recorded(asset) for asset in assets}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PublishError(f"{places.view}/{ITEM} is damaged ({error}); remove the folder and run again") from error
    files[ITEM] = StoredObject.of(data)
    return Head(generation=places.generation, view=view_name(places), files=files, updates=updates)


def _recorded(asset: Mapping[str, Any]) -> StoredObject:
    return StoredObject(int(asset["file:size"]), str(asset["file:checksum"]).removeprefix("1220"))


def _clean(store: Store, places: Places, before: Head) -> None:
    """Remove what is older than what was current until now, which others may still read or build on.

    A name that neither history knows is of somebody who is ahead.
    """
    checkpoints = {name for n, name in enumerate(places.names, 1) if n % CHECKPOINT_STEPS == 0}
    old = {*places.names, *before.names} - {places.names[-1], before.names[-1]}
    doomed: list[str] = []
    for entry in store.list(places.folder):
        kind, _, below = entry.key.removeprefix(f"{places.folder}/").partition("/")
        name = below.partition("/")[0]
        if (
            (kind == "state" and name in old and (name not in checkpoints or below.endswith(".pieces")))
            or (kind == "views" and name in old)
            or (kind == "updates" and int(name) < min(places.generation, before.generation))
        ):
            doomed.append(entry.key)
    # Ledgers first: without one, nobody builds on the rest.
    for key in sorted(doomed, key=lambda key: not key.endswith("/ledger")):
        store.delete(key)


def _plan(store: Store, monitored: Monitored) -> Sequence[MonitorTask]:
    return [task for of, waits in alerts_of(monitored) if waits is None for task in plan_alerts(store, of)]


def _finish(store: Store, monitored: Monitored) -> Mapping[str, Any]:
    summary = {
        of.rule.name: finish_alerts(store, of) if waits is None else {"waits_for": waits}
        for of, waits in alerts_of(monitored)
    }
    current = [
        made["view"] for made in summary.values() if "view" in made
    ]  # none of rules that have changed or are gone
    relink(store, monitored.area.name, f"{monitored.prefix}/alerts", current)
    return summary


ALERTS = Stage(name="alerts", plan=_plan, finish=_finish)
