"""Catalogues over committed scenes: collection, catalog and table, rewritten by read, merge and compare-and-swap.

Any number of runs may add to one OUT at once; each keeps what the others have added.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar
from urllib.parse import unquote

from earthloom.jobs.page import index as page
from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products import item_table, stac_collection, stac_item
from earthloom.jobs.products.qgis import catalogue
from earthloom.jobs.products.scene_about import provenance
from earthloom.jobs.records.canonical import canonical
from earthloom.jobs.records.documents import json_object, merge
from earthloom.jobs.records.names import ITEM, RESULT
from earthloom.jobs.records.result import committed_s
from earthloom.tiling.errors import MissingObjectError, PublishError, StorageError
from earthloom.tiling.redact import redact
from earthloom.tiling.storage.store import Store

T = TypeVar("T")
_REQUESTS = 16
log = logging.getLogger(__name__)


def link(store: Store, plans: Sequence[ScenePlan], again: Collection[str] = ()) -> None:
    """Link committed scenes from their collections, and the collections from the catalog.

    A collection is rewritten once for all of its scenes that it does not link yet; linking twice changes nothing, and
    what is unchanged is not written again.

    Args:
        again: ids of scenes whose items were corrected, so that what is linked of them is to be replaced.

    Raises:
        StorageError: if other writers win every time.
    """
    for name, group in _by_product(plans).items():
        _link_product(store, name, _NewScenes(store, group, again))


def _link_product(store: Store, name: str, new: _NewScenes) -> None:
    key = f"collections/{name}/collection.json"

    def collection(existing: bytes | None) -> bytes:
        before = json_object(existing, key)
        links = stac_collection.linked_hrefs(before)
        entries = new.entries({item_id for item_id, href in links.items() if new.href(item_id) == href})
        if before is not None and existing is not None and not entries:
            return existing
        return canonical(stac_collection.add_to_collection(before, name=new.product, card=new.card, entries=entries))

    def root(existing: bytes | None) -> bytes:
        return canonical(stac_collection.add_to_catalog(json_object(existing, "catalog.json"), name, f"./{key}"))

    merge(store, key, collection)
    merge(store, "catalog.json", root)
    page.refresh(store, f"collections/{name}", new.again, new.items)
    new.check_present()


def tabulate(store: Store, plans: Sequence[ScenePlan], again: Collection[str] = ()) -> list[tuple[str, str]]:
    """Put committed scenes into the table of their model, once for all of them: a table is rewritten whole.

    Args:
        again: ids of scenes whose items were corrected.

    Returns:
        Notes, (scene id, text), on scenes that supersede in the table what was made of other files of the same name.

    Raises:
        StorageError: if other writers win every time.
    """
    notes: dict[str, str] = {}
    for name, group in _by_product(plans).items():
        notes |= _tabulate_product(store, f"collections/{name}", _NewScenes(store, group, again))
    for scene_id, text in notes.items():
        log.warning("%s: %s", scene_id, text)
    return list(notes.items())


def _tabulate_product(store: Store, folder: str, new: _NewScenes) -> dict[str, str]:
    notes: dict[str, str] = {}

    def table(existing: bytes | None) -> bytes:
        entries = new.entries(item_table.tabled_ids(existing) if existing else frozenset())
        if existing and not entries:
            return existing
        entered = {item["id"]: item for _, item in entries}
        known = item_table.read_items(existing) if existing else []
        others = [item for item in known if item["id"] not in entered]
        notes.update(_namesakes(_linked(entered.values()), _linked(others)))
        published = (item_table.published_of(existing) if existing else {}) | new.published(entered)
        return item_table.items_parquet([*others, *entered.values()], published)

    merge(store, f"{folder}/items.parquet", table)
    _refresh_latest(store, folder)
    new.check_present()
    return notes


def namesakes(store: Store, plans: Sequence[ScenePlan]) -> list[tuple[str, str]]:
    """Notes, (scene id, text), on scenes that will supersede in a table what was made of other files of the same name.

    What is in a table already is news no more.

    Raises:
        PublishError, StorageError: if a table cannot be read.
    """
    notes: dict[str, str] = {}
    for name, group in _by_product(plans).items():
        try:
            table = store.get(f"collections/{name}/items.parquet")
        except MissingObjectError:
            continue
        planned = {stac_item.item_id(plan.scene.id, name, plan.key): plan for plan in group}
        known = item_table.linked_by_scenes(table, {plan.scene.id for plan in group})
        for tabled, _, _ in known:
            planned.pop(tabled, None)
        new = [(plan.scene.id, stac_item.links(plan.scene, name, provenance(plan))) for plan in planned.values()]
        notes |= _namesakes(new, [(scene, links) for _, scene, links in known])
    return list(notes.items())


_Linked: TypeAlias = tuple[str, Sequence[Mapping[str, Any]]]
"""A scene's id, and the links of an item of it."""


