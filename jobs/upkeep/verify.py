"""Checks what is published against its own records, and says by name what is wrong. Repairs nothing.

Every byte of every committed scene is read once and hashed; at most 8 MiB of a file and the listing of one scene are held,
and one collection's table at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from earthloom.jobs.products.item_table import latest_ids, read_items, tabled_ids
from earthloom.jobs.products.stac_item import item_id
from earthloom.jobs.publish.catalog import linked_items
from earthloom.jobs.records.canonical import digest_of_parts, read_document
from earthloom.jobs.records.listing import ShelvedScene, shelved
from earthloom.jobs.records.names import ITEM, RESULT, SURVEY
from earthloom.jobs.records.result import SceneResult
from earthloom.jobs.records.run_commit import commit_key
from earthloom.jobs.upkeep.carried import check_weights
from earthloom.jobs.upkeep.status import is_living
from earthloom.tiling.errors import ConfigError, EarthloomError, MissingObjectError, PublishError, StorageError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store

_RUN = re.compile(r"(?:^|/)runs/([0-9a-f]{64})$")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it should be."""

    place: str
    """Key or prefix below OUT."""
    message: str


@dataclass(slots=True, kw_only=True)
class Verification:
    """What was checked, and what was found."""

    out: str
    run_id: str | None = None
    """The one run that was asked for; None for all of OUT."""
    scenes: int = 0
    monitors: int = 0
    """Products that are watched over areas."""
    objects: int = 0
    checked_bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 all is as it should be · 1 something is not."""
        return 1 if self.problems else 0


def verify(place: ObjectRef, *, on_scene: Callable[[str], None] | None = None) -> Verification:
    """Re-check everything that is committed below an OUT, or by one run: `OUT/runs/<run id>`.

    Args:
        on_scene: called with the prefix of each scene before it is read.

    Raises:
        ConfigError: if nothing of ours is there.
        StorageError: if the storage does not answer; that proves nothing about what it holds.
    """
    found = _RUN.search(place.key.rstrip("/"))
    out = ObjectRef(place.scheme, place.bucket, place.key[: found.start()]) if found else place
    store = open_store(out)
    report = Verification(out=out.url, run_id=found[1] if found else None)
    prefixes = _of_run(store, report) if report.run_id else ["scenes"]
    items: dict[str, dict[str, str]] = {}  # by model, by item id: key of the item
    keys: set[str] = set()
    working = cache(lambda: _at_work(store))
    for prefix in prefixes:
        for scene in shelved(store, prefix):
            if scene.result is None:
                report.notes.append(f"{scene.prefix} is not committed: no reader is led to it")
                continue
            if on_scene:
                on_scene(scene.prefix)
            keys.add(scene.prefix)
            try:
                result = _check_scene(store, scene, report, working)
            except MissingObjectError:
                if store.head(f"{scene.prefix}/{RESULT}"):
                    raise
                report.notes.append(f"{scene.prefix} was removed while it was read")
                continue
            if result:
                name = item_id(scene.scene_id, result.model, scene.key)
                items.setdefault(result.model, {})[name] = f"{scene.prefix}/{ITEM}"
    late = _at_work(store)
    for model in sorted({*items} if found else {*items, *_collections(store)}):
        _check_catalogue(store, model, items.get(model, {}), late, report, whole=not found)
    if not found:
        _check_runs(store, keys, report)
        for head, right in check_weights(store):
            report.objects, report.checked_bytes = report.objects + 1, report.checked_bytes + head.size
            if not right:
                message = "its bytes are not those that its folder is named after; remove the folder and run again"
                report.problems.append(Problem(head.key, message))
    if not (keys or report.problems or report.notes):
        raise ConfigError(f"{place.url}: nothing is published there; is this the `out` of a run, or one of its runs?")
    return report


def _of_run(store: Store, report: Verification) -> list[str]:
    """Prefixes of the results of the run that was asked for."""
    base = f"runs/{report.run_id}"
    try:
        plan = read_document(store.get(f"{base}/plan.json"), f"{base}/plan.json")
    except MissingObjectError:
        raise ConfigError(f"{report.out}/{base}: there is no such run") from None
    try:
        commit = read_document(store.get(commit_key(str(report.run_id))), commit_key(str(report.run_id)))
    except MissingObjectError:
        report.problems.append(Problem(base, "the run is not committed: not every scene is published. Run it again"))
        return [scene["prefix"] for scene in plan["scenes"].values()]
    prefixes = _check_commit(commit, plan, report)
    for prefix in prefixes:
        if store.head(f"{prefix}/{RESULT}") is None:
            report.problems.append(Problem(commit_key(str(report.run_id)), f"names {prefix}, which is not committed"))
    return prefixes


def _check_scene(
    store: Store, scene: ShelvedScene, report: Verification, working: Callable[[], set[str]]
) -> SceneResult | None:  # fmt: skip
    """Hash a scene's files. Returns its result, if that can be read.

    Args:
        working: gives the prefixes of results that a living run has in its plan.
    """

    def wrong(name: str, message: str) -> None:
        report.problems.append(Problem(f"{scene.prefix}/{name}", message))

    try:
        result = SceneResult.from_json(store.get(f"{scene.prefix}/{RESULT}"), RESULT)
    except PublishError as error:
        wrong(RESULT, f"cannot be read ({error}), so nothing vouches for this scene; remove it and run again")
        return None
    report.scenes += 1
    summary = result.summary
    if (summary.scene_id, summary.key, summary.prefix) != (scene.scene_id, scene.key, scene.prefix):
        wrong(RESULT, f"speaks of {summary.prefix}; it was copied or renamed from there")
    for name, stored in result.files.items():
        head = scene.objects.get(name)
        if head is None:
            wrong(name, f"is missing; it should have {stored.size} bytes")
            continue
        report.objects += 1
        former = result.former_items if name == ITEM else ()
        if head.size != stored.size and head.size not in [item.size for item in former]:
            wrong(name, f"has {head.size} bytes and should have {stored.size}")
            continue
        report.checked_bytes += head.size
        found = digest_of_parts(store.parts(f"{scene.prefix}/{name}"))
        if found != stored.sha256 and found in [item.sha256 for item in former]:
            if scene.prefix in working():
                report.notes.append(f"{scene.prefix}/{name} is about to be corrected by a run at work")
            else:
                wrong(
                    name,
                    "is as it was before its date was corrected: that was broken off, and the same run again ends it",
                )
        elif found != stored.sha256:
            wrong(name, f"has sha256 {found[:16]}… and should have {stored.sha256[:16]}…: its bytes were changed")
    for name in scene.objects:
        if name not in result.files and name not in (RESULT, SURVEY) and not name.startswith("blocks/"):
            wrong(name, f"is not listed in {RESULT}; readers may take it for part of the map")
    return result


def _check_catalogue(
    store: Store, model: str, items: dict[str, str], late: set[str], report: Verification, *, whole: bool
) -> None:
    """A model's collection and table hold these items; when they are all there are (`whole`), no others.

    Args:
        items: key below OUT of each item's document, by id.
        late: prefixes that a run at work may yet have to enter.
    """
    entering = frozenset(name for name, key in items.items() if key.removesuffix(f"/{ITEM}") in late)
    _Catalogue(
        store=store, folder=f"collections/{model}", items=items, entering=entering, report=report, whole=whole
    ).check(model)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Catalogue:
    """A model's collection and table, held against the items that should be in them.

    Attributes:
        folder: the collection's folder below OUT.
        items: key below OUT of each item's document, by id.
        entering: ids of items that a run at work may be entering.
        whole: whether these are all items that there are.
    """

    store: Store
    folder: str
    items: Mapping[str, str]
    entering: frozenset[str]
    report: Verification
    whole: bool

    def check(self, model: str) -> None:
        may_be_late = bool(self.entering) and self.entering == self.items.keys()
        if problem := _root_problem(self.store, self.folder, may_be_late=may_be_late):
            self.report.problems.append(Problem("catalog.json", problem))
        linked: dict[str, str] = {}
        try:
            linked = linked_items(self.store, model)
            self._compare("collection.json", linked)
        except PublishError as error:
            self._wrong("collection.json", str(error))
        rows: dict[str, dict[str, Any]] = {}
        try:
            rows = {row["id"]: row for row in read_items(self.store.get(f"{self.folder}/items.parquet"))}
        except (MissingObjectError, PublishError) as error:
            if self.items.keys() - self.entering or not isinstance(error, MissingObjectError):
                self._wrong("items.parquet", f"{error}; run again with one of its scenes")
                return
        if not self.entering:  # a run at work may be between the table and what follows from it
            _check_latest(self.store, self.folder, self._wrong)
        self._compare("items.parquet", {name: self.items.get(name) or linked.get(name, "") for name in rows})
        self._check_rows(rows)

    def _wrong(self, name: str, message: str) -> None:
        self.report.problems.append(Problem(f"{self.folder}/{name}", message))

    def _compare(self, file: str, held: Mapping[str, str]) -> None:
        """Report items that a file does not hold, leads elsewhere, or holds although they are not committed.

        Args:
            held: where the file leads, by id of the item.
        """
        items = self.items
        for name in sorted(items.keys() - held.keys()):
            if name in self.entering:
                self.report.notes.append(
                    f"{self.folder}/{file} does not hold {name} yet, which a run at work may be entering"
                )
            elif self.store.head(f"{items[name].rpartition('/')[0]}/{RESULT}"):  # else it was removed since it was read
                self._wrong(file, f"does not hold {name}, which is committed; the same run again enters it")
        for name in sorted(items.keys() & held.keys()):
            if items[name] != held[name]:
                self._wrong(file, f"leads {name} to {held[name]}; it lies at {items[name]}")
        for name in sorted(held.keys() - items.keys()) if self.whole else ():
            place = held[name].rpartition("/")[0]
            if (
                not place or self.store.head(f"{place}/{RESULT}") is None
            ):  # else it was committed after they were listed
                self._wrong(file, f"holds {name}, of which no committed scene is there")

    def _check_rows(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Report rows of the table that differ from their item's document."""
        for name in sorted(rows.keys() & self.items.keys()):
            try:
                same = rows[name] == json.loads(self.store.get(self.items[name]))
            except (MissingObjectError, ValueError):  # already reported of the scene itself
                continue
            if not same and name in self.entering:
                self.report.notes.append(
                    f"{self.folder}/items.parquet tells of {name} as it was; a run at work may be correcting it"
                )
            elif not same:
                self._wrong("items.parquet", f"tells of {name} otherwise than {self.items[name]}")


