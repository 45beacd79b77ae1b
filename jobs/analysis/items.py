"""Items with absolute addresses, as one ItemCollection: for catalogues and programs that do not read OUT itself.

What lies in OUT names everything relative to itself, so that a copy of OUT is as good as OUT. Here the places are known, and
each asset can be had in every one of them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from earthloom.jobs.products.item_table import latest_items
from earthloom.jobs.products.stac_item import extensions_of
from earthloom.tiling.errors import ConfigError, MissingObjectError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store

_WEB = re.compile(r"https?://[^/?#\s]+[^?#\s]*\Z")


def items_of(out: str, product: str, *, public_url: str | None = None) -> dict[str, Any]:
    """The items of a product's committed scenes with absolute addresses, as an ItemCollection; each scene once.

    Args:
        out: folder or `s3://` prefix of all outputs.
        product: as `collections/` has it.
        public_url: address at which a web server shows OUT.

    Raises:
        ConfigError: if there is no such product, or the address is none of the web.
        StorageError: if something cannot be read.
    """
    if public_url is not None and not _WEB.match(public_url):
        raise ConfigError(f"`public_url={public_url}` is no address such as https://maps.example.com/lakes")
    ref = ObjectRef.parse(out)
    places = {"https": public_url} if public_url else {}
    if ref.scheme != "file":
        places[ref.scheme] = ref.url
    elif not public_url:
        places["folder"] = str(ref.path.resolve())
    try:
        table = open_store(ref).get(f"collections/{product}/items.parquet")
    except MissingObjectError as error:
        raise ConfigError(
            f"{out} has no collection of scenes {product!r}; its folder collections/ lists them"
        ) from error
    return item_collection(latest_items(table), places)


def item_collection(items: Sequence[Mapping[str, Any]], places: Mapping[str, str]) -> dict[str, Any]:
    """A GeoJSON FeatureCollection of items.

    Args:
        items: of scenes, as they lie in OUT.
        places: addresses of OUT by what they are called (`https`, `s3`), of which the first is each `href`, and any others
            are its `alternate` (alternate-assets 1.2).
    """
    return {"type": "FeatureCollection", "features": [_absolute(item, places) for item in items]}


def _absolute(item: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    said = item["properties"]
    folder = f"scenes/{quote(said['earthloom:scene'])}/{said['earthloom:key']}"
    (_, first), *others = places.items()

    def asset(document: Mapping[str, Any]) -> dict[str, Any]:
        href = str(document["href"])
        elsewhere = {name: {"href": _at(place, folder, href)} for name, place in others}
        return {**document, "href": _at(first, folder, href), **({"alternate": elsewhere} if elsewhere else {})}

    links = [{**link, "href": _at(first, folder, str(link["href"]))} for link in item["links"] if link["rel"] != "self"]
    found = {
        **item,
        "assets": {name: asset(document) for name, document in item["assets"].items()},
        "links": [{"rel": "self", "href": _at(first, folder, "./item.json"), "type": "application/geo+json"}, *links],
    }
    return found | {"stac_extensions": extensions_of(found)}


def _at(place: str, folder: str, href: str) -> str:
    """An address below a place: of the web with percent signs, of a bucket or folder as it is spelled there."""
    if "://" in href:
        return href
    path = posixpath.normpath(posixpath.join(folder, href))
    return f"{place.rstrip('/')}/{path if place.startswith('http') else unquote(path)}"
