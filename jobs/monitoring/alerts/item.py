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
from earthloom.jobs.monitoring.cube.stac import collection_id
from earthloom.jobs.products.stac_item import EXTENSIONS, AssetInfo, feature, interval
from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.names import ITEM
from earthloom.tiling.software import VERSION

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
    steps, rule, aoi = of.cube.steps, of.rule, of.aoi
    expires = f"{steps[-1].date + datetime.timedelta(days=1 + rule.valid_days)}T00:00:00Z"
    up = "../" * (places.view.count("/") + 1)
    collection = f"{up}monitors/{aoi}/collection.json"
    assets = [
        AssetInfo(
            name=name, href=f"./{file}", media_type=media_type, roles=roles, title=title, size=files[file].size,
            sha256=files[file].sha256,
        )
        for file, (name, media_type, roles, title) in _ASSETS.items() if file in files
    ]  # fmt: skip
    links = [
        {"rel": "root", "href": f"{up}catalog.json", "type": "application/json"},
        {"rel": "parent", "href": collection, "type": "application/json"},
        {"rel": "collection", "href": collection, "type": "application/json"},
        {"rel": "derived_from", "href": f"{up}{of.prefix}/{ITEM}", "type": "application/geo+json",
         "title": f"Cube of {of.product} over {aoi}"},
        *({"rel": "pmtiles", "href": asset.href, "type": asset.media_type, "title": "Alerts as vector tiles"}
          for asset in assets if asset.href.endswith(".pmtiles")),
    ]  # fmt: skip
    document = feature(
        f"{aoi}-{of.product}-{rule.name}-{places.names[-1]}", of.cube.grid, [], assets, links,
        {
            "title": f"{rule.before} → {rule.after}: alerts of {of.product} over {aoi} until {steps[-1].date}",
            **interval(steps[0].date, steps[-1].date),
            "expires": expires,
            "processing:lineage": _lineage(of),
            "processing:software": dict(software()),
            "earthloom:aoi": aoi, "earthloom:product": of.product, "earthloom:key": of.key,
            "earthloom:rule": dict(rule.identity()), "earthloom:evidence": dict(of.evidence.identity()),
            "earthloom:dates": len(steps), "earthloom:alerts": _counts(alerts, area_unit_m2(of.cube.grid)),
        },
        collection=collection_id(aoi),
    )  # fmt: skip
    for asset in document["assets"].values():
        asset["expires"] = expires
    document["stac_extensions"] = sorted([*document["stac_extensions"], EXTENSIONS["timestamps"]])
    return document


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


@cache
def software() -> Mapping[str, str]:
    """Versions of all that alerts' bytes depend on."""
    return {"earthloom": VERSION} | {name: version(name) for name in ("pyarrow", "pyogrio", "rasterio", "shapely")}
