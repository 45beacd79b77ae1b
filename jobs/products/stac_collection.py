"""Collections and the catalog, derived from committed scenes.

Each function takes what is there and gives what should be there: the caller reads, writes conditionally and tries
again. The result depends on the set of items only, not on the order in which they arrived.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from earthloom.jobs.products.stac_item import EXTENSIONS, STAC_VERSION, class_objects, interval_of
from earthloom.models.cards.card import ModelCard
from earthloom.tiling.errors import PublishError
from earthloom.tiling.footprint import union_bbox

CATALOG_ID = "earthloom"
_PARQUET = "application/vnd.apache.parquet"
_OWN_RELS = frozenset(("root", "parent", "item"))
_BBOX, _INTERVAL = "earthloom:bbox", "earthloom:interval"  # on each link, so that an extent needs no item read again


def add_to_collection(
    existing: dict[str, Any] | None, *, name: str, card: ModelCard, entries: Sequence[tuple[str, dict[str, Any]]]
) -> dict[str, Any]:
    """`existing` with these items in it: one of the same id is replaced, others and foreign fields are kept.

    Adding twice equals adding once, and the order of adding does not matter.

    Args:
        existing: the collection as it is; None where there is none yet.
        name: name of the product; the collection's id.
        card: gives title, description and classes; variants of a model share a collection.
        entries: (href relative to the collection, item).

    Raises:
        PublishError: if `existing` is another collection, or its item links lack the summaries that extents need; or if there
            are no items, old or new.
    """
    refuse_foreign(existing, "Collection", name)
    links = item_links(existing)
    if missing := [link for link in links if not (_BBOX in link and _INTERVAL in link)]:
        raise PublishError(
            f"collection {name}: the link to {missing[0].get('href')} lacks {_BBOX} or {_INTERVAL}; another tool "
            "has rewritten it. Delete collection.json: it is made again from the committed scenes"
        )
    links += [item_link(href, item) for href, item in entries]
    by_id = {link["title"]: link for link in links}  # the last one given wins
    ordered = [by_id[one] for one in sorted(by_id)]
    if not ordered:
        raise PublishError(f"collection {name} has no items; a collection is derived from committed scenes")
    kept = existing or {}  # its parts go into the new one as they are
    extensions = {EXTENSIONS["classification"]} if card.classes else set()
    classes = {"classification:classes": class_objects(card.classes)} if card.classes else {}
    return kept | {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": sorted({*kept.get("stac_extensions", []), *extensions}),
        "id": name,
        "title": card.title or name,
        "description": card.description or f"Made by the model {name}.",
        "license": kept.get("license", "other"),
        "extent": extent_of(ordered),
        "summaries": kept.get("summaries", {}) | classes,
        "assets": kept.get("assets", {}) | {
            asset: {"href": f"./{file}", "type": kind, "title": title, "roles": [role]}
            for asset, file, kind, title, role in (
                ("items", "items.parquet", _PARQUET, "All items as one table", "collection-mirror"),
                ("latest", "latest.parquet", _PARQUET, "The latest result of each scene, with class areas as columns", "data"),
                ("layers", f"{name}.qlr", "application/xml", "All of them as layers of QGIS", "metadata"),
            )
        },
        "links": [
            {"rel": "root", "href": "../../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../../catalog.json", "type": "application/json"},
            *(link for link in kept.get("links", []) if link.get("rel") not in _OWN_RELS),
            *ordered,
        ],
    }  # fmt: skip


def linked_hrefs(existing: dict[str, Any] | None) -> dict[str, str]:
    """Targets of a collection's links to items, by id of the item."""
    return {str(link.get("title")): str(link.get("href")) for link in item_links(existing)}


def remove_from_collection(existing: bytes, item_id: str) -> dict[str, Any]:
    """The collection without this item, its extent that of the others; as it is if it does not hold it.

    Raises:
        PublishError: if no item would be left.
    """
    kept: dict[str, Any] = json.loads(existing)
    links = [link for link in kept["links"] if not (link.get("rel") == "item" and link.get("title") == item_id)]
    if len(links) == len(kept["links"]):
        return kept
    left = [link for link in links if link.get("rel") == "item"]
    if not left:
        raise PublishError(f"{item_id} is the only item of collection {kept.get('id')}; a collection is never empty")
    return kept | {"extent": extent_of(left), "links": links}


def add_to_catalog(existing: dict[str, Any] | None, collection_id: str, href: str) -> dict[str, Any]:
    """The root catalog with a link to this collection, sorted; other links and foreign fields are kept.

    Raises:
        PublishError: if `existing` is not this catalog.
    """
    refuse_foreign(existing, "Catalog", CATALOG_ID)
    kept = copy.deepcopy(existing or {})
    links = {link["href"]: link for link in kept.get("links", []) if link.get("rel") == "child"}
    links[href] = {"rel": "child", "href": href, "type": "application/json", "title": collection_id}
    foreign = [link for link in kept.get("links", []) if link.get("rel") not in ("root", "child")]
    return kept | {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": CATALOG_ID,
        "title": kept.get("title", "Earthloom maps"),
        "description": kept.get("description", "Maps made from satellite scenes, one collection per model."),
        "links": [
            {"rel": "root", "href": "./catalog.json", "type": "application/json"},
            *foreign,
            *(links[one] for one in sorted(links)),
        ],
    }


def item_links(existing: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A collection's links to items, as `item_link` made them."""
    return [link for link in (existing or {}).get("links", []) if link.get("rel") == "item"]


def extent_of(links: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the items behind these links cover, in space and time."""
    start = min((link[_INTERVAL][0] for link in links), key=datetime.fromisoformat)
    end = max((link[_INTERVAL][1] for link in links), key=datetime.fromisoformat)
    return {
        "spatial": {"bbox": [list(union_bbox(tuple(link[_BBOX]) for link in links))]},
        "temporal": {"interval": [[start, end]]},
    }


def item_link(href: str, item: dict[str, Any]) -> dict[str, Any]:
    """A link from a collection to an item, with what the collection's extent needs of it."""
    return {"rel": "item", "href": href, "type": "application/geo+json", "title": item["id"],
            _BBOX: list(item["bbox"]), _INTERVAL: list(interval_of(item))}  # fmt: skip


def refuse_foreign(existing: dict[str, Any] | None, kind: str, name: str) -> None:
    """
    Raises:
        PublishError: if what is there is another object.
    """
    if existing is not None and (existing.get("type"), existing.get("id")) != (kind, name):
        raise PublishError(
            f"expected the STAC {kind} {name!r} but found {existing.get('type')} {existing.get('id')!r}; "
            "give an output folder of its own"
        )
