"""`earthloom verify`, monitored areas included: cubes against their marks, results against their records, alerts by replay."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import unquote

from earthloom.jobs.monitoring.audit.alerts import check_alerts
from earthloom.jobs.monitoring.audit.cubes import check_cube
from earthloom.jobs.monitoring.audit.findings import Findings
from earthloom.jobs.monitoring.audit.results import check_results
from earthloom.jobs.products.stac_collection import linked_hrefs
from earthloom.jobs.upkeep.verify import Problem, Verification
from earthloom.jobs.upkeep.verify import verify as verify_scenes
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store

_PARTS = 4  # monitors/<aoi>/<product>/<key>


def verify(place: ObjectRef, *, on_place: Callable[[str], None] | None = None) -> Verification:
    """Re-check everything below an OUT, or what one run has published: `OUT/runs/<run id>`.

    Args:
        on_place: called with the prefix of each scene and each monitored product before it is read.

    Raises:
        ConfigError: if nothing of ours is there.
        StorageError: if the storage does not answer; that proves nothing about what it holds.
    """
    report = verify_scenes(place, on_scene=on_place)
    if report.run_id is None:
        _check_monitors(open_store(place), report, on_place)
    return report


def _check_monitors(store: Store, report: Verification, on_place: Callable[[str], None] | None) -> None:
    bases, areas = set[str](), set[str]()
    for head in store.list("monitors"):
        parts = head.key.split("/")
        areas.add(parts[1])
        if len(parts) > _PARTS:
            bases.add("/".join(parts[:_PARTS]))
    for base in sorted(bases):
        if on_place:
            on_place(base)
        findings = Findings(store, base, report)
        cube = check_cube(findings)
        is_sound = cube is not None and not findings.n_problems
        check_results(findings)
        check_alerts(findings, replayed=is_sound)
        report.monitors += 1
    for aoi in sorted(areas):
        _check_collection(store, aoi, report)


def _check_collection(store: Store, aoi: str, report: Verification) -> None:
    key = f"monitors/{aoi}/collection.json"
    try:
        hrefs = linked_hrefs(json.loads(store.get(key)))
    except MissingObjectError:
        report.notes.append(f"monitors/{aoi} has no collection yet")
        return
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        report.problems.append(
            Problem(key, f"cannot be read ({error}). Remove {key} and run `earthloom monitor` again")
        )
        return
    for href in sorted(hrefs.values()):
        item = f"monitors/{aoi}/{unquote(href).removeprefix('./')}"
        if store.head(item) is None:
            report.problems.append(Problem(key, f"links {item}, which is not there. Run `earthloom monitor` again"))
