"""The STAC 1.1 item of a view of alerts. Knows nothing of storage: sizes and checksums come in as values."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from earthloom.jobs.monitoring.alerts.history import AlertSet, Places
from earthloom.jobs.monitoring.alerts.lives import Alert
from earthloom.jobs.monitoring.alerts.pieces import area_unit_m2
from earthloom.jobs.products.stac_item import EXTENSIONS, STAC_VERSION, projection
from earthloom.jobs.records.blocks import StoredObject
from earthloom.tiling.footprint import footprint

_ASSETS = {
    "alerts.parquet": ("alerts", "application/vnd.apache.parquet", ("data",), "Alerts, GeoParquet"),
    "alerts.fgb": ("flatgeobuf", "application/vnd.flatgeobuf", ("data",), "Alerts, FlatGeobuf"),
    "alerts.pmtiles": ("tiles", "application/vnd.pmtiles", ("visual",), "Alerts, vector tiles"),
}


def alerts_item(
    of: AlertSet, places: Places, alerts: Sequence[Alert], files: Mapping[str, StoredObject]
) -> dict[str, Any]:
    """The item of the alerts as they are after the last date; the same for the same steps and rule.

    Args:
        of: the alerts' rule and cube.
        places: where they lie.
        alerts: all that there have been.
        files: size and sha256 of the files beside the item, by name.
    """
    steps, rule = of.cube.steps, of.rule
    geometry, bbox = footprint(of.cube.grid)
    expires = _midnight(steps[-1].date + datetime.timedelta(days=1 + rule.valid_days))
    up = "../" * (places.view.count("/") + 1)
    assets = {}
    for file, (name, media_type, roles, title) in _ASSETS.items():
        if file in files:
            assets[name] = {
                "href": f"./{file}", "type": media_type, "roles": list(roles), "title": title, "expires": expires,
                "file:size": files[file].size, "file:checksum": f"1220{files[file].sha256}",
            }  # fmt: skip
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": sorted(EXTENSIONS[name] for name in ("file", "processing", "projection", "timestamps")),
        "id": f"{of.product}-{rule.name}-{places.names[-1]}",
        "geometry": geometry,
        "bbox": list(bbox),
        "properties": {
            "title": f"{rule.before} → {rule.after}: alerts of {of.product} until {steps[-1].date.isoformat()}",
            "datetime": None,
            "start_datetime": _midnight(steps[0].date),
            "end_datetime": f"{steps[-1].date.isoformat()}T23:59:59Z",
            "expires": expires,
            "processing:level": "L4",
            "processing:lineage": _lineage(of),
            "processing:software": dict(_software()),
            "earthloom:rule": dict(rule.identity()),
            "earthloom:evidence": dict(of.evidence.identity()),
            "earthloom:key": of.key,
            "earthloom:dates": len(steps),
            "earthloom:alerts": _counts(alerts, area_unit_m2(of.cube.grid)),
            **{name: value for name, value in projection(of.cube.grid).items() if name != "proj:bbox"},
        },
        "assets": assets,
        "links": [
            {"rel": "root", "href": f"{up}catalog.json", "type": "application/json"},
            {"rel": "derived_from", "href": f"{up}{of.cube.prefix}", "type": "application/vnd.zarr; version=3",
             "title": f"Cube of {of.product}"},
        ],
    }  # fmt: skip


def _lineage(of: AlertSet) -> str:
    rule = of.rule
    ends = f"over after {rule.closing} without it" if rule.closing else "never over"
    ends += f", settled after {rule.settling}" if rule.settling else ""
    return (
        f"Pixels of {of.product} last seen as {rule.before} and then as {rule.after}: provisional from the first observation, "
        f"confirmed by {rule.confirmations} in a row, {ends}; connected areas of at least {rule.min_area_m2:g} m2 on "
        f"{len(of.cube.steps)} dates."
    )


def _counts(alerts: Sequence[Alert], unit: float) -> dict[str, dict[str, float]]:
    """Number and area by state."""
    by_state: dict[str, list[int]] = defaultdict(list)
    for alert in alerts:
        by_state[alert.state].append(alert.now.area)
    return {
        state: {"count": len(areas), "area_m2": round(sum(areas) * unit, 3)}
        for state, areas in sorted(by_state.items())
    }


def _midnight(date: datetime.date) -> str:
    return f"{date.isoformat()}T00:00:00Z"


@cache
def _software() -> Mapping[str, str]:
    return {name: version(name) for name in ("earthloom", "pyarrow", "pyogrio", "rasterio", "shapely")}
