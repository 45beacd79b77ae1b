"""Leading readers to what is derived for an area: by heads, by the area's collection, and by the catalog.

Derived documents: they may be late, never early, and never go back, whoever else writes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.cube.stac import add_to_area, collection_id, replace_in_area
from earthloom.jobs.products.stac_collection import add_to_catalog, item_links
from earthloom.jobs.records.canonical import FORMAT, canonical, read_document
from earthloom.jobs.records.documents import json_object, merge
from earthloom.jobs.records.names import ITEM
from earthloom.tiling.errors import MissingObjectError, PublishError
from earthloom.tiling.storage.store import Store

HEAD = "head.json"
"""Document that says which results of composites, changes or a trend are the current ones."""

_GENERATION = re.compile(r"/generations/(\d+)/")


def enter(
    store: Store, aoi: str, prefix: str, item: Mapping[str, Any],
    progress: Callable[[Mapping[str, Any]], tuple[Any, ...]] = lambda _: (),
) -> None:  # fmt: skip
    """Write an item that may have been written before, and link it.

    Args:
        store: on OUT.
        aoi: the area.
        prefix: below `monitors/<aoi>/`, where the item goes.
        item: what it says now.
        progress: of an item; one that is further than ours is left as it is.

    Raises:
        PublishError: if what is there is not ours.
        StorageError: if other writers win every time.
    """
    base = f"monitors/{aoi}"
    if not prefix.startswith(f"{base}/"):
        raise PublishError(f"an item of the area {aoi} lies below {base}/, not at {prefix}")

    def ours(existing: bytes | None) -> bytes:
        linked = json_object(existing, f"{prefix}/{ITEM}")
        if linked is not None and existing is not None and progress(linked) > progress(item):
            return existing
        return canonical(item)

    def collection(existing: bytes | None) -> bytes:
        href = f"./{prefix.removeprefix(f'{base}/')}/{ITEM}"
        linked = json.loads(store.get(f"{prefix}/{ITEM}"))  # what is there by now, which may be further than ours
        return canonical(add_to_area(json_object(existing, f"{base}/collection.json"), aoi, href, linked))

    merge(store, f"{prefix}/{ITEM}", ours)
    _link(store, aoi, collection)


def relink(store: Store, aoi: str, folder: str, prefixes: Sequence[str]) -> None:
    """Make the items to which an area's collection links below a folder exactly these. Those that are new are read.

    Args:
        store: on OUT.
        aoi: the area.
        folder: below `monitors/<aoi>/`.
        prefixes: below the folder, of committed results with an item each.

    Raises:
        PublishError: if the collection is not ours.
        StorageError: if other writers win every time.
    """
    base = f"monitors/{aoi}"
    below = f"./{folder.removeprefix(f'{base}/')}/"
    hrefs = {f"./{prefix.removeprefix(f'{base}/')}/{ITEM}": f"{prefix}/{ITEM}" for prefix in prefixes}
    items: dict[str, dict[str, Any]] = {}
    if not prefixes and not any(href.startswith(below) for href in area_hrefs(store, aoi)):
        return

    def collection(existing: bytes | None) -> bytes:
        document = json_object(existing, f"{base}/collection.json")
        linked = {str(link.get("href")) for link in item_links(document)}
        for href in hrefs.keys() - linked - items.keys():
            items[href] = json.loads(store.get(hrefs[href]))
        entries = {href: items.get(href, {}) for href in hrefs}
        return canonical(replace_in_area(document, aoi, below, entries))

    _link(store, aoi, collection)


def _link(store: Store, aoi: str, collection: Callable[[bytes | None], bytes]) -> None:
    """Change an area's collection, and enter it into the catalog."""

    def root(existing: bytes | None) -> bytes:
        href = f"./monitors/{aoi}/collection.json"
        return canonical(add_to_catalog(json_object(existing, "catalog.json"), collection_id(aoi), href))

    merge(store, f"monitors/{aoi}/collection.json", collection)
    merge(store, "catalog.json", root)


def area_hrefs(store: Store, aoi: str) -> tuple[str, ...]:
    """References of an area's collection to its items, relative to `monitors/<aoi>/`; none where there is no collection.

    Raises:
        PublishError: if it is no JSON object.
    """
    key = f"monitors/{aoi}/collection.json"
    try:
        return tuple(str(link.get("href")) for link in item_links(json_object(store.get(key), key)))
    except MissingObjectError:
        return ()


def advance(store: Store, key: str, cube: Cube, content: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    """Replace a head unless it is of a later state of the cube; twice leaves the same bytes.

    Args:
        content: makes what the head says beside the cube's state, from what it said before: nothing, where there is none.

    Raises:
        PublishError: if it is no document of this version.
        StorageError: if other writers win every time.
    """
    match = _GENERATION.search(cube.prefix)
    generation, steps = int(match[1]) if match else 0, len(cube.steps)  # both only grow

    def change(existing: bytes | None) -> bytes:
        theirs = read_document(existing, key) if existing is not None else {}
        if existing is not None and (theirs["generation"], theirs["steps"]) > (generation, steps):
            return existing
        return canonical({"format": FORMAT, "generation": generation, "steps": steps, **content(theirs)})

    merge(store, key, change)
