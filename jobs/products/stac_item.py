"""The STAC 1.1 item of one scene's result. Knows nothing of storage: sizes, checksums and hrefs come in as values.

Items hold no creation date, run id or absolute path of an output, so that the same inputs give the same bytes. Their
links are relative to OUT/scenes/<scene_id>/<key>/item.json.
"""

from __future__ import annotations

import math
import re
from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import quote

from earthloom.jobs.products.legend import words
from earthloom.jobs.products.renders import renders
from earthloom.jobs.records.names import ITEM
from earthloom.models.cards.card import BEFORE, PERMANENT_WATER, ModelCard, ModelClass
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import PublishError, SceneError
from earthloom.tiling.footprint import footprint
from earthloom.tiling.grid import Grid
from earthloom.tiling.scene import DatedBy, Scene
from earthloom.tiling.storage.objects import ObjectRef

STAC_VERSION = "1.1.0"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
ZARR = "application/vnd.zarr; version=3"
ZARR_LEVELS = f"{ZARR}; profile=multiscales"
"""Media type of a Zarr with overview levels, by which viewers know that they may draw it."""
SOURCE = "Source "
"""Begins the title of a link to what a scene itself is made of, as opposed to an earlier date or permanent water."""
OPEN_INTERVAL = ("1957-10-04T00:00:00Z", "9999-12-31T23:59:59Z")
"""Stands for a date that nobody knows: from the first satellite on, without end."""

EXTENSION_VERSIONS = {
    "projection": "2.0.0",
    "classification": "2.0.0",
    "raster": "2.0.0",
    "processing": "1.2.0",
    "file": "2.1.0",
    "mlm": "1.5.2",
    "render": "2.0.0",
    "web-map-links": "1.2.0",
    "datacube": "2.2.0",
    "timestamps": "1.1.0",
    "alternate-assets": "1.2.0",
}
EXTENSIONS = {
    name: f"https://stac-extensions.github.io/{name}/v{version}/schema.json"
    for name, version in EXTENSION_VERSIONS.items()
}