def _root_problem(store: Store, folder: str, *, may_be_late: bool) -> str | None:
    """What is wrong with the root catalog as far as it concerns a collection; one that may be late need not be there yet."""
    try:
        root = json.loads(store.get("catalog.json"))
        children = [link["href"] for link in root["links"] if link["rel"] == "child"]
    except (MissingObjectError, ValueError, KeyError, TypeError) as error:
        if may_be_late and isinstance(error, MissingObjectError):
            return None
        return f"cannot be read ({error}); run again with any published scene"
    if may_be_late or f"./{folder}/collection.json" in children:
        return None
    return f"does not link {folder}; run again with one of its scenes"


def _check_latest(store: Store, folder: str, wrong: Callable[[str, str], None]) -> None:
    """The view of latest results is that of the table as it is."""
    try:
        table = store.get(f"{folder}/items.parquet")
        held = tabled_ids(store.get(f"{folder}/latest.parquet"))
        meant = latest_ids(table)
    except (MissingObjectError, PublishError) as error:
        wrong("latest.parquet", f"{error}; run again with one of its scenes")
        return
    if held != meant:
        named = ", ".join(sorted(held ^ meant)[:3])
        wrong("latest.parquet", f"does not follow from items.parquet: {named}; run again with one of its scenes")


def _at_work(store: Store) -> set[str]:
    """Prefixes of the results that a living run has in its plan: the catalogue may be late for them, never early."""
    living: set[str] = set()
    for head in store.list("runs"):
        parts = head.key.split("/")
        if len(parts) == 4 and parts[2] == "attempts":
            with suppress(MissingObjectError, PublishError, KeyError, ValueError, TypeError, AttributeError):
                if is_living(read_document(store.get(head.key), head.key), head.modified_s):
                    plan = f"runs/{parts[1]}/plan.json"
                    scenes = read_document(store.get(plan), plan)["scenes"].values()
                    living |= {scene["prefix"] for scene in scenes}
    return living


