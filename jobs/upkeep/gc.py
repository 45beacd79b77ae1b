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
from earthloom.jobs.upkeep.rubbish import Rubbish, Search, replaced_generations
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
    """The rubbish below an OUT that a search found, and what of it was removed."""

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
    """Prefixes of the scenes that it works on, if it is living."""
    results: frozenset[str] | None
    """Prefixes of the scenes that it has committed; None if it is not committed."""
    product: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Committed:
    """A committed result, remembered until all are known."""

    scene: str
    key: str
    prefix: str
    model: str
    made_of: str
    """A digest that two results share if one is the newer version of the other (`made_of`)."""
    acquired: str | None
    committed_s: float
    objects: int
    size_bytes: int


@dataclass(slots=True, kw_only=True)
class _Scenes:
    """What lies below `scenes/`."""

    is_empty: bool = True
    found: list[Rubbish] = field(default_factory=list)
    committed: list[_Committed] = field(default_factory=list)
    """Only where they were asked for: each costs two requests."""


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
    search = _search(open_store(out), older_than_s, living_s, delete=delete)
    runs = list(_runs(search, living_s))
    in_use = frozenset(prefix for run in runs for prefix in run.claims)
    scenes = _scenes(search, in_use, with_committed=superseded or policy is not None)
    found = [*scenes.found, *_unfinished_runs(search, runs)]
    if superseded:
        found += _superseded(search, scenes.committed, in_use)
    if policy:
        gone = {rubbish.place for rubbish in found}
        left = [result for result in scenes.committed if result.prefix not in gone]
        found += old_records(search, policy, runs)  # first: giving up a result is written into its run
        found += expired(search, policy, left, in_use)
    found += _leftovers(search)
    found += replaced_generations(search)
    if not any(run.living for run in runs):
        found += unused_weights(search)
    found += spent_results(search, superseded=superseded)
    if scenes.is_empty and not (runs or found):
        raise ConfigError(f"{out.url}: no run has been started there; is this the `out` of a run?")
    done = Sweep(out=out.url, found=found, notes=search.notes)
    if delete:
        for rubbish in found:
            if _remove(search, rubbish, runs, scenes.committed):
                done.removed.append(rubbish)
            else:
                done.notes.append(f"{rubbish.place} came to life meanwhile and is kept")
    return done


def _search(store: Store, older_than_s: float, living_s: float, *, delete: bool) -> Search:
    is_there = next(iter(store.list("runs")), None) is not None
    # this machine's clock may be wrong too; what is only listed must not need the right to write
    now_s = time_of(store) if delete and is_there else time.time()
    before_s = now_s - older_than_s
    return Search(store=store, now_s=now_s, before_s=before_s, still_s=min(before_s, now_s - living_s))


def _scenes(search: Search, in_use: frozenset[str], *, with_committed: bool) -> _Scenes:
    """Look at every scene: its leftover tiles if it is committed, else whether it is abandoned."""
    seen = _Scenes()
    for scene in shelved(search.store):
        seen.is_empty = False
        if scene.result:
            seen.found += _spent(search, scene)
            if with_committed and (committed := _committed(search, scene)):
                seen.committed.append(committed)
        elif scene.modified_s <= search.before_s and scene.prefix not in in_use:
            seen.found.append(
                Rubbish(kind="scene", place=scene.prefix, objects=len(scene.objects), size_bytes=scene.size_bytes,
                        age_s=search.now_s - scene.modified_s, why="not committed, and no living run works on it")
            )  # fmt: skip
    return seen


def _unfinished_runs(search: Search, runs: list[_Run]) -> Iterator[Rubbish]:
    for run in runs:
        if run.results is None and not run.living and run.modified_s <= search.still_s:
            yield Rubbish(kind="run", place=f"runs/{run.run_id}", objects=run.objects, size_bytes=run.size_bytes,
                          age_s=search.now_s - run.modified_s, why="not committed, and no attempt is living")  # fmt: skip


def _runs(search: Search, living_s: float) -> Iterator[_Run]:
    store, notes = search.store, search.notes
    by_run: dict[str, list[Head]] = {}
    for head in store.list("runs"):
        if head.key.count("/") >= 2:
            by_run.setdefault(head.key.split("/")[1], []).append(head)
    for run_id, heads in by_run.items():
        living, claims, results, product = False, frozenset[str](), None, ""
        for head in heads:
            if "/profiles/" in head.key or not head.key.endswith(".json"):
                continue
            try:
                document = read_document(store.get(head.key), head.key)
            except MissingObjectError:  # another sweep has removed it since it was listed
                continue
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
                    living |= is_living(document, head.modified_s, living_s, search.now_s)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                notes.append(f"runs/{run_id} is kept: {head.key} is damaged ({type(error).__name__}: {error})")
                living = True
        yield _Run(
            run_id=run_id, objects=len(heads), size_bytes=sum(head.size for head in heads),
            modified_s=max(head.modified_s for head in heads), living=living,
            claims=claims if living else frozenset(), results=results, product=product,
        )  # fmt: skip


