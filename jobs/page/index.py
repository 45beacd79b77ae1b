"""The page's index: beside each collection one compact JSON of all its results, derived from the collection.

It is a function of what the collection links, so it does not matter who wrote it last, and one that was lost is made
again. A page without it shows less, so that nothing here stops a run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from earthloom.jobs.page.rows import place, row_of
from earthloom.jobs.products.stac_collection import item_links
from earthloom.jobs.records.canonical import canonical
from earthloom.jobs.records.documents import merge
from earthloom.jobs.records.names import ITEM
from earthloom.jobs.records.result import committed_s
from earthloom.tiling.errors import EarthloomError, MissingObjectError, PublishError
from earthloom.tiling.storage.store import Store

FILE = "page.json"
FORMAT = 3
_REQUESTS = 16

log = logging.getLogger(__name__)


def refresh(store: Store, folder: str, changed: Collection[str] = (), items: Mapping[str, Any] | None = None) -> None:
    """Bring the index beside a collection up to date with it.

    Args:
        store: on OUT.
        folder: folder of the collection: `collections/landwater`, `monitors/pucallpa`.
        changed: ids of items that may say something else than when they were indexed.
        items: by id, those that are known already and need not be read.
    """

    def renewed(existing: bytes | None) -> bytes:
        return canonical(index_of(store, folder, existing, changed, items))

    try:
        merge(store, f"{folder}/{FILE}", renewed)
    except EarthloomError as error:  # a page that is behind is no reason to fail: the next run makes it anew
        log.warning("%s/%s is not up to date: %s", folder, FILE, error)


def refresh_all(store: Store) -> None:
    """Make the index beside every collection that the catalog links, whatever an earlier one says.

    Raises:
        StorageError: if the catalog cannot be read.
    """
    for link in _document(store.get("catalog.json")).get("links", []):
        folder = str(link.get("href", "")).removeprefix("./").removesuffix("/collection.json")
        if link.get("rel") == "child" and folder.startswith(("collections/", "monitors/")) and ".." not in folder:
            store.delete(f"{folder}/{FILE}")
            refresh(store, folder)


def index_of(
    store: Store, folder: str, existing: bytes | None = None, changed: Collection[str] = (),
    items: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What the index beside a collection should say.

    Args:
        existing: an earlier index, of which rows are taken over, but for those of cubes: these grow under one name.
        changed: ids of items whose rows are not taken over.
        items: by id, those that need not be read.

    Raises:
        MissingObjectError: if there is no collection.
        PublishError: if the collection is no JSON object.
        StorageError: if an item cannot be read.
    """
    known = {name: row for name, row in _rows(existing).items() if name not in changed and "steps" not in row}
    try:
        collection = _document(store.get(f"{folder}/collection.json"))
    except ValueError as error:
        raise PublishError(f"{folder}/collection.json is no JSON object; delete it and run again") from error
    links = {str(link.get("title")): str(link.get("href")) for link in item_links(collection)}
    unread = [name for name in links if name not in known]
    with ThreadPoolExecutor(_REQUESTS, "index") as pool:
        rows_read = pool.map(lambda name: _read(store, folder, links[name], (items or {}).get(name)), unread)
        read = dict(zip(unread, rows_read, strict=True))
    rows = _ranked(store, (row for name in sorted(links) if (row := known.get(name) or read.get(name))))
    title = str(collection.get("title") or collection.get("id") or folder)
    return {"format": FORMAT, "title": title, "description": str(collection.get("description", "")), "rows": rows}


def _read(store: Store, folder: str, href: str, item: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The row of an item; None for one that is no longer there, or that another program wrote."""
    try:
        row = row_of(item or _document(store.get(f"{place(folder, href)}/{ITEM}")), folder, href)
        if "cube" in row:
            row["steps"] = _steps(store, f"{row['path']}/{row.pop('cube')}")
        return row
    except MissingObjectError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, PublishError) as error:
        log.warning("%s, which %s links, is not shown by the page: %s: %s", href, folder, type(error).__name__, error)
        return None


def _steps(store: Store, cube: str) -> list[tuple[str, list[str]]]:
    """(date, folders of the results that it was made of) of each date of a cube."""
    said = _document(store.get(f"{cube}/zarr.json"))["attributes"]["earthloom"]["steps"]
    return [(str(step["date"]), [str(prefix) for prefix in step["scenes"]]) for step in said]


def _ranked(store: Store, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of which all but one of each scene say `superseded`: the result that was committed last, of equals the greatest
    key, does not. When they were committed is asked, and noted as `published`, only where a scene has several."""
    every = [{name: value for name, value in row.items() if name != "superseded"} for row in rows]
    by_scene: dict[str, list[dict[str, Any]]] = {}
    for row in every:
        by_scene.setdefault(str(row.get("scene", row["path"])), []).append(row)
    several = [row for group in by_scene.values() if len(group) > 1 for row in group]
    unknown = [row for row in several if "published" not in row]
    with ThreadPoolExecutor(_REQUESTS, "index") as pool:
        for row, moment in zip(unknown, pool.map(lambda row: committed_s(store, row["path"]), unknown), strict=True):
            row["published"] = None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()
    for group in by_scene.values():
        for row in sorted(group, key=lambda row: (row.get("published") or "", row["path"]))[:-1]:
            row["superseded"] = True
    return every


def _rows(existing: bytes | None) -> dict[str, Mapping[str, Any]]:
    """Rows by id of the item; none if the index is damaged or of another version."""
    try:
        document = _document(existing or b"{}")
        return {row["id"]: row for row in document["rows"]} if document.get("format") == FORMAT else {}
    except (ValueError, KeyError, TypeError):
        return {}


def _document(data: bytes) -> dict[str, Any]:
    document = json.loads(data)
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")
    return document