def _namesakes(entered: Sequence[_Linked], others: Sequence[_Linked]) -> dict[str, str]:
    """What to say of results whose scene has the name of another, by scene id: a file's name, without its folder.

    Results that have a file of the scene itself in common are of one scene, with whatever earlier scene it was compared.
    """
    known: dict[str, list[list[str]]] = {}
    for scene_id, links in others:
        known.setdefault(scene_id, []).append(_sources(links))
    notes = {}
    for scene_id, links in entered:
        own = set(_sources(links))
        if strange := [theirs for theirs in known.get(scene_id, ()) if own and theirs and own.isdisjoint(theirs)]:
            notes[scene_id] = (
                f"a result of another file is published as {scene_id} too ({redact(strange[-1][0])}). Tables, areas and the "
                "page take the later of them for a newer map of one scene and leave the other out: if they are two scenes, map "
                "each with a `scene_id` of its own, into a new `out`"
            )
    return notes


def _linked(items: Iterable[Mapping[str, Any]]) -> list[_Linked]:
    return [(item["properties"]["earthloom:scene"], item["links"]) for item in items]


def _sources(links: Sequence[Mapping[str, Any]]) -> list[str]:
    """Addresses of what the scene itself was made of: neither an earlier date, permanent water nor a model."""
    named = [link for link in links if link["rel"] == "derived_from"]
    return [link["href"] for link in named if (link.get("title") or "").startswith(stac_item.SOURCE)]


def _refresh_latest(store: Store, folder: str) -> None:
    """Make what follows from a table. It is read inside of each try, so that a slow writer cannot put an older state back."""
    items, name = f"{folder}/items.parquet", folder.rpartition("/")[2]
    merge(store, f"{folder}/latest.parquet", lambda _: item_table.latest_parquet(store.get(items)))
    merge(store, f"{folder}/{name}.qlr", lambda _: catalogue(name, item_table.latest_items(store.get(items)), "../.."))


class _NewScenes:
    """Scenes of one product that a catalogue may not hold yet; their items are read when they turn out not to be in it.

    Those of `again` are read each time that the catalogue is: another driver may be correcting the same scene.
    """

    def __init__(self, store: Store, plans: Sequence[ScenePlan], again: Collection[str]) -> None:
        self._store = store
        self._plans = {stac_item.item_id(plan.scene.id, plan.product, plan.key): plan for plan in plans}
        self.again = {name for name, plan in self._plans.items() if plan.scene.id in again}
        self.items: dict[str, dict[str, Any]] = {}
        self.product, self.card = plans[0].product, plans[0].card

    def entries(self, known: Collection[str]) -> list[tuple[str, dict[str, Any]]]:
        """(href from the collection, item) of every scene whose id is not known, or whose item was corrected."""
        new = {name: plan for name, plan in self._plans.items() if name not in known or name in self.again}
        unread = {name: plan for name, plan in new.items() if name not in self.items or name in self.again}
        read = _at_once(lambda plan: _item(self._store, plan), list(unread.values()))
        self.items |= dict(zip(unread, read, strict=True))
        return [(str(self.href(name)), self.items[name]) for name in new]

    def published(self, names: Collection[str]) -> dict[str, str | None]:
        """When each of these results was committed, RFC 3339; None of one that is gone."""
        plans = [self._plans[name] for name in names]
        moments = _at_once(lambda plan: committed_s(self._store, plan.prefix), plans)
        return {
            name: None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()
            for name, moment in zip(names, moments, strict=True)
        }

    def href(self, name: str) -> str | None:
        """Reference from the collection to an item of these; None for others."""
        plan = self._plans.get(name)
        return stac_item.item_href(plan.scene.id, plan.key) if plan else None

    def check_present(self) -> None:
        """Take back what was entered although `earthloom gc` took the scene away meanwhile.

        Raises:
            StorageError: naming the first of these scenes.
        """
        entered = [self._plans[name] for name in self.items]
        heads = _at_once(lambda plan: self._store.head(f"{plan.prefix}/{RESULT}"), entered)
        gone = [plan for plan, head in zip(entered, heads, strict=True) if head is None]
        for plan in gone:
            leave(self._store, model=plan.product, scene_id=plan.scene.id, key=plan.key)
        if gone:
            raise _removed(gone[0])