_BY_PREFIX = {"proj": "projection", "cube": "datacube", "renders": "render", "alternate": "alternate-assets"}
_DATES = frozenset(("datetime", "start_datetime", "end_datetime"))
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class BandInfo:
    """One band of an output file."""

    name: str
    data_type: str
    """STAC's names: `uint8`, `float32`."""
    description: str = ""
    nodata: float | None = None
    unit: str = ""
    scale: float | None = None
    """Meaning = stored value * scale + offset; None when stored values are the meaning."""
    offset: float = 0.0
    statistics: Mapping[str, float] | None = None
    """Statistics of stored values: any of minimum, maximum, mean, stddev, count, valid_percent."""
    classes: bool = False
    """Its values are the model's classes."""
    quantity: str = ""
    """What its meaning is, where that is known: `toa_reflectance` (`tiling.quantity`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetInfo:
    """One output file or store of a scene.

    Raises:
        PublishError: if the checksum is not a sha256, or the href is absolute or leaves the scene's folder.
    """

    name: str
    """Key in the item's `assets`: `classes`, `confidence`, `data`, `quicklook`."""
    href: str
    """Relative to the item: `./classes.tif`."""
    media_type: str
    roles: tuple[str, ...]
    title: str = ""
    size: int | None = None
    """Bytes; None for a store of many objects."""
    sha256: str | None = None
    bands: tuple[BandInfo, ...] = ()
    grid: Grid | None = None
    """Grid of its pixels; None for a picture or a sidecar."""

    def __post_init__(self) -> None:
        if self.sha256 is not None and not _SHA256.match(self.sha256):
            raise PublishError(f"asset {self.name}: {self.sha256!r} is not a sha256 in lower-case hex")
        if re.match(r"^([A-Za-z][A-Za-z0-9+.-]*:|/)", self.href) or ".." in self.href.split("/"):
            raise PublishError(f"asset {self.name}: href {self.href!r} must lie beside its item, like ./classes.tif")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What made the result, beside the scene and the card."""

    software: Mapping[str, str]
    """Version by name: earthloom, torch, …"""
    cards: tuple[tuple[ModelCard, str], ...]
    """Every card, in the order of the stages, and where it lies: a URL, or relative to the item."""
    settings: Mapping[str, Any]
    """What was resolved for this scene: device, shard_px and the stages with their tiling and precision."""
    source_item: str | None = None
    """URL of the STAC item that the scene came from, if it came from one."""


def item_id(scene_id: str, model: str, key: str) -> str:
    """`<scene_id>-<model>-<first 8 of key>`."""
    return f"{scene_id}-{model}-{key[:8]}"


def item_href(scene_id: str, key: str) -> str:
    """Reference to an item, relative to its collection."""
    return f"../../scenes/{quote(scene_id)}/{key}/item.json"


def item(
    *,
    scene: Scene,
    product: str,
    card: ModelCard,
    key: str,
    grid: Grid,
    rows: Sequence[ClassArea],
    assets: Sequence[AssetInfo],
    provenance: Provenance,
) -> dict[str, Any]:
    """Build the item. Tests hold it against the schemas of STAC and of every extension that it uses.

    Args:
        scene: where it came from and when.
        product: name of the collection.
        card: card of the model that gave the result its classes or bands.
        key: the scene key, 64 hex digits.
        grid: what the footprint is taken from.
        rows: `jobs.products.statistics.class_areas`; empty for a product without classes.
        assets: the files, in any order.
        provenance: software, settings and the source's own item.

    Raises:
        PublishError: if two assets share a name, or a number is not finite.
        SceneError: if the grid has no footprint, or the scene's date cannot be read.
    """
    return feature(
        item_id(scene.id, product, key), grid, class_objects(card.classes, rows), assets, links(scene, product, provenance),
        {
            "title": f"{card.title or card.label}: {scene.id}",
            **_when(scene.id, scene.datetime, scene.dated_by),
            "processing:lineage": _lineage(scene, [one for one, _ in provenance.cards]),
            "processing:software": dict(sorted(provenance.software.items())),
            "earthloom:scene": scene.id,
            **({"earthloom:source_id": scene.source_id} if scene.source_id else {}),
            **({"earthloom:before_shift_px": list(scene.before_shift_px)} if scene.before_shift_px else {}),
            "earthloom:key": key,
            "earthloom:model": card.label,
            "earthloom:model_version": card.version,
            "earthloom:card_sha256": card.digest(),
            **({"earthloom:weights_sha256": card.weights} if card.weights else {}),
            "earthloom:settings": dict(sorted(provenance.settings.items())),
            **({"earthloom:class_areas": [dict(row) for row in rows]} if rows else {}),
        },
        collection=product,
    )  # fmt: skip


def feature(
    name: str, grid: Grid, classes: list[dict[str, Any]], assets: Sequence[AssetInfo], links: Sequence[Mapping[str, Any]],
    properties: Mapping[str, Any], *, collection: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """An item of anything that lies on a grid.

    Args:
        name: its id, which also stands in messages.
        grid: what the footprint and `gsd` are taken from.
        classes: `class_objects`, for assets whose bands are classes.
        assets: the files, in any order.
        properties: everything but `gsd` and `processing:level`; with the dates.
        collection: id of the collection that links to it.

    Raises:
        PublishError: if two assets share a name, or a number is not finite.
        SceneError: if the grid has no footprint.
    """
    names = [asset.name for asset in assets]
    if len(set(names)) != len(names):
        raise PublishError(f"{name}: two assets share a name: {', '.join(names)}")
    geometry, bbox = footprint(grid)
    document: dict[str, Any] = {
        "type": "Feature", "stac_version": STAC_VERSION, "stac_extensions": [], "id": name,
        **({"collection": collection} if collection else {}),
        "geometry": geometry,
        "bbox": list(bbox),
        "properties": {
            "gsd": float(f"{grid.gsd_m():.6g}"), "processing:level": "L4", **properties,
            **({"renders": drawn} if (drawn := renders(assets, classes)) else {}),
        },
        "assets": {asset.name: asset_document(asset, classes) for asset in sorted(assets, key=lambda one: one.name)},
        "links": [dict(link) for link in links],
    }  # fmt: skip
    document["stac_extensions"] = extensions_of(document)
    return document


def interval(start: date, end: date) -> dict[str, str | None]:
    """The dates of an item that covers whole days, from the first to the last, both included."""
    return {"datetime": None, "start_datetime": f"{start}T00:00:00Z", "end_datetime": f"{end}T23:59:59Z"}


def interval_of(item: Mapping[str, Any]) -> tuple[str, str]:
    """First and last moment of an item, RFC 3339: of one moment twice the same; `OPEN_INTERVAL` where nobody knows."""
    said = item["properties"]
    return said.get("start_datetime") or said["datetime"], said.get("end_datetime") or said["datetime"]


def class_objects(classes: Sequence[ModelClass], rows: Sequence[ClassArea] = ()) -> list[dict[str, Any]]:
    """`classification:classes`, nodata last; with pixel counts where rows are given.

    The extension allows letters, digits, `-` and `_` in names: others are replaced and the true name is the title.
    """
    counts = {row["value"]: row["pixels"] for row in rows}
    names = words({one.value: one.name for one in classes})
    described = [
        {"value": one.value, "name": names[one.value], "title": one.name, "color_hint": one.color.lstrip("#").upper()}
        | ({"description": one.description} if one.description else {})
        | ({"count": counts[one.value]} if one.value in counts else {})
        for one in classes
    ]
    return [*described, {"value": NODATA, "name": "nodata", "title": "No data", "nodata": True}]


def utc(text: str) -> str:
    """A date and time in the one spelling that items use: UTC, `Z`, no trailing zeros of seconds.

    Raises:
        ValueError: if it is not ISO 8601, or has no offset from UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no offset from UTC; append Z")
    whole, _, fraction = moment.astimezone(UTC).replace(tzinfo=None).isoformat().partition(".")
    return f"{whole}.{fraction.rstrip('0')}Z" if fraction else f"{whole}Z"


