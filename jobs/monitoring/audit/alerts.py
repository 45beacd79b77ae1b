"""Alerts against their head, and against a replay: they follow from the cube's dates and the rule alone, to the byte."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from earthloom.jobs.monitoring.alerts.evidence import ClassEvidence, Evidence, MonitorEvidence
from earthloom.jobs.monitoring.alerts.head import Head
from earthloom.jobs.monitoring.alerts.history import AlertSet, Places
from earthloom.jobs.monitoring.alerts.item import software
from earthloom.jobs.monitoring.alerts.pixels import Observation
from earthloom.jobs.monitoring.alerts.rule import Change, Rule
from earthloom.jobs.monitoring.alerts.tasks import JoinTask, ShardTask, TilesTask
from earthloom.jobs.monitoring.audit.findings import Findings
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.cube.log import cube_prefix, read_generation
from earthloom.jobs.monitoring.trends.map import monitor_map
from earthloom.jobs.monitoring.trends.rules import MonitorTable
from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.names import ITEM
from earthloom.tiling.errors import EarthloomError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store
from earthloom.tiling.window import Window

_ALL_BYTES = 2**40
"""Memory for pieces: a replay, which goes on shard by shard, is planned with all the memory that there is."""
_TABLE: TypeAdapter[MonitorTable] = TypeAdapter(MonitorTable)


def check_alerts(found: Findings, *, replayed: bool) -> None:
    """Every set of alerts below a product.

    Args:
        replayed: also made again from the cube, whose pixels are sound.
    """
    folders = sorted(
        key.removesuffix("/head.json")
        for key in found.sizes
        if key.startswith(f"{found.base}/alerts/") and key.endswith("/head.json")
    )
    for folder in folders:
        before = found.n_problems
        head = _check_head(found, folder)
        if head and replayed and found.n_problems == before:
            _replay(found, folder, head)


def _remedy(folder: str) -> str:
    return f"Remove {folder} and run `earthloom monitor` again: the alerts are made again from the cube, with the same bytes"


def _check_head(found: Findings, folder: str) -> Head | None:
    key = f"{folder}/head.json"
    try:
        head = Head.parse(found.store.get(key), key)
    except EarthloomError as error:
        found.wrong(key, f"cannot be read ({error}). {_remedy(folder)}")
        return None
    views = {f"{folder}/{head.view}/{name}": one for name, one in head.files.items()}
    updates = {f"{folder}/updates/{head.generation}/{name}.parquet": one for name, one in head.updates.items()}
    found.check({**views, **updates}, _remedy(folder))
    return head


def _replay(found: Findings, folder: str, head: Head) -> None:
    """Make all of it again, beside, and compare."""
    item = json.loads(found.store.get(f"{folder}/{head.view}/{ITEM}"))
    if (made_by := item["properties"]["processing:software"]) != software():
        mine, theirs = (", ".join(f"{name} {one[name]}" for name in sorted(one)) for one in (software(), made_by))
        found.note(f"{folder} was made by {theirs}; it is not replayed by {mine}, which may write other bytes")
        return
    try:
        generation = read_generation(found.store, found.base, head.generation)
        if generation is None or generation.committed < len(head.updates):
            found.wrong(
                f"{folder}/head.json",
                f"tells of {len(head.updates)} dates of {cube_prefix(found.base, head.generation)}, which has fewer. "
                f"{_remedy(folder)}",
            )
            return
        cube = replace(generation.cube, steps=generation.cube.steps[: len(head.updates)])
        of = _alert_set(found, cube, item["properties"])
    except (EarthloomError, KeyError, TypeError, ValueError) as error:
        found.wrong(
            f"{folder}/{head.view}/{ITEM}",
            f"does not describe alerts that can be replayed ({error}). {_remedy(folder)}",
        )
        return
    places = of.places()
    if places.folder != folder or set(places.names) != set(head.updates):
        found.wrong(f"{folder}/head.json", f"is not of this rule and these dates of the cube. {_remedy(folder)}")
        return
    with tempfile.TemporaryDirectory(prefix="earthloom-replay-") as scratch:
        beside = open_store(ObjectRef.parse(scratch))
        for row, col, window in cube.shards():
            ShardTask(alerts=of, shard=(row, col), window=window, start=0, pieces_bytes=_ALL_BYTES).do(beside)
        JoinTask(alerts=of, base=0, borrowed=(), stored_bytes=0).do(beside)
        TilesTask(alerts=of, stored_bytes=0).do(beside)
        _compare(found, beside, places)


def _compare(found: Findings, beside: Store, places: Places) -> None:
    """What was made again against what is stored: all that readers see, and of the working state what is there."""
    for made in beside.list(places.folder):
        is_state = made.key.startswith(f"{places.folder}/state/")
        if is_state and made.key not in found.sizes:
            continue  # what no update needs any more is removed
        if made.key.endswith(f"/{ITEM}"):
            continue  # it names days that only the AOI file knows; the head vouches for it
        wanted, held = beside.get(made.key), found.store.get(made.key) if made.key in found.sizes else b""
        if held != wanted:
            found.wrong(
                made.key,
                f"is not what the cube and the rule give (sha256 {StoredObject.of(held).sha256[:16]}…, replayed "
                f"{StoredObject.of(wanted).sha256[:16]}…). {_remedy(places.folder)}",
            )


def _alert_set(found: Findings, cube: Cube, said: Mapping[str, Any]) -> AlertSet:
    """The alert set that the item of a view describes."""
    aoi, product = found.base.split("/")[1:3]
    rule, by = said["earthloom:rule"], said["earthloom:evidence"]
    evidence: Evidence
    if "classes" in by:
        evidence = ClassEvidence(change=Change(**{name: tuple(values) for name, values in by["classes"].items()}))
    else:
        monitor = by["monitor"]
        table = _TABLE.validate_python({**monitor["rule"], "layer": monitor["layer"][0]})
        made = monitor_map(cube, found.base, table, aoi=aoi, product=product)
        evidence = MonitorEvidence(made=made, direction=monitor["direction"])
    return AlertSet(
        cube=cube, prefix=found.base, product=product, rule=Rule(**rule),
        evidence=_From(evidence=evidence, store=found.store),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _From:
    """Evidence that reads the cube in one store, whatever store the alerts are written to (`Evidence`)."""

    evidence: Evidence
    store: Store

    def identity(self) -> Mapping[str, Any]:
        return self.evidence.identity()

    def has_confidence(self) -> bool:
        return self.evidence.has_confidence()

    def has_magnitude(self) -> bool:
        return self.evidence.has_magnitude()

    def memory_bytes(self, window: Window, n_steps: int) -> int:
        return self.evidence.memory_bytes(window, n_steps)

    def observe(self, _: Store, cube: Cube, window: Window, steps: Sequence[int]) -> Iterator[Observation]:
        return self.evidence.observe(self.store, cube, window, steps)