def _committed(search: Search, scene: ShelvedScene) -> _Committed | None:
    """The committed result of a scene; None, with a note, if its documents cannot be read."""
    assert scene.result
    store, notes = search.store, search.notes
    try:
        result = SceneResult.from_json(store.get(f"{scene.prefix}/{RESULT}"), f"{scene.prefix}/{RESULT}")
        making = made_of(json.loads(store.get(f"{scene.prefix}/{ITEM}")))
    except PublishError as error:
        notes.append(f"{scene.prefix} is kept: {error}")
        return None
    except (MissingObjectError, ValueError, KeyError, TypeError, AttributeError) as error:
        notes.append(f"{scene.prefix} is kept: its {ITEM} is damaged ({type(error).__name__}: {error})")
        return None
    date = result.summary.date
    return _Committed(
        scene=scene.scene_id, key=scene.key, prefix=scene.prefix, model=result.model, made_of=making,
        acquired=date.datetime if date else None, committed_s=result.committed_s or scene.result.modified_s,
        objects=len(scene.objects), size_bytes=scene.size_bytes,
    )  # fmt: skip


def made_of(item: Mapping[str, Any]) -> str:
    """A digest of the files, grids, models and options of a result, as its STAC item tells them.

    A scene's id would not do: it is a file's name, which another place may share. Bytes of the files, versions and tiling
    are left out, because a result that differs in those is what supersedes an older one.
    """
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


def _superseded(search: Search, committed: list[_Committed], in_use: frozenset[str]) -> Iterator[Rubbish]:
    """Results with a newer one of the same making that readers find; ties have no order and are both kept."""
    newest: dict[tuple[str, str, str], _Committed] = {}
    for result in committed:
        best = newest.get((result.scene, result.model, result.made_of))
        if best is None or result.committed_s > best.committed_s:
            newest[result.scene, result.model, result.made_of] = result
    in_catalogue = {
        model: linked_items(search.store, model).keys() & tabled_items(search.store, model)
        for model in {result.model for result in committed}
    }
    for result in committed:
        best = newest[result.scene, result.model, result.made_of]
        if (
            result.committed_s < best.committed_s <= search.before_s
            and result.prefix not in in_use
            and item_id(best.scene, best.model, best.key) in in_catalogue[best.model]
        ):
            yield Rubbish(kind="superseded", place=result.prefix, objects=result.objects, size_bytes=result.size_bytes,
                          age_s=search.now_s - best.committed_s, why=f"{best.prefix} is newer")  # fmt: skip


def _spent(search: Search, scene: ShelvedScene) -> Iterator[Rubbish]:
    """Tiles that have gone into the files of a committed scene; its driver died before it had removed them."""
    for name, head in scene.objects.items():
        if name.endswith(TILES) and head.modified_s <= search.before_s:
            yield Rubbish(kind="leftover", place=head.key, objects=1, size_bytes=head.size,
                          age_s=search.now_s - head.modified_s, why="its files are published")  # fmt: skip


def _leftovers(search: Search) -> Iterator[Rubbish]:
    """Objects that a killed writer or probe has left."""
    unfinished = search.store.leftovers()
    if unfinished is None:
        search.notes.append(_MULTIPART)
    probes = (head for head in search.store.list("runs") if head.key.startswith(PROBE))
    for why, heads in (("a writer was killed", unfinished or ()), ("a probe was killed", probes)):
        for head in heads:
            if head.modified_s <= search.still_s:
                yield Rubbish(kind="leftover", place=head.key, objects=1, size_bytes=head.size,
                              age_s=search.now_s - head.modified_s, why=why)  # fmt: skip


def _remove(search: Search, rubbish: Rubbish, runs: list[_Run], committed: list[_Committed]) -> bool:
    """Remove it; False if it has come to life since it was found, and is kept."""
    store, before_s = search.store, search.before_s
    if rubbish.kind == "leftover":
        store.delete(rubbish.place)
    elif rubbish.kind == DERIVED:
        return remove_result(store, rubbish.place, before_s)
    elif rubbish.kind in ("superseded", EXPIRED):
        _remove_superseded(store, next(result for result in committed if result.prefix == rubbish.place), runs)
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


def _remove_superseded(store: Store, result: _Committed, runs: list[_Run]) -> None:
    """Take it out of everything that leads to it, then remove the commit, then the rest.

    A run that enters it into the catalogue again meanwhile either does so before the last step here, or sees that the
    commit is gone and undoes it itself.
    """
    leave(store, model=result.model, scene_id=result.scene, key=result.key)
    for run in runs:
        if run.results and result.prefix in run.results:
            with suppress(MissingObjectError):  # its record is gone
                note_superseded(store, run.run_id, result.prefix)
    store.delete(f"{result.prefix}/{RESULT}")
    store.delete_all(f"{result.prefix}/blocks")
    store.delete_all(result.prefix)
    leave(store, model=result.model, scene_id=result.scene, key=result.key)