def _check_runs(store: Store, committed: set[str], report: Verification) -> None:
    """Each run's commit names committed scenes only, and all that its plan asked for."""
    runs: dict[str, set[str]] = {}
    for head in store.list("runs"):
        if head.key.count("/") == 2:
            runs.setdefault(head.key.split("/")[1], set()).add(head.key.split("/")[2])
    for run_id, names in sorted(runs.items()):
        base = f"runs/{run_id}"
        try:
            plan = read_document(store.get(f"{base}/plan.json"), f"{base}/plan.json")
            if "commit.json" not in names:
                report.notes.append(f"{base} is not committed")
                continue
            for prefix in _check_commit(read_document(store.get(commit_key(run_id)), commit_key(run_id)), plan, report):
                if prefix not in committed and store.head(f"{prefix}/{RESULT}") is None:
                    report.problems.append(Problem(commit_key(run_id), f"names {prefix}, which is not committed"))
        except StorageError as error:
            if not isinstance(error, MissingObjectError):
                raise
            report.problems.append(Problem(base, str(error)))
        except EarthloomError as error:
            report.problems.append(Problem(base, str(error)))
        except (KeyError, TypeError, AttributeError) as error:
            report.problems.append(Problem(base, f"its plan or commit is damaged ({type(error).__name__}: {error})"))


def _check_commit(commit: dict[str, Any], plan: dict[str, Any], report: Verification) -> list[str]:
    """Prefixes of the results that a run's commit names."""
    place = commit_key(plan["run_id"])
    asked = {name: scene["prefix"] for name, scene in plan["scenes"].items()}
    committed = {**commit["superseded"], **commit["scenes"]}
    for name in sorted(committed):
        if committed[name] != asked.get(name):
            report.problems.append(Problem(place, f"says {committed[name]} of {name}; the plan says {asked.get(name)}"))
    if lost := sorted({*asked, *plan["refused"]} - {*committed, *commit["missing"]}):
        report.problems.append(Problem(place, f"says nothing of {', '.join(lost)}"))
    return list(commit["scenes"].values())


def _collections(store: Store) -> list[str]:
    parts = [head.key.split("/") for head in store.list("collections")]
    return [part[1] for part in parts if part[2:] == ["collection.json"]]
