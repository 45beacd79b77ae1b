"""How the assets of an item are drawn, in the words of STAC's render extension, so that every viewer draws them alike.

Only what viewers can do without guessing is said: explicit colours by value, bands by name and by number, and ranges of
stored values; no names of colour ramps, formulas or expressions, which make readers pass a rendering over.
https://github.com/stac-extensions/render/tree/v2.0.0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from earthloom.jobs.products.quicklook import true_color
from earthloom.tiling.encoding import CONFIDENCE_SCALE, CONFIDENCE_STEPS

if TYPE_CHECKING:
    from earthloom.jobs.products.stac_item import AssetInfo

_SPREAD = 2.0  # standard deviations around the mean that the grey or colours of an image reach over


def renders(assets: Sequence[AssetInfo], classes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """A rendering for each asset of pixels, by the asset's name.

    Args:
        assets: assets of one item.
        classes: `stac_item.class_objects`, of bands that hold classes.
    """
    return {asset.name: _render(asset, classes) for asset in assets if asset.bands and asset.grid is not None}


def stretch(scale: float | None, data_type: str, statistics: Mapping[str, float] | None) -> list[float] | None:
    """Stored values of a band that are drawn darkest and brightest, on the page, in QGIS and by STAC; None where nothing is
    known of them. The arguments are those of `BandInfo`."""
    if scale == CONFIDENCE_SCALE and data_type == "uint8":
        return [0, CONFIDENCE_STEPS]  # from no confidence to all, so that maps can be compared
    said = statistics or {}
    if not {"minimum", "maximum"} <= set(said):
        return None
    low, high = float(said["minimum"]), float(said["maximum"])
    if {"mean", "stddev"} <= set(said):
        low = max(low, said["mean"] - _SPREAD * said["stddev"])
        high = min(high, said["mean"] + _SPREAD * said["stddev"])
    return [float(f"{low:.6g}"), float(f"{high:.6g}")] if low < high else [low, low + 1]


def _render(asset: AssetInfo, classes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = [band.name for band in asset.bands]
    main = next((band for band in asset.bands if band.classes), None)
    found: dict[str, Any] = {"assets": [asset.name], "title": asset.title or asset.name}
    if main is not None:
        return found | {
            "bands": [main.name], "bidx": [names.index(main.name) + 1], "nodata": main.nodata, "resampling": "nearest",
            "colormap": {
                str(one["value"]): [*bytes.fromhex(one["color_hint"]), 255] for one in classes if "color_hint" in one
            },
        }  # fmt: skip
    shown = list(dict.fromkeys(true_color(names)))
    bands = [asset.bands[names.index(name)] for name in shown]
    ranges = [stretch(band.scale, band.data_type, band.statistics) for band in bands]
    return (
        found
        | {"bands": shown, "bidx": [names.index(name) + 1 for name in shown], "resampling": "bilinear"}
        | ({"rescale": ranges} if all(ranges) else {})
    )