def _at_once(function: Callable[[ScenePlan], T], plans: Sequence[ScenePlan]) -> list[T]:
    """Requests that do not depend on each other, several at a time, in order."""
    if len(plans) < 2:
        return [function(plan) for plan in plans]
    with ThreadPoolExecutor(_REQUESTS, "items") as pool:
        return list(pool.map(function, plans))


def leave(store: Store, *, model: str, scene_id: str, key: str) -> None:
    """Take a scene's result out of its model's collection and table, where others remain. Twice changes nothing.

    Raises:
        PublishError: if it is the only one.
        StorageError: if other writers win every time.
    """
    folder, item_id = f"collections/{model}", stac_item.item_id(scene_id, model, key)

    def collection(existing: bytes | None) -> bytes:
        return canonical(stac_collection.remove_from_collection(_present(existing, folder), item_id))

    def table(existing: bytes | None) -> bytes:
        there = _present(existing, folder)
        items = item_table.read_items(there)
        others = [other for other in items if other["id"] != item_id]
        return item_table.items_parquet(others, item_table.published_of(there)) if len(others) < len(items) else there

    merge(store, f"{folder}/collection.json", collection)
    merge(store, f"{folder}/items.parquet", table)
    page.refresh(store, folder)
    _refresh_latest(store, folder)


def linked_items(store: Store, model: str) -> dict[str, str]:
    """Key below OUT of every item that a model's collection links, by item id; empty if there is no collection.

    Raises:
        PublishError: if the collection is not JSON, or a link leaves the scenes.
    """
    key = f"collections/{model}/collection.json"
    try:
        links = json.loads(store.get(key))["links"]
        hrefs = {link["title"]: unquote(link["href"]) for link in links if link["rel"] == "item"}
    except MissingObjectError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise PublishError(
            f"{key} is not a collection of ours ({error}); delete it and run again: it is made from committed scenes"
        ) from error
    if wrong := [href for href in hrefs.values() if not href.startswith("../../scenes/")]:
        raise PublishError(f"{key} links {wrong[0]}, which is no result below this OUT")
    return {name: href.removeprefix("../../") for name, href in hrefs.items()}


def tabled_items(store: Store, model: str) -> frozenset[str]:
    """Ids of the items in a model's table; empty if there is no table.

    Raises:
        PublishError: if it cannot be read.
    """
    try:
        return item_table.tabled_ids(store.get(f"collections/{model}/items.parquet"))
    except MissingObjectError:
        return frozenset()


def _present(existing: bytes | None, folder: str) -> bytes:
    if existing is None:
        raise PublishError(f"{folder} has lost a catalogue; run again with one of its scenes to make it again")
    return existing


def _by_product(plans: Sequence[ScenePlan]) -> dict[str, list[ScenePlan]]:
    groups: dict[str, list[ScenePlan]] = {}
    for plan in plans:
        groups.setdefault(plan.product, []).append(plan)
    return groups


def _item(store: Store, plan: ScenePlan) -> dict[str, Any]:
    try:
        item = json.loads(store.get(f"{plan.prefix}/{ITEM}"))
    except MissingObjectError as error:
        raise _removed(plan) from error
    except ValueError:
        item = None
    if not isinstance(item, dict) or not item:
        raise PublishError(
            f"{plan.prefix}/{ITEM} is no STAC item any more; remove {plan.prefix}/{RESULT} and run again, which publishes the "
            "scene anew"
        )
    return item


def _removed(plan: ScenePlan) -> StorageError:
    return StorageError(f"{plan.prefix} was removed while it was being linked; run again")