def dated(item: Mapping[str, Any], scene_id: str, moment: str | None, by: DatedBy) -> dict[str, Any]:
    """An item with another date, as it would have been made with that date, known in this way.

    Raises:
        SceneError: if the date cannot be read.
    """
    others = {name: value for name, value in item["properties"].items() if name not in _DATES}
    return {**item, "properties": others | _when(scene_id, moment, by)}


def _when(scene_id: str, moment: str | None, by: DatedBy) -> dict[str, str | None]:
    """An item's times; a moment that stands for a year or a month gives that span too, and `datetime` is then nominal."""
    if moment is not None:
        try:
            said: dict[str, str | None] = {"datetime": utc(moment)}
        except ValueError as error:
            raise SceneError(f"{scene_id}: bad date {moment!r} ({error}); give `datetime`") from error
        day = date.fromisoformat(moment[:10])
        if by == "year":
            return interval(day.replace(month=1, day=1), day.replace(month=12, day=31)) | said
        if by == "month":
            return interval(day.replace(day=1), day.replace(day=monthrange(day.year, day.month)[1])) | said
        return said
    return {"datetime": None, "start_datetime": OPEN_INTERVAL[0], "end_datetime": OPEN_INTERVAL[1]}


def _lineage(scene: Scene, cards: Sequence[ModelCard]) -> str:
    steps = [
        f"{card.task.replace('-', ' ')} by {card.label} {card.version} from {', '.join(card.bands)}" for card in cards
    ]
    return f"{scene.id}: {'; '.join(steps)}."


def links(scene: Scene, product: str, provenance: Provenance) -> list[dict[str, Any]]:
    """Links of an item: up to the catalogue, and back to what it was made of."""
    collection = {"href": f"../../../collections/{product}/collection.json", "type": "application/json"}
    made: list[dict[str, Any]] = [
        {"rel": "root", "href": "../../../catalog.json", "type": "application/json"},
        *({"rel": rel, **collection} for rel in ("parent", "collection")),
    ]
    roles: dict[ObjectRef, str] = {}
    for band in scene.bands:
        beside = "Permanent water" if band.name == PERMANENT_WATER else f"{SOURCE}file"
        role = "Earlier file" if band.name.startswith(BEFORE) else beside
        roles.setdefault(scene.assets[band.asset].ref, role)
    if provenance.source_item:
        made.append({"rel": "derived_from", "href": provenance.source_item, "type": "application/geo+json",
                      "title": f"{SOURCE}scene {scene.source_id or scene.id}"})  # fmt: skip
    for ref in dict.fromkeys(asset.ref for asset in scene.assets):
        role = roles.get(ref, f"{SOURCE}file")
        if not (provenance.source_item and role.startswith(SOURCE)):
            made.append({"rel": "derived_from", "href": _url(ref), "title": f"{role} {ref.name}"})
    for card, href in provenance.cards:
        title = f"Model card {card.label} {card.version}"
        made.append({"rel": "derived_from", "href": href, "type": "application/geo+json", "title": title,
                      "mlm:name": card.label})  # fmt: skip
    return made


