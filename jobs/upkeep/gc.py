"""Finds what nobody needs any more below an OUT, and removes it when asked to.

A committed result is never touched, unless superseded ones are asked for and a newer one of the same source, grid, models
and options is committed and in the catalogue, or a policy says how many are kept. Everything else that it removes, the same
command would compute again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from earthloom.jobs.products.stac_item import item_id
from earthloom.jobs.publish.catalog import leave, linked_items, tabled_items
from earthloom.jobs.records.canonical import digest, read_document
from earthloom.jobs.records.listing import ShelvedScene, shelved
from earthloom.jobs.records.markers import TILES
from earthloom.jobs.records.names import ITEM, RESULT
from earthloom.jobs.records.result import SceneResult
from earthloom.jobs.records.run_commit import note_superseded
from earthloom.jobs.upkeep.carried import unused_weights
from earthloom.jobs.upkeep.derived import DERIVED, remove_result, spent_results
from earthloom.jobs.upkeep.retention import EXPIRED, RECORD, Policy, expired, old_records
from earthloom.jobs.upkeep.rubbish import Rubbish, replaced_generations
from earthloom.jobs.upkeep.status import is_living
from earthloom.tiling.errors import ConfigError, MissingObjectError, PublishError
from earthloom.tiling.storage.objects import Head, ObjectRef
from earthloom.tiling.storage.probe import PREFIX as PROBE
from earthloom.tiling.storage.probe import time_of
from earthloom.tiling.storage.store import Store, open_store

LIVING_S = 3600.0
"""An attempt that was heard of within this time, by its host's clock or the store's, may still be at work, and keeps its run
and scenes."""

_MULTIPART = (
    "unfinished multipart uploads are in no listing that this command can read; let the bucket drop them: a lifecycle "
    "rule with AbortIncompleteMultipartUpload after 7 days"
)


@dataclass(slots=True, kw_only=True)
class Sweep:
    """What was found, and what became of it."""

    out: str
    found: list[Rubbish] = field(default_factory=list)
    removed: list[Rubbish] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    run_id: str
    objects: int
    size_bytes: int
    modified_s: float
    living: bool
    claims: frozenset[str]
    """Prefixes that it works on, if it is living."""
    results: frozenset[str] | None
    """Prefixes that it has committed; None if it is not committed."""
    product: str


@dataclass(frozen=True, slots=True)
class _Committed:
    """A committed result, remembered until all are known."""

    scene: str
    key: str
    prefix: str
    model: str
    made_of: str
    """What two results share that are old and new of one another (`made_of`)."""
    acquired: str | None
    committed_s: float
    objects: int
    size_bytes: int


def sweep(
    out: ObjectRef, *, older_than_s: float, delete: bool = False, superseded: bool = False, policy: Policy | None = None,
    living_s: float = LIVING_S,
) -> Sweep:  # fmt: skip
    """Find abandoned scenes, runs and leftovers, and remove them if `delete`.

    Args:
        older_than_s: only what has not been written to for so long.
        superseded: also results of which a newer one, made of the same files on the same grid by the same models and
            options, has been committed for so long and is in the catalogue.
        policy: also committed results, and records of runs, that it does not keep.
        living_s: a run whose latest attempt was heard of within this time keeps all that is its own. Leftovers and runs
            that were written to within this time are kept too: a run that begins has written its plan, and not yet its
            attempt.

    Raises:
        ConfigError: if there is nothing of ours below `out`.
        StorageError: if the store cannot be read, or something cannot be removed.
    """
    store = open_store(out)
    is_there = next(iter(store.list("runs")), None) is not None
    # this machine's clock may be wrong too; what is only listed must not need the right to write
    now = time_of(store) if delete and is_there else time.time()
    before_s = now - older_than_s
    done = Sweep(out=out.url)
    runs = list(_runs(store, living_s, now, done.notes))
    kept = frozenset(prefix for run in runs for prefix in run.claims)
    committed: list[_Committed] = []
    is_ours = bool(runs)
    for scene in shelved(store):
        is_ours = True
        if scene.result:
            done.found += _spent(scene, before_s, now)
            if superseded or policy:
                committed += _committed(store, scene, done.notes)
        elif scene.modified_s <= before_s and scene.prefix not in kept:
            done.found.append(_rubbish("scene", scene, now, "not committed, and no living run works on it"))
    # What looks unfinished may be in the middle of being written, also by a run that has not yet said that it lives.
    still_s = min(before_s, now - living_s)
    for run in runs:
        if run.results is None and not run.living and run.modified_s <= still_s:
            done.found.append(
                Rubbish(kind="run", place=f"runs/{run.run_id}", objects=run.objects, size_bytes=run.size_bytes,
                        age_s=now - run.modified_s, why="not committed, and no attempt is living")
            )  # fmt: skip
    if superseded:
        done.found += _superseded(store, committed, before_s, now, kept)
    if policy:
        gone = {rubbish.place for rubbish in done.found}
        left = [one for one in committed if one.prefix not in gone]
        done.found += old_records(policy, runs, still_s, now)  # first: giving up a result is written into its run
        done.found += expired(store, policy, left, kept, before_s, now, done.notes)
    done.found += _leftovers(store, still_s, now, done.notes)
    done.found += replaced_generations(store, before_s, now, done.notes)
    if not any(run.living for run in runs):
        done.found += unused_weights(store, still_s, now)
    done.found += spent_results(store, before_s, still_s, now, done.notes, superseded=superseded)
    if not (is_ours or done.found):
        raise ConfigError(f"{out.url}: no run has been started there; is this the `out` of a run?")
    if delete:
        for rubbish in done.found:
            if _remove(store, rubbish, runs, committed, before_s):
                done.removed.append(rubbish)
            else:
                done.notes.append(f"{rubbish.place} came to life meanwhile and is kept")
    return done


def _runs(store: Store, living_s: float, now: float, notes: list[str]) -> Iterator[_Run]:
    heads: dict[str, list[Head]] = {}
    for head in store.list("runs"):
        if head.key.count("/") >= 2:
            heads.setdefault(head.key.split("/")[1], []).append(head)
    for run_id, found in heads.items():
        living, claims, results, product = False, frozenset[str](), None, ""
        for head in found:
            if "/profiles/" in head.key or not head.key.endswith(".json"):
                continue
            try:
                document = read_document(store.get(head.key), head.key)
            except PublishError as error:
                notes.append(f"runs/{run_id} is kept: {error}")
                living = True
                continue
            name = head.key.removeprefix(f"runs/{run_id}/")
            try:
                if name == "plan.json":
                    claims = frozenset(scene["prefix"] for scene in document["scenes"].values())
                    product = str(document["model"])
                elif name == "commit.json":
                    results = frozenset(document["scenes"].values())
                else:
                    living |= is_living(document, head.modified_s, living_s, now)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                notes.append(f"runs/{run_id} is kept: {head.key} is damaged ({type(error).__name__}: {error})")
                living = True
        yield _Run(
            run_id=run_id, objects=len(found), size_bytes=sum(head.size for head in found),
            modified_s=max(head.modified_s for head in found), living=living,
            claims=claims if living else frozenset(), results=results, product=product,
        )  # fmt: skip


def _rubbish(kind: str, scene: ShelvedScene, now: float, why: str) -> Rubbish:
    return Rubbish(kind=kind, place=scene.prefix, objects=len(scene.objects), size_bytes=scene.size_bytes,
                   age_s=now - scene.modified_s, why=why)  # fmt: skip


def _committed(store: Store, scene: ShelvedScene, notes: list[str]) -> list[_Committed]:
    assert scene.result
    try:
        result = SceneResult.from_json(store.get(f"{scene.prefix}/{RESULT}"), f"{scene.prefix}/{RESULT}")
        making = made_of(json.loads(store.get(f"{scene.prefix}/{ITEM}")))
    except PublishError as error:
        notes.append(f"{scene.prefix} is kept: {error}")
        return []
    except (MissingObjectError, ValueError, KeyError, TypeError, AttributeError) as error:
        notes.append(f"{scene.prefix} is kept: its {ITEM} is damaged ({type(error).__name__}: {error})")
        return []
    date = result.summary.date
    return [_Committed(scene.scene_id, scene.key, scene.prefix, result.model, making, date.datetime if date else None,
                       result.committed_s or scene.result.modified_s,
                       len(scene.objects), scene.size_bytes)]  # fmt: skip


def made_of(item: Mapping[str, Any]) -> str:
    """Files, grids, models and options of a result, by its STAC item: a scene's id alone is a file's name, which another
    place may share. Bytes of the files, versions and tiling are left out: a newer result of those is what supersedes."""
    sources = [link["href"] for link in item["links"] if link["rel"] == "derived_from"]
    return digest({
        "sources": sorted(href for href in sources if not href.startswith("../../../collections/")),
        "grids": {
            name: {field: value for field, value in asset.items() if field.startswith("proj:")}
            for name, asset in item["assets"].items()
        },
        "stages": [
            [stage["models"], stage["flips"], stage["mask"]] for stage in item["properties"]["earthloom:settings"]["stages"]
        ],
    })  # fmt: skip


def _superseded(
    store: Store, committed: list[_Committed], before_s: float, now: float, kept: frozenset[str]
) -> Iterator[Rubbish]:
    """Results with a newer one of the same making that readers find; ties have no order and are both kept."""
    newest: dict[tuple[str, str, str], _Committed] = {}
    for one in committed:
        best = newest.get((one.scene, one.model, one.made_of))
        if best is None or one.committed_s > best.committed_s:
            newest[one.scene, one.model, one.made_of] = one
    found = {
        model: linked_items(store, model).keys() & tabled_items(store, model) for model in {c.model for c in committed}
    }
    for one in committed:
        best = newest[one.scene, one.model, one.made_of]
        if (
            one.committed_s < best.committed_s <= before_s
            and one.prefix not in kept
            and item_id(best.scene, best.model, best.key) in found[best.model]
        ):
            yield Rubbish(kind="superseded", place=one.prefix, objects=one.objects, size_bytes=one.size_bytes,
                          age_s=now - best.committed_s, why=f"{best.prefix} is newer")  # fmt: skip


def _spent(scene: ShelvedScene, before_s: float, now: float) -> Iterator[Rubbish]:
    """Tiles that have gone into the files of a committed scene; its driver died before it had removed them."""
    for name, head in scene.objects.items():
        if name.endswith(TILES) and head.modified_s <= before_s:
            yield Rubbish(kind="leftover", place=head.key, objects=1, size_bytes=head.size,
                          age_s=now - head.modified_s, why="its files are published")  # fmt: skip


def _leftovers(store: Store, before_s: float, now: float, notes: list[str]) -> Iterator[Rubbish]:
    unfinished = store.leftovers()
    if unfinished is None:
        notes.append(_MULTIPART)
    probes = (head for head in store.list("runs") if head.key.startswith(PROBE))
    for why, heads in (("a writer was killed", unfinished or ()), ("a probe was killed", probes)):
        for head in heads:
            if head.modified_s <= before_s:
                yield Rubbish(kind="leftover", place=head.key, objects=1, size_bytes=head.size,
                              age_s=now - head.modified_s, why=why)  # fmt: skip


def _remove(store: Store, rubbish: Rubbish, runs: list[_Run], committed: list[_Committed], before_s: float) -> bool:
    """Remove it, unless it has come to life since it was found."""
    if rubbish.kind == "leftover":
        store.delete(rubbish.place)
    elif rubbish.kind == DERIVED:
        return remove_result(store, rubbish.place, before_s)
    elif rubbish.kind in ("superseded", EXPIRED):
        _remove_superseded(store, next(one for one in committed if one.prefix == rubbish.place), runs)
    elif rubbish.kind == "scene":
        again = list(shelved(store, rubbish.place))
        if any(scene.result or scene.modified_s > before_s for scene in again):
            return False
        store.delete_all(f"{rubbish.place}/blocks")  # markers first: whoever resumes in between believes none of them
        store.delete_all(rubbish.place)
    else:
        heads = list(store.list(rubbish.place))
        committed_since = rubbish.kind != RECORD and any(head.key.endswith("/commit.json") for head in heads)
        if committed_since or any(head.modified_s > before_s for head in heads):
            return False
        store.delete_all(rubbish.place)
    return True


def _remove_superseded(store: Store, one: _Committed, runs: list[_Run]) -> None:
    """Take it out of everything that leads to it, then remove the commit, then the rest.

    A run that enters it into the catalogue again meanwhile either does so before the last step here, or sees that the
    commit is gone and undoes it itself.
    """
    leave(store, model=one.model, scene_id=one.scene, key=one.key)
    for run in runs:
        if run.results and one.prefix in run.results:
            with suppress(MissingObjectError):  # its record is gone
                note_superseded(store, run.run_id, one.prefix)
    store.delete(f"{one.prefix}/{RESULT}")
    store.delete_all(f"{one.prefix}/blocks")
    store.delete_all(one.prefix)
    leave(store, model=one.model, scene_id=one.scene, key=one.key)
