"""Alerts against their head, and against a replay: they follow from the cube's dates and the rule alone, to the byte."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from earthloom.jobs.monitoring.alerts.evidence import ClassEvidence, Evidence, MonitorEvidence
from earthloom.jobs.monitoring.alerts.head import Head
from earthloom.jobs.monitoring.alerts.history import AlertSet, Places
from earthloom.jobs.monitoring.alerts.item import software
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

_ALL_BYTES = 2**40
"""Memory for pieces: a replay, which goes on shard by shard, is planned with all the memory that there is."""
_TABLE: TypeAdapter[MonitorTable] = TypeAdapter(MonitorTable)


def check_alerts(findings: Findings, *, replayed: bool) -> None:
    """Every set of alerts below a product.

    Args:
        replayed: also made again from the cube, whose pixels are sound.
    """
    folders = sorted(
        key.removesuffix("/head.json")
        for key in findings.sizes
        if key.startswith(f"{findings.base}/alerts/") and key.endswith("/head.json")
    )
    for folder in folders:
        before = findings.n_problems
        head = _check_head(findings, folder)
        if head and replayed and findings.n_problems == before:
            _replay(findings, folder, head)


def _remedy(folder: str) -> str:
    return f"Remove {folder} and run `earthloom monitor` again: the alerts are made again from the cube, with the same bytes"


def _check_head(findings: Findings, folder: str) -> Head | None:
    key = f"{folder}/head.json"
    try:
        head = Head.parse(findings.store.get(key), key)
    except EarthloomError as error:
        findings.wrong(key, f"cannot be read ({error}). {_remedy(folder)}")
        return None
    views = {f"{folder}/{head.view}/{name}": one for name, one in head.files.items()}
    updates = {f"{folder}/updates/{head.generation}/{name}.parquet": one for name, one in head.updates.items()}
    findings.check({**views, **updates}, _remedy(folder))
    return head


def _replay(findings: Findings, folder: str, head: Head) -> None:
    """Make all of it again, beside, and compare."""
    item = json.loads(findings.store.get(f"{folder}/{head.view}/{ITEM}"))
    if (made_by := item["properties"]["processing:software"]) != software():
        mine, theirs = (", ".join(f"{name} {one[name]}" for name in sorted(one)) for one in (software(), made_by))
        findings.note(f"{folder} was made by {theirs}; it is not replayed by {mine}, which may write other bytes")
        return
    try:
        generation = read_generation(findings.store, findings.base, head.generation)
        if generation is None or generation.committed < len(head.updates):
            findings.wrong(
                f"{folder}/head.json",
                f"tells of {len(head.updates)} dates of {cube_prefix(findings.base, head.generation)}, which has fewer. "
                f"{_remedy(folder)}",
            )
            return
        cube = replace(generation.cube, steps=generation.cube.steps[: len(head.updates)])
        of = _alert_set(findings, cube, item["properties"])
    except (EarthloomError, KeyError, TypeError, ValueError) as error:
        findings.wrong(
            f"{folder}/{head.view}/{ITEM}",
            f"does not describe alerts that can be replayed ({error}). {_remedy(folder)}",
        )
        return
    places = of.places()
    if places.folder != folder or set(places.names) != set(head.updates):
        findings.wrong(f"{folder}/head.json", f"is not of this rule and these dates of the cube. {_remedy(folder)}")
        return
    with tempfile.TemporaryDirectory(prefix="earthloom-replay-") as scratch:
        beside = open_store(ObjectRef.parse(scratch))
        for row, col, window in cube.shards():
            task = ShardTask(alerts=of, shard=(row, col), window=window, start=0, pieces_bytes=_ALL_BYTES)
            task.do(beside, findings.store)
        JoinTask(alerts=of, base=0, borrowed=(), stored_bytes=0).do(beside)
        TilesTask(alerts=of, stored_bytes=0).do(beside)
        _compare(findings, beside, places)


def _compare(findings: Findings, beside: Store, places: Places) -> None:
    """Compare what was made again with what is stored: all that readers see, and the working state that is still there."""
    for made in beside.list(places.folder):
        is_state = made.key.startswith(f"{places.folder}/state/")
        if is_state and made.key not in findings.sizes:
            continue  # what no update needs any more is removed
        if made.key.endswith(f"/{ITEM}"):
            continue  # it names days that only the AOI file knows; the head vouches for it
        wanted, held = beside.get(made.key), findings.store.get(made.key) if made.key in findings.sizes else b""
        if held != wanted:
            findings.wrong(
                made.key,
                f"is not what the cube and the rule give (sha256 {StoredObject.of(held).sha256[:16]}…, replayed "
                f"{StoredObject.of(wanted).sha256[:16]}…). {_remedy(places.folder)}",
            )


def _alert_set(findings: Findings, cube: Cube, said: Mapping[str, Any]) -> AlertSet:
    """The alert set that the item of a view describes."""
    aoi, product = findings.base.split("/")[1:3]
    rule, by = said["earthloom:rule"], said["earthloom:evidence"]
    evidence: Evidence
    if "classes" in by:
        evidence = ClassEvidence(change=Change(**{name: tuple(values) for name, values in by["classes"].items()}))
    else:
        monitor = by["monitor"]
        table = _TABLE.validate_python({**monitor["rule"], "layer": monitor["layer"][0]})
        made = monitor_map(cube, findings.base, table, aoi=aoi, product=product)
        evidence = MonitorEvidence(made=made, direction=monitor["direction"])
    return AlertSet(cube=cube, prefix=findings.base, product=product, rule=Rule(**rule), evidence=evidence)