def made_of(root: str, prefix: str, title: str) -> dict[str, Any]:
    """A link to the item of a result that another one was made of; `root` leads from its folder to OUT."""
    href = f"{root}{quote(prefix)}/{ITEM}"
    return {"rel": "derived_from", "href": href, "type": "application/geo+json", "title": title}


def _url(ref: ObjectRef) -> str:
    """A link's href is a URL: a local path becomes one, and keys are percent-encoded."""
    return f"file:///{quote(ref.key)}" if ref.scheme == "file" else f"{ref.scheme}://{ref.bucket}/{quote(ref.key)}"


def projection(grid: Grid) -> dict[str, Any]:
    """The `proj:` fields of a file on this grid; a CRS without an EPSG code is spelled out as WKT2."""
    crs: dict[str, Any] = {"proj:code": grid.crs}
    if not grid.crs.startswith("EPSG:"):
        from pyproj import CRS

        crs = {"proj:code": None, "proj:wkt2": CRS.from_user_input(grid.crs).to_wkt("WKT2_2019")}
    return crs | {
        "proj:shape": list(grid.shape),
        "proj:transform": [float(value) for value in grid.transform],
        "proj:bbox": [float(value) for value in grid.bounds],
    }


def asset_document(asset: AssetInfo, classes: list[dict[str, Any]]) -> dict[str, Any]:
    """An asset as the item holds it; `classes` are those of its bands that have any."""
    document: dict[str, Any] = {"href": asset.href, "type": asset.media_type, "roles": list(asset.roles)}
    if asset.title:
        document["title"] = asset.title
    if asset.grid is not None:
        document |= projection(asset.grid)
    if asset.size is not None:
        document["file:size"] = asset.size
    if asset.sha256 is not None:
        document["file:checksum"] = f"1220{asset.sha256}"  # multihash: sha2-256, 32 bytes
    if asset.bands:
        document["bands"] = [_band(asset.name, band) for band in asset.bands]
        if any(band.classes for band in asset.bands):
            # Beside `bands` when it is the only one, where every reader of the extension looks.
            if len(asset.bands) == 1:
                document["classification:classes"] = classes
            else:
                for band, of in zip(document["bands"], asset.bands, strict=True):
                    if of.classes:
                        band["classification:classes"] = classes
    return document


def _band(asset: str, band: BandInfo) -> dict[str, Any]:
    document: dict[str, Any] = {"name": band.name, "data_type": band.data_type, "raster:sampling": "area"}
    if band.description:
        document["description"] = band.description
    if band.nodata is not None:
        document["nodata"] = band.nodata if math.isfinite(band.nodata) else f"{band.nodata:g}"
    if band.unit:
        document["unit"] = band.unit
    if band.scale is not None:
        document |= {"raster:scale": band.scale, "raster:offset": band.offset}
    if band.quantity:
        document["earthloom:quantity"] = band.quantity
    if band.statistics:
        if bad := [name for name, value in band.statistics.items() if not math.isfinite(value)]:
            raise PublishError(f"asset {asset}, band {band.name}: statistics {', '.join(bad)} are not finite")
        document["statistics"] = dict(sorted(band.statistics.items()))
    return document


def extensions_of(document: dict[str, Any]) -> list[str]:
    """Extensions whose fields are used; `mlm` only lends its name to a link."""
    fields = set(document["properties"])
    for asset in document["assets"].values():
        fields |= set(asset).union(*(set(band) for band in asset.get("bands", [])))
    prefixes = {field.partition(":")[0] for field in fields if ":" in field or field in _BY_PREFIX}
    prefixes |= {"web-map-links" for link in document["links"] if link["rel"] == "pmtiles"}
    used = {_BY_PREFIX.get(prefix, prefix) for prefix in prefixes}
    return sorted(uri for name, uri in EXTENSIONS.items() if name in used)
