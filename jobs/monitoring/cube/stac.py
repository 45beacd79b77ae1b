"""A cube as a STAC item, by the datacube extension, and the collection of all that is derived for one area.

Pure: it makes documents. Nothing in them depends on who made the cube, or when.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pyproj import CRS

from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.products.renders import renders
from earthloom.jobs.products.stac_collection import extent_of, item_link, item_links, refuse_foreign
from earthloom.jobs.products.stac_item import (
    STAC_VERSION,
    ZARR,
    AssetInfo,
    BandInfo,
    asset_document,
    class_objects,
    extensions_of,
)
from earthloom.tiling.footprint import footprint
from earthloom.tiling.grid import Grid

_OWN_RELS = frozenset(("root", "parent", "item"))
_EPSG = re.compile(r"^EPSG:(\d+)$")
_CUBE_DEPTH = 3
"""Parts of a reference to a cube's folder, `./<product>/<key>`."""


def cube_item_id(aoi: str, product: str, until: str | None) -> str:
    """`pucallpa-landwater`, `pucallpa-landwater-until-2020-12-31`."""
    return f"{aoi}-{product}" + (f"-until-{until}" if until else "")


def collection_id(aoi: str) -> str:
    """Id of the collection of everything that is derived for an area."""
    return f"monitor-{aoi}"


def cube_item(
    cube: Cube, *, aoi: str, product: str, key: str, rules: Mapping[str, Any], generation: int
) -> dict[str, Any]:
    """The item of a cube, which lies at `monitors/<aoi>/<product>/<key>/item.json`.

    Args:
        cube: with at least one step.
        key: key of the cube, 64 hex digits.
        rules: what the key is made of (`CubeRules.to_json`).
        generation: the current one.

    Raises:
        SceneError: if the grid has no footprint.
    """
    geometry, bbox = footprint(cube.grid)
    classes = class_objects(cube.legend.classes)
    dates = [step.date.isoformat() for step in cube.steps]
    start, end = f"{dates[0]}T00:00:00Z", f"{dates[-1]}T23:59:59Z"
    data = AssetInfo(
        name="data", href=f"./generations/{generation}/cube.zarr", media_type=ZARR, roles=("data",),
        title="All dates as one Zarr", grid=cube.grid, bands=tuple(_band(layer) for layer in cube.layers),
    )  # fmt: skip
    document: dict[str, Any] = {
        "type": "Feature", "stac_version": STAC_VERSION, "stac_extensions": [],
        "id": cube_item_id(aoi, product, rules["until"]), "collection": collection_id(aoi), "geometry": geometry,
        "bbox": list(bbox),
        "properties": {
            "title": cube.title, "datetime": None, "start_datetime": start, "end_datetime": end,
            "gsd": float(f"{cube.grid.gsd_m():.6g}"),
            "cube:dimensions": {
                "time": {"type": "temporal", "extent": [start, end], "values": [f"{date}T00:00:00Z" for date in dates]},
                "y": _axis(cube.grid, "y"), "x": _axis(cube.grid, "x"),
            },
            "cube:variables": {layer.name: _variable(layer.name, layer.attributes) for layer in cube.layers},
            "renders": renders([data], classes),
            "earthloom:aoi": aoi, "earthloom:product": product, "earthloom:key": key, "earthloom:rules": dict(rules),
            "earthloom:generation": generation,
        },
        "assets": {data.name: asset_document(data, classes)},
        "links": [
            {"rel": "root", "href": "../../../../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../../collection.json", "type": "application/json"},
            {"rel": "collection", "href": "../../collection.json", "type": "application/json"},
        ],
    }  # fmt: skip
    document["stac_extensions"] = extensions_of(document)
    return document


def add_to_area(existing: dict[str, Any] | None, aoi: str, href: str, item: dict[str, Any]) -> dict[str, Any]:
    """An area's collection with this item in it: one of the same id is replaced, others and foreign fields are kept.

    Adding twice equals adding once, and the order of adding does not matter. When the grid, rules or masks of an area change,
    its product has another cube; what was derived from the old one is not linked any more.

    Args:
        existing: the collection that is there.
        href: reference to the item, relative to the collection.

    Raises:
        PublishError: if `existing` is another collection.
    """
    refuse_foreign(existing, "Collection", collection_id(aoi))
    return _area(existing, aoi, [*item_links(existing), item_link(href, item)])


def replace_in_area(
    existing: dict[str, Any] | None, aoi: str, folder: str, items: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """An area's collection whose links to items below a folder are exactly these; others and foreign fields are kept.

    Args:
        existing: the collection that is there.
        folder: relative to the collection, `./landwater/…/composites/mode-year/`.
        items: by href relative to the collection, all below the folder; what is linked already need not say more than {}.

    Raises:
        PublishError: if `existing` is another collection.
    """
    refuse_foreign(existing, "Collection", collection_id(aoi))
    there = {str(link.get("href")): link for link in item_links(existing)}
    others = [link for href, link in there.items() if not href.startswith(folder)]
    return _area(existing, aoi, [*others, *(there.get(href) or item_link(href, item) for href, item in items.items())])


def _area(existing: dict[str, Any] | None, aoi: str, links: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The collection with these links to items; of one id the last, and none to what is derived from a replaced cube."""
    kept = existing or {}
    by_id = {str(link.get("title")): link for link in links}
    folders = {name: str(link.get("href")).split("/")[:-1] for name, link in by_id.items()}  # ./<product>/<key>/…
    cubes = [folder for folder in folders.values() if len(folder) == _CUBE_DEPTH]
    products = {folder[1] for folder in cubes}
    ordered = [
        by_id[name]
        for name, folder in sorted(folders.items())
        if folder[:_CUBE_DEPTH] in cubes or folder[1] not in products
    ]
    return kept | {
        "type": "Collection", "stac_version": STAC_VERSION, "id": collection_id(aoi), "title": f"Monitoring of {aoi}",
        "description": f"Cubes of the area {aoi}, and what is derived from them.",
        "license": kept.get("license", "other"), "extent": extent_of(ordered),
        "links": [
            {"rel": "root", "href": "../../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../../catalog.json", "type": "application/json"},
            *(link for link in kept.get("links", []) if link.get("rel") not in _OWN_RELS),
            *ordered,
        ],
    }  # fmt: skip


def _axis(grid: Grid, axis: str) -> dict[str, Any]:
    centres = (grid.xs() if axis == "x" else grid.ys())[[0, -1]].tolist()
    code = _EPSG.match(grid.crs)
    return {
        "type": "spatial", "axis": axis, "extent": sorted(centres),
        "step": abs(float(grid.transform[0] if axis == "x" else grid.transform[4])),
        "reference_system": int(code[1]) if code else CRS.from_user_input(grid.crs).to_wkt("WKT2_2019"),
    }  # fmt: skip


def _variable(name: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    document = {"type": "data", "dimensions": ["time", "y", "x"], "description": str(attributes.get("long_name", name))}
    return document | ({"unit": str(attributes["units"])} if "units" in attributes else {})


def _band(layer: Any) -> BandInfo:
    """Called as its array is, by which viewers find it."""
    scale = layer.attributes.get("scale_factor")
    return BandInfo(
        name=layer.name, data_type=layer.dtype, description=str(layer.attributes.get("long_name", "")),
        nodata=layer.nodata if not np.isnan(layer.nodata) else float("nan"), scale=scale,
        offset=float(layer.attributes.get("add_offset", 0.0)), unit=str(layer.attributes.get("units", "")),
        classes="flag_values" in layer.attributes,
    )  # fmt: skip
