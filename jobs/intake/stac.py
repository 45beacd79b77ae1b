"""Scenes from STAC files: items, item collections, and static catalogues and collections one level down.

Whatever a STAC document says is checked before it is believed: every href becomes an ObjectRef, a document from the
network cannot name local files, and one on disk cannot name files outside its folder. Reads JSON only, never pixels.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os.path import normpath
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from earthloom.tiling.errors import ConfigError, EarthloomError, SceneError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store

MAX_JSON_BYTES = 32 * 2**20
MAX_DOCUMENTS = 10_000
"""Items and catalogues that one reference may lead to."""

_TIFF_NAME = re.compile(r"\.tiff?$", re.IGNORECASE)
_NOT_DATA = frozenset(("thumbnail", "overview", "visual", "metadata", "graphic"))
_QUALITY = frozenset(("data-mask", "cloud", "cloud-shadow", "snow-ice", "land-water", "water-mask", "saturation"))
_COMMON_NAME = re.compile(r"^[a-z][a-z0-9_]{0,31}$")
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+._-]*:")  # with `_`, for GDAL's own GTIFF_DIR:…
_OTHER_UNITS = re.compile(r"(?i)kelvin|celsius|^k$|degree|metre|meter|^m$|radiance|watt|^w|db|decibel")


@dataclass(frozen=True, slots=True, kw_only=True)
class StacBand:
    """What an item says of one band; None where it says nothing."""

    name: str | None = None
    """The provider's own, `B02`."""
    common_name: str | None = None
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    categorical: bool = False
    reflectance: bool = True
    """False when its unit says that it is something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StacAsset:
    """One file of an item, with what the item says of its bands (none, or all of them in order)."""

    key: str
    ref: ObjectRef
    bands: tuple[StacBand, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StacItem:
    """What an item says of a scene."""

    id: str
    url: str
    """Of the item itself, or of the collection file that holds it."""
    assets: tuple[StacAsset, ...] = ()
    datetime: str | None = None
    """As written; the start of the interval where the item spans one."""
    sun_elevation_deg: float | None = None
    processing_baseline: str | None = None
    """Of Sentinel-2 products, `04.00`."""
    offset_applied: bool = False
    """True when the item says that the offset of baseline 04.00 was already taken out of the pixels."""
    problem: str = ""
    """Why it cannot be used, when it cannot; one bad item does not hide the others."""


def read_items(ref: ObjectRef) -> list[StacItem]:
    """All items that a STAC file holds or links to, in its order.

    Args:
        ref: an Item, an ItemCollection, or a Catalog or Collection whose links of kind `item` are followed, its own and
            those of its children, no deeper. For local files, its folder is what hrefs may not leave.

    Raises:
        ConfigError: if the file is not STAC, too large, or holds no item.
        StorageError: if it cannot be read.
    """
    root = ref.path.parent if ref.scheme == "file" else None
    document = _read_json(ref)
    kind = document.get("type")
    if kind == "Feature":
        return [_item(document, ref, root)]
    if kind == "FeatureCollection":
        features = document.get("features")
        items = [_item(_mapping(feature), ref, root) for feature in _sequence(features)]
    elif kind in ("Catalog", "Collection"):
        items = list(_linked_items(document, ref, root))
    else:
        raise ConfigError(
            f"{ref.url} is not STAC: its type is {str(kind)[:40]!r}, not Feature, FeatureCollection, Catalog or Collection"
        )
    if not items:
        raise ConfigError(
            f"{ref.url} is a STAC {kind} without items, its own or of its children; name a catalogue further down, "
            "an item, or an ItemCollection"
        )
    return items


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
    path = ObjectRef.parse(href).path if _SCHEME.match(href) else Path(normpath(base.path.parent / href))
    assert root is not None, "a local document has a root"
    if not path.resolve().is_relative_to(root.resolve()):
        raise SceneError(
            f"{base.url} names {href[:80]!r}, outside the folder {root}; "
            "give that file itself, or a catalogue above both"
        )
    return ObjectRef.parse(str(path))


def _below_host(href: str, base: ObjectRef) -> ObjectRef:
    """A relative href of a network document: same host or bucket, whatever `..` it holds."""
    if href.startswith("//") or "\\" in href:
        raise ConfigError(f"{base.url}: the href {href[:80]!r} is not a relative path or a full URL")
    if "?" in href or "#" in href:
        raise ConfigError(f"{base.url}: the href {href.partition('?')[0][:80]!r} carries a query or fragment")
    text = href if base.scheme == "s3" else unquote(href)
    folder = "/" + base.key.rpartition("/")[0]
    return replace(base, key="") / normpath(f"{folder}/{text}" if not text.startswith("/") else text).lstrip("/")


def _linked_items(document: Mapping[str, Any], ref: ObjectRef, root: Path | None) -> Iterator[StacItem]:
    item_refs = list(_links(document, ref, root, "item"))
    for child in _links(document, ref, root, "child"):
        try:
            item_refs += [child] if isinstance(child, StacItem) else _links(_read_json(child), child, root, "item")
        except EarthloomError as error:
            item_refs.append(StacItem(id=ref.stem, url=ref.url, problem=str(error)))
        if len(item_refs) > MAX_DOCUMENTS:
            break
    if len(item_refs) > MAX_DOCUMENTS:
        raise ConfigError(
            f"{ref.url} leads to more than {MAX_DOCUMENTS} items; name a collection further down, or an ItemCollection"
        )

    def read(found: ObjectRef | StacItem) -> StacItem:
        if isinstance(found, StacItem):
            return found
        try:
            return _item(_read_json(found), found, root)
        except EarthloomError as error:
            return StacItem(id=found.stem, url=found.url, problem=str(error))

    with ThreadPoolExecutor(8) as pool:
        yield from pool.map(read, item_refs)


def _links(
    document: Mapping[str, Any], ref: ObjectRef, root: Path | None, relation: str
) -> Iterator[ObjectRef | StacItem]:
    for link in map(_mapping, _sequence(document.get("links"))):
        if link.get("rel") == relation:
            href = str(link.get("href"))
            try:
                yield resolve_href(href, ref, root)
            except EarthloomError as error:
                yield StacItem(id=href.rpartition("/")[2].partition(".")[0], url=ref.url, problem=str(error))


def _item(document: Mapping[str, Any], ref: ObjectRef, root: Path | None) -> StacItem:
    """An item's facts; its `problem` is set instead of an error being raised."""
    properties = _mapping(document.get("properties"))
    scene_id = str(document.get("id", ""))
    item = StacItem(
        id=scene_id,
        url=ref.url,
        datetime=_text(properties.get("datetime")) or _text(properties.get("start_datetime")),
        sun_elevation_deg=_number(properties.get("view:sun_elevation")),
        processing_baseline=_text(properties.get("s2:processing_baseline") or properties.get("processing:version")),
        offset_applied=properties.get("earthsearch:boa_offset_applied") is True,
    )
    if document.get("type") != "Feature" or "assets" not in document:
        return replace(item, problem=f"{ref.url} holds something that is not a STAC item")
    try:
        assets = tuple(
            StacAsset(key=str(key), ref=resolve_href(str(asset.get("href")), ref, root), bands=_bands(asset))
            for key, asset in ((key, _mapping(value)) for key, value in _mapping(document["assets"]).items())
            if _is_data(asset)
        )
    except EarthloomError as error:
        return replace(item, problem=str(error))
    if not assets:
        kinds = sorted({str(_mapping(asset).get("type")) for asset in _mapping(document["assets"]).values()})
        return replace(
            item, problem=f"item {scene_id!r} has no TIFF with data; its assets are of type {', '.join(kinds)[:200]}"
        )
    return replace(item, assets=assets)


