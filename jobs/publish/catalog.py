"""Catalogues over committed scenes: collection, catalog and table, rewritten by read, merge and compare-and-swap.

Any number of runs may add to one OUT at once; each keeps what the others have added.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products import stac_collection, stac_item
from earthloom.jobs.records.canonical import canonical
from earthloom.jobs.records.documents import merge
from earthloom.jobs.records.names import ITEM, RESULT
from earthloom.tiling.errors import MissingObjectError, PublishError, StorageError
from earthloom.tiling.storage.store import Store


def link(store: Store, plans: Sequence[ScenePlan]) -> None:
    """Link committed scenes from their collections, and the collections from the catalog.

    Linking twice changes nothing, and what is unchanged is not written again.

    Raises:
        StorageError: if other writers win every time.
    """
    for name, group in _by_model(plans).items():
        items = [(plan, _item(store, plan)) for plan in group]
        key = f"collections/{name}/collection.json"

        def collection(
            existing: bytes | None, items: list[tuple[ScenePlan, dict[str, Any]]] = items, key: str = key
        ) -> bytes:
            merged = _document(existing, key)
            for plan, item in items:
                href = stac_item.item_href(plan.scene.id, plan.key)
                merged = stac_collection.add_to_collection(
                    merged, name=plan.product, card=plan.card, item=item, href=href
                )
            return canonical(merged)

        def root(existing: bytes | None, name: str = name, key: str = key) -> bytes:
            return canonical(stac_collection.add_to_catalog(_document(existing, "catalog.json"), name, f"./{key}"))

        merge(store, key, collection)
        merge(store, "catalog.json", root)
        _check_present(store, name, group)


def tabulate(store: Store, plans: Sequence[ScenePlan]) -> None:
    """Put committed scenes into the table of their model, once for all of them: a table is rewritten whole.

    Raises:
        StorageError: if other writers win every time.
    """
    for name, group in _by_model(plans).items():
        items = {str(item["id"]): item for item in (_item(store, plan) for plan in group)}

        def table(existing: bytes | None, items: dict[str, dict[str, Any]] = items) -> bytes:
            known = {str(item["id"]): item for item in (stac_collection.read_items(existing) if existing else [])}
            if existing and known | items == known:
                return existing
            return stac_collection.items_parquet([item for _, item in sorted((known | items).items())])

        merge(store, f"collections/{name}/items.parquet", table)
        _check_present(store, name, group)


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
        items = stac_collection.read_items(_present(existing, folder))
        others = [other for other in items if other["id"] != item_id]
        return stac_collection.items_parquet(others) if len(others) < len(items) else _present(existing, folder)

    merge(store, f"{folder}/collection.json", collection)
    merge(store, f"{folder}/items.parquet", table)


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
        return frozenset(
            str(item["id"]) for item in stac_collection.read_items(store.get(f"collections/{model}/items.parquet"))
        )
    except MissingObjectError:
        return frozenset()


def _check_present(store: Store, model: str, plans: Sequence[ScenePlan]) -> None:
    for plan in plans:
        if store.head(f"{plan.prefix}/{RESULT}") is None:  # `earthloom gc` took the scene away meanwhile
            leave(store, model=model, scene_id=plan.scene.id, key=plan.key)
            raise _removed(plan)


def _present(existing: bytes | None, folder: str) -> bytes:
    if existing is None:
        raise PublishError(f"{folder} has lost a catalogue; run again with one of its scenes to make it again")
    return existing


def _by_model(plans: Sequence[ScenePlan]) -> dict[str, list[ScenePlan]]:
    groups: dict[str, list[ScenePlan]] = {}
    for plan in plans:
        groups.setdefault(plan.product, []).append(plan)
    return groups


def _item(store: Store, plan: ScenePlan) -> dict[str, Any]:
    try:
        item: dict[str, Any] = json.loads(store.get(f"{plan.prefix}/{ITEM}"))
    except MissingObjectError as error:
        raise _removed(plan) from error
    return item


def _removed(plan: ScenePlan) -> StorageError:
    return StorageError(f"{plan.prefix} was removed while it was being linked; run again", transient=True)


def _document(existing: bytes | None, key: str) -> dict[str, Any] | None:
    try:
        document = json.loads(existing) if existing else None
    except ValueError:
        document = existing
    if document is not None and not isinstance(document, dict):
        raise PublishError(f"{key} is no JSON object; delete it and run again: it is made from committed scenes")
    return document
