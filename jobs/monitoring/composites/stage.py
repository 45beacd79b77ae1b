"""The composites of a monitored product as a stage of `earthloom monitor`: what is missing, and which are the current ones.

Nothing is remembered beside what storage holds. A period whose steps have changed has a new key and so a new folder; its
`head.json`, one per rule and cadence, names the folder of each period that is current, and the area's collection links to
the items of these alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from earthloom.jobs.monitoring.composites.composite import Composite, composite_keys, composites_of, shelf
from earthloom.jobs.monitoring.composites.periods import Cadence
from earthloom.jobs.monitoring.composites.rules import CompositeTable, Rule, parse_rule
from earthloom.jobs.monitoring.composites.tasks import ReduceTask
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.cube.marks import read_sum
from earthloom.jobs.monitoring.linking import HEAD, advance, relink
from earthloom.jobs.monitoring.publishing import plan_derived
from earthloom.jobs.monitoring.stage import Monitored, Stage
from earthloom.jobs.monitoring.worker import MonitorTask
from earthloom.jobs.publish.files import committed_document
from earthloom.jobs.records.canonical import read_document
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.store import Store


def plan_composites(store: Store, monitored: Monitored) -> Sequence[MonitorTask]:
    """The shards that are missing, and the publication of each composite of which none is.

    Raises:
        ConfigError: if a rule means nothing for the product.
    """
    return [
        task
        for table in dict.fromkeys(monitored.product.composites)
        for composite in _of_table(store, monitored, table)
        for task in plan_derived(store, composite, partial(ReduceTask, composite=composite))
    ]


def finish_composites(store: Store, monitored: Monitored) -> Mapping[str, Any]:
    """Say which composites are the current ones; those of a later cube stay."""
    summary: dict[str, Any] = {}
    current: list[str] = []
    for table in dict.fromkeys(monitored.product.composites):
        asked = _of_table(store, monitored, table)
        published = [composite for composite in asked if committed_document(store, composite.prefix)]
        write_head(store, table, monitored.cube, asked, published)
        if asked and (head := read_head(store, asked[0].shelf)):  # which may be a later writer's by now
            current += [str(entry["prefix"]) for entry in head["periods"].values()]
        summary[f"{table.rule}-{table.every}"] = {
            "periods": len(published), "latest": published[-1].prefix if published else None,
        }  # fmt: skip
    relink(store, monitored.area.name, f"{monitored.prefix}/composites", current)
    return summary


COMPOSITES = Stage(name="composites", plan=plan_composites, finish=finish_composites)


def write_head(
    store: Store, table: CompositeTable, cube: Cube, asked: Sequence[Composite], made: Sequence[Composite]
) -> None:
    """Replace the head of a rule and a cadence unless it is of a later state of the cube; twice leaves the same bytes.

    Args:
        asked: the composites of all periods of this cube.
        made: those that are committed; a period of any other keeps the one that it had.
    """
    if not asked:
        return
    entries = {
        composite.period.name: {
            "key": composite.key, "prefix": composite.prefix, "start": str(composite.period.start),
            "end": str(composite.period.end), "dates": [str(step.date) for step in composite.steps],
        }
        for composite in made
    }  # fmt: skip

    def content(theirs: Mapping[str, Any]) -> Mapping[str, Any]:
        held = theirs.get("periods", {})
        kept = {
            composite.period.name: held[composite.period.name] for composite in asked if composite.period.name in held
        }
        return {"rule": table.rule, "every": table.every, "periods": kept | entries}

    advance(store, f"{asked[0].shelf}/{HEAD}", cube, content)


def read_head(store: Store, folder: str) -> dict[str, Any] | None:
    """The head of a rule and a cadence (`composite.shelf`); None where nothing is published yet.

    Raises:
        PublishError: if it is no document of this version.
    """
    try:
        return read_document(store.get(f"{folder}/{HEAD}"), f"{folder}/{HEAD}")
    except MissingObjectError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Composites:
    """The composites that the head of a rule and a cadence names, seen from a cube."""

    current: Mapping[str, Mapping[str, Any]]
    """Entries of the head by name of the period, in order of time: composites of the very steps that the cube has."""
    outdated: Mapping[str, Mapping[str, Any]]
    """Entries of composites that are of fewer steps than the cube has now, or of others, as after a later delivery of a
    scene. Nothing may take them for their period."""
    missing: tuple[str, ...]
    """Periods of the cube that have none."""

    @property
    def behind(self) -> list[str]:
        """Names of the periods of the cube that have no composite of its steps."""
        return sorted({*self.outdated, *self.missing})


def read_composites(store: Store, folder: str, cube: Cube, rule: Rule, every: Cadence) -> Composites | None:
    """The published composites of a rule and a cadence, told apart by whether they are still those of the cube; None where
    nothing is published yet. A composite is left behind when the AOI file no longer asks for it, or could not be made.

    Args:
        store: on OUT.
        folder: folder of the monitored product: `monitors/<aoi>/<product>/<key>`.
        cube: with the scenes of its steps.

    Raises:
        PublishError: see `read_head`.
    """
    head = read_head(store, shelf(folder, rule, every))
    if head is None:
        return None
    keys, entries = composite_keys(cube, folder, rule, every), head["periods"]
    return Composites(
        current={name: entries[name] for name, key in keys.items() if name in entries and entries[name]["key"] == key},
        outdated={name: entries[name] for name, key in keys.items() if name in entries and entries[name]["key"] != key},
        missing=tuple(name for name in keys if name not in entries),
    )


def _of_table(store: Store, monitored: Monitored, table: CompositeTable) -> Sequence[Composite]:
    rule = parse_rule(table.rule)
    return composites_of(
        monitored.cube, monitored.prefix, aoi=monitored.area.name, product=monitored.name, every=table.every, rule=rule,
        clear_px=_clear_px(store, monitored.cube) if rule.by_date else None,
    )  # fmt: skip


def _clear_px(store: Store, cube: Cube) -> list[int]:
    """Pixels of the area that hold data on each step: of an image, those of the band that holds fewest."""
    sums = [read_sum(store, cube.prefix, step) for step in range(len(cube.steps))]
    return [
        counted.tally.valid if counted.tally else min(total.valid for total in counted.sums.values())
        for counted in sums
    ]  # fmt: skip