def _is_data(asset: Mapping[str, Any]) -> bool:
    roles = {str(role) for role in _sequence(asset.get("roles"))}
    media_type = _text(asset.get("type"))
    is_tiff = media_type.startswith("image/tiff") if media_type else _TIFF_NAME.search(str(asset.get("href")))
    return bool(is_tiff) and not roles & _NOT_DATA


def _bands(asset: Mapping[str, Any]) -> tuple[StacBand, ...]:
    """STAC 1.1 `bands`, or `eo:bands` with `raster:bands` of 1.0; fields of the asset itself hold for all its bands."""
    modern = [_mapping(band) for band in _sequence(asset.get("bands"))]
    optical = [_mapping(band) for band in _sequence(asset.get("eo:bands"))]
    raster = [_mapping(band) for band in _sequence(asset.get("raster:bands"))]
    count = max(len(modern), len(optical), len(raster))
    if not count and any(name in asset for name in ("eo:common_name", "raster:scale", "raster:offset", "nodata")):
        count = 1
    quality = bool({str(role) for role in _sequence(asset.get("roles"))} & _QUALITY)
    found = []
    for position in range(count):
        fields = {**asset, "name": None, "description": None}
        for bands in (optical, raster, modern):
            fields |= bands[position] if position < len(bands) else {}
        common = _text(fields.get("eo:common_name")) or _text(fields.get("common_name")) or ""
        found.append(
            StacBand(
                name=_text(fields.get("name")),
                common_name=common if _COMMON_NAME.match(common) else None,
                scale=_number(_first(fields, "raster:scale", "scale")),
                offset=_number(_first(fields, "raster:offset", "offset")),
                nodata=_number(fields.get("nodata"), finite=False),
                categorical=quality or "classification:classes" in fields or "classification:bitfields" in fields,
                reflectance=not _OTHER_UNITS.search(_text(fields.get("unit")) or ""),
            )
        )
    return tuple(found)


def _read_json(ref: ObjectRef) -> Mapping[str, Any]:
    store = open_store(ref)
    head = store.head()
    if head is None:
        raise ConfigError(f"{ref.url} does not exist; check the spelling")
    data = store.get() if head.size <= MAX_JSON_BYTES else b""
    if max(head.size, len(data)) > MAX_JSON_BYTES:
        raise ConfigError(f"{ref.url} has {head.size} bytes; a STAC file of at most {MAX_JSON_BYTES} bytes is read")
    try:
        return _mapping(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{ref.url} is not JSON: {str(error)[:120]}") from error


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _first(fields: Mapping[str, Any], *names: str) -> object:
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def _number(value: object, *, finite: bool = True) -> float | None:
    """A JSON number, or the words that STAC uses for what JSON cannot say."""
    words = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
    if isinstance(value, str) and not finite:
        return words.get(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) or not finite else None
