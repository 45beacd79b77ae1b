"""Scenes from STAC files: items, item collections, and static catalogues and collections of any depth.

Whatever a STAC document says is checked before it is believed: every href becomes an ObjectRef, a document from the
network cannot name local files, and one on disk cannot name files outside its folder. Reads JSON only, never pixels.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os.path import normpath
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from earthloom.jobs.intake.recognise import Facts
from earthloom.jobs.intake.stac_assets import (
    LostAsset,
    StacAsset,
    alternate_names,
    data_assets,
    mapping,
    number,
    sequence,
    text,
)
from earthloom.tiling.errors import ConfigError, EarthloomError, NoSceneError, SceneError
from earthloom.tiling.reading.not_tiff import HEAD_BYTES, what_it_is
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from earthloom.tiling.suggest import did_you_mean

MAX_JSON_BYTES = 32 * 2**20
MAX_DOCUMENTS = 10_000
"""Items and catalogues that one reference may lead to."""

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+._-]*:")  # with `_`, for GDAL's own GTIFF_DIR:…


@dataclass(frozen=True, slots=True, kw_only=True)
class StacItem:
    """What an item says of a scene."""

    id: str
    url: str
    """Address of the item itself, or of the collection file that holds it."""
    metadata: str | None = None
    """What the metadata of an acquisition as delivered are called, where they say all this and not a STAC item does."""
    assets: tuple[StacAsset, ...] = ()
    lost: tuple[LostAsset, ...] = ()
    facts: Facts | None = None
    """What it says of the product."""
    quantity: str | None = None
    """What scaled values are, where it says so."""
    datetime: str | None = None
    """Date as it is written; the start of the interval if the item spans one."""
    end: str | None = None
    """The end of that interval, as written."""
    ours: bool = False
    """Whether it is an item of Earthloom, which says all that there is to say of its bands and values."""
    sun_elevation_deg: float | None = None
    processing_baseline: str | None = None
    """Processing baseline of a Sentinel-2 product, such as `04.00`."""
    offset_applied: bool = False
    """True when the item says that the offset of baseline 04.00 was already taken out of the pixels."""
    version: str = ""
    """Changes when the item does: its own `updated`, else a digest of what it says."""
    problem: str = ""
    """Why it cannot be used, when it cannot; one bad item does not hide the others."""
    notes: tuple[str, ...] = ()
    """What is worth a word before it is opened."""

    @property
    def source(self) -> str:
        """Who speaks, for messages."""
        return self.metadata or "the STAC item"


def read_items(ref: ObjectRef, alternate: str | None = None) -> list[StacItem]:
    """All items that a STAC file holds or links to, in its order.

    Args:
        ref: an Item, an ItemCollection, or a Catalog or Collection whose links of kind `item` are followed, its own and
            those of all catalogues below it. For local files, its folder is what hrefs may not leave.
        alternate: name of the alternate address (STAC's alternate-assets extension) to take of every asset that has it.

    Raises:
        ConfigError: if the file is not STAC, too large, or holds no item.
        StorageError: if it cannot be read.
    """
    root = ref.path.parent if ref.scheme == "file" else None
    document = _read_json(ref)
    kind = document.get("type")
    if kind == "Feature":
        return [item_of(document, ref, root, alternate)]
    if kind == "FeatureCollection":
        features = document.get("features")
        items = [item_of(mapping(feature), ref, root, alternate) for feature in sequence(features)]
        items = with_note_of_more(items, document, f"{ref.url} holds", "give the search itself for all")
    elif kind in ("Catalog", "Collection"):
        items = list(_linked_items(document, ref, root, alternate))
    else:
        raise ConfigError(
            f"{ref.url} is not STAC: its type is {str(kind)[:40]!r}, not Feature, FeatureCollection, Catalog or Collection"
        )
    if not items:
        raise NoSceneError(
            f"{ref.url} is a STAC {kind} without items, its own or of catalogues below it; name an item, an ItemCollection, "
            "or the search of a STAC API: https://host/search?collections=<id>"
        )
    return items


def with_note_of_more(
    items: list[StacItem], document: Mapping[str, Any], holds: str, remedy: str
) -> list[StacItem]:  # fmt: skip
    """Items of a search, the first with a note if the search says in an answer that it found more.

    Args:
        document: the answer.
        holds: subject and verb of the note.
        remedy: its end.
    """
    matched = number(document.get("numberMatched"))
    for older in ("context", "search:metadata"):
        matched = number(mapping(document.get(older)).get("matched")) if matched is None else matched
    if matched is None or matched <= len(items) or not items:
        return items
    note = f"{holds} {len(items)} of the {matched:.0f} items that the search found; {remedy}"
    return [replace(items[0], notes=(*items[0].notes, note)), *items[1:]]


def resolve_href(href: str, base: ObjectRef, root: Path | None) -> ObjectRef:
    """The file that a link in the document `base` names.

    Args:
        root: folder of the STAC file that the user named, when that is local.

    Raises:
        SceneError: if a document from the network names a local file, or a local one leaves `root`.
        ConfigError: if it is not a path or URL that we read.
    """
    if "\0" in unquote(href):
        raise ConfigError(f"{base.url}: the href {href[:80]!r} holds control characters")
    if base.scheme != "file":
        if not _SCHEME.match(href):
            return _below_host(href, base)
        ref = ObjectRef.parse(href)
        if ref.scheme == "file":
            raise SceneError(f"{base.url} comes from the network and names the local file {ref.url}; that is refused")
        return ref
    if _SCHEME.match(href) and not href.lower().startswith("file:"):
        return ObjectRef.parse(href)
    if href.startswith("//"):
        raise ConfigError(f"{base.url}: the href {href[:80]!r} names a host without a scheme; write https:// before it")
    path = ObjectRef.parse(href).path if _SCHEME.match(href) else _beside(href, base)
    assert root is not None, "a local document has a root"
    if not path.resolve().is_relative_to(root.resolve()):
        raise SceneError(
            f"{base.url} names {href[:80]!r}, outside the folder {root}; "
            "give that file itself, or a catalogue above both"
        )
    return ObjectRef.parse(str(path))


def _beside(href: str, base: ObjectRef) -> Path:
    """A relative href of a local document: percent-encoded, as the specification of links wants, or a plain path."""
    plain = Path(normpath(base.path.parent / href))
    decoded = Path(normpath(base.path.parent / unquote(href)))
    return plain if plain == decoded or _is_file(plain) else decoded


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _below_host(href: str, base: ObjectRef) -> ObjectRef:
    """A relative href of a network document: same host or bucket, whatever `..` it holds."""
    if href.startswith("//") or "\\" in href:
        raise ConfigError(f"{base.url}: the href {href[:80]!r} is not a relative path or a full URL")
    if "?" in href or "#" in href:
        raise ConfigError(f"{base.url}: the href {href.partition('?')[0][:80]!r} carries a query or fragment")
    path = unquote(href)
    folder = "/" + base.key.rpartition("/")[0]
    return replace(base, key="") / normpath(f"{folder}/{path}" if not path.startswith("/") else path).lstrip("/")


def _linked_items(
    document: Mapping[str, Any], ref: ObjectRef, root: Path | None, alternate: str | None
) -> Iterator[StacItem]:
    """The items that a catalogue leads to, at any depth, level by level. Each catalogue is read once, were it in a circle."""
    found: list[ObjectRef | StacItem] = []
    seen, level = {ref.url}, [(document, ref)]

    def open_child(child: ObjectRef) -> tuple[Mapping[str, Any], ObjectRef] | StacItem:
        try:
            return _read_json(child), child
        except EarthloomError as error:
            return StacItem(id=child.stem, url=child.url, problem=str(error))

    def read(one: ObjectRef | StacItem) -> StacItem:
        if isinstance(one, StacItem):
            return one
        try:
            return item_of(_read_json(one), one, root, alternate)
        except EarthloomError as error:
            return StacItem(id=one.stem, url=one.url, problem=str(error))

    with ThreadPoolExecutor(8) as pool:
        while level:
            found += [one for parent in level for one in _links(*parent, root, "item")]
            children = [one for parent in level for one in _links(*parent, root, "child")]
            found += [one for one in children if isinstance(one, StacItem)]
            new = {one.url: one for one in children if isinstance(one, ObjectRef) and one.url not in seen}
            seen |= new.keys()
            if len(found) + len(seen) > MAX_DOCUMENTS:
                raise ConfigError(
                    f"{ref.url} leads to more than {MAX_DOCUMENTS} items and catalogues; name a collection further down, or an "
                    "ItemCollection"
                )
            opened = list(pool.map(open_child, new.values()))
            found += [one for one in opened if isinstance(one, StacItem)]
            level = [one for one in opened if not isinstance(one, StacItem)]
        yield from pool.map(read, found)


def _links(
    document: Mapping[str, Any], ref: ObjectRef, root: Path | None, relation: str
) -> Iterator[ObjectRef | StacItem]:
    for link in map(mapping, sequence(document.get("links"))):
        if link.get("rel") == relation:
            href = str(link.get("href"))
            try:
                yield resolve_href(href, ref, root)
            except EarthloomError as error:
                yield StacItem(id=href.rpartition("/")[2].partition(".")[0], url=ref.url, problem=str(error))


def item_of(document: Mapping[str, Any], ref: ObjectRef, root: Path | None, alternate: str | None) -> StacItem:
    """An item's facts; its `problem` is set instead of an error being raised.

    Args:
        ref: where it was read.
        root: as `resolve_href` wants it.
        alternate: as `read_items` takes it.
    """
    properties = mapping(document.get("properties"))
    item = StacItem(
        id=str(document.get("id", "")),
        url=ref.url,
        facts=_facts(properties),
        datetime=text(properties.get("datetime")) or text(properties.get("start_datetime")),
        end=None if properties.get("datetime") else text(properties.get("end_datetime")),
        version=text(properties.get("updated"))
        or _digest({name: document.get(name) for name in ("properties", "assets")}),
        ours="earthloom:key" in properties,
        sun_elevation_deg=number(_first_of(properties, "view:sun_elevation", "eo:sun_elevation")),
        processing_baseline=text(properties.get("s2:processing_baseline") or properties.get("processing:version")),
        offset_applied=properties.get("earthsearch:boa_offset_applied") is True,
    )
    if document.get("type") != "Feature" or "assets" not in document:
        return replace(item, problem=f"{ref.url} holds something that is not a STAC item")
    every = mapping(document["assets"])
    names = alternate_names(every)
    if alternate is not None and alternate not in names:
        has = f"they have {', '.join(names)[:200]}{did_you_mean(alternate, names)}" if names else "they have none"
        return replace(item, problem=f"no asset of item {item.id!r} has an alternate address {alternate[:40]!r}; {has}")
    found, lost = data_assets(every, properties, lambda href: resolve_href(href, ref, root), alternate)
    if not found and lost:
        return replace(item, problem=lost[0].problem)
    if not found:
        kinds = sorted({str(mapping(asset).get("type")) for asset in every.values()})
        return replace(
            item, problem=f"item {item.id!r} has no TIFF with data; its assets are of type {', '.join(kinds)[:200]}"
        )
    said = {band.quantity for asset in found for band in asset.bands} - {None}
    return replace(item, assets=found, lost=lost, quantity=said.pop() if len(said) == 1 else None)


def _digest(said: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def _facts(properties: Mapping[str, Any]) -> Facts:
    platform = _first_of(properties, "platform", "eo:platform", "constellation")
    level = _first_of(properties, "landsat:correction", "s2:product_type", "processing:level")
    return Facts(platform=(text(platform) or "")[:40], level=(text(level) or "")[:40])


def _first_of(properties: Mapping[str, Any], *names: str) -> object:
    return next((properties[name] for name in names if properties.get(name) is not None), None)


def _read_json(ref: ObjectRef) -> Mapping[str, Any]:
    store = open_store(ref)
    head = store.head()
    if head is None:
        raise ConfigError(f"{ref.url} does not exist; check the spelling")
    data = store.get() if head.size <= MAX_JSON_BYTES else b""
    if max(head.size, len(data)) > MAX_JSON_BYTES:
        raise ConfigError(f"{ref.url} has {head.size} bytes; a STAC file of at most {MAX_JSON_BYTES} bytes is read")
    try:
        return mapping(json.loads(data))
    except (ValueError, RecursionError) as error:
        other = None if data.lstrip()[:1] in (b"{", b"[") else what_it_is(data[:HEAD_BYTES])
        raise ConfigError(f"{ref.url} is not JSON: {other or str(error)[:120]}") from error
