"""What counts as nodata in a band: said by options, the file, the STAC item or the preset, in this order. Opens nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from earthloom.jobs.intake.bands import NamedBand
from earthloom.jobs.intake.masks import has_colors, nodata_in
from earthloom.jobs.intake.preset import Sensor
from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading.fill import HUGE
from earthloom.tiling.reading.preflight import representable
from earthloom.tiling.scene import Band

if TYPE_CHECKING:
    from earthloom.jobs.intake.options import SceneOptions


def with_nodata(band: Band, named: NamedBand, options: SceneOptions, sensor: Sensor | None) -> Band:
    """A band with its nodata. Colours beside alpha, and in 8 bits beside any mask, have none: the mask knows better."""
    header, rule = named.file.header, nodata_in(named, options.nodata_in, sensor)
    has_alpha = bool(band.alpha) or (header.mask == "alpha" and band.alpha is None)
    masked = (has_colors(header) and has_alpha) or (rule == "all" and header.mask == "internal")
    if masked and options.nodata_in is None and options.nodata is None and not named.categorical:
        return replace(band, nodata=None)
    nodata = _nodata(named, options, sensor)
    return replace(band, nodata=nodata, nodata_in=rule if nodata is not None else "any")


def nodata_doubts(band: NamedBand, options: SceneOptions) -> list[str]:
    """What the STAC item says of nodata and cannot be, or the file contradicts; what the option makes data again."""
    declared, in_item = band.file.header.nodata[band.index - 1], band.stac.nodata
    if options.nodata is not None and declared is not None:
        given = _rounded(options.nodata, band.dtype)
        if given == declared or not abs(declared) < HUGE:  # NaN and what no measurement is are never data
            return []
        return [
            f"nodata {given:g} by the option is taken, not {declared:g} by the file, whose pixels of that value are data then; "
            f"if both are fill, make them one: gdalwarp -srcnodata {declared:g} -dstnodata {given:g} in.tif out.tif"
        ]
    if in_item is None or options.nodata is not None:
        return []
    said = _rounded(in_item, band.dtype)
    if not representable(said, band.dtype):
        return [f"the STAC item's nodata {in_item:g} cannot occur in {band.dtype} values and is ignored"]
    if declared is not None and said != declared and not (math.isnan(said) and math.isnan(declared)):
        return [f"nodata {declared:g} by the file is taken, not {said:g} by the STAC item; `nodata` says otherwise"]
    return []


def _nodata(band: NamedBand, options: SceneOptions, sensor: Sensor | None) -> float | None:
    declared, in_item = band.file.header.nodata[band.index - 1], band.stac.nodata
    if options.nodata is not None and not band.categorical:
        chosen = _rounded(options.nodata, band.dtype)
        if not representable(chosen, band.dtype):
            raise SceneError(
                f"`nodata={options.nodata:g}` cannot occur in {band.name}, which holds {band.dtype} values"
            )
        return chosen
    fill = sensor.fill if sensor and band.preset and band.preset.image else None
    for value in (declared, in_item, fill):
        if value is not None and representable(rounded := _rounded(value, band.dtype), band.dtype):
            return rounded
    return None


def _rounded(value: float, dtype: str) -> float:
    """A number as a float type holds it: -3.4028235e+38 in a catalogue is the lowest float32, -3.4028234663852886e+38."""
    if np.dtype(dtype).kind != "f" or not math.isfinite(value):
        return value
    with np.errstate(over="ignore"):
        found = float(np.dtype(dtype).type(value))
    return found if math.isfinite(found) else value
