"""What the stored values of a scene mean: scale, offset, nodata and quantity of each band. Opens nothing.

Said by, strongest first: options, the STAC item, the sensor preset, the TIFF's own scale and offset tags. Where nobody
says, the values are raw numbers of unknown scale; that is never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from earthloom.jobs.intake.bands import NamedBand
from earthloom.jobs.intake.sensors import Sensor
from earthloom.jobs.intake.stac import StacItem
from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading.preflight import representable
from earthloom.tiling.scene import Band

if TYPE_CHECKING:
    from earthloom.jobs.intake.options import SceneOptions

_SENTINEL2_OFFSET = -0.1  # BOA_ADD_OFFSET and RADIO_ADD_OFFSET of baseline 04.00 and later, -1000 / 10000
_OFFSET_SINCE = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """Bands of a scene with what their values mean."""

    bands: tuple[Band, ...]
    quantity: str
    scale_known: bool
    """False when nothing says what the values are; `quantity` is then `dn`."""
    notes: tuple[str, ...]
    """Assumptions made, to be shown to the user."""


@dataclass(frozen=True, slots=True)
class _Scaling:
    scale: float = 1.0
    offset: float = 0.0
    categorical: bool = False
    known: bool = True
    """True when something says how the band is scaled."""
    reflectance: bool = False
    """True when a scale is declared, and no unit says that it leads to something else."""
    notes: tuple[str, ...] = ()


def give_meaning(
    named: Sequence[NamedBand],
    options: SceneOptions,
    *,
    sensor: Sensor | None,
    item: StacItem | None,
    acquired: date | None,
) -> Meaning:
    """Say what the values of all bands mean.

    Args:
        sensor: preset, when the user named one.
        item: STAC item that the scene comes from.
        acquired: day of the scene, where known: the distance to the sun depends on it.

    Raises:
        SceneError: if an option or the preset contradicts the files, or the preset needs something that is not known.
    """
    notes: list[str] = []
    if sensor:
        notes += _preset_notes(named, sensor)
    scalings = [_scaling(band, options, sensor, item, acquired) for band in named]
    notes += dict.fromkeys(note for scaling in scalings for note in scaling.notes)
    quantity = options.quantity or (sensor.quantity if sensor else None)
    if quantity is None and any(scaling.reflectance for scaling in scalings):
        quantity = "reflectance"
        notes.append("scaled values are taken as reflectance; `quantity` says otherwise")
    elif quantity is None:
        notes.append("unknown value scale: say what the numbers mean by `sensor=<preset>`, or `scale` with `quantity`")
    silent = [band.name for band, scaling in zip(named, scalings, strict=True) if not scaling.known]
    if quantity and silent:
        notes.append(f"nothing says how these bands are scaled, so they stay as stored: {', '.join(silent)}")
    bands = tuple(
        Band(
            name=band.name, asset=band.asset, index=band.index, dtype=band.dtype, scale=scaling.scale,
            offset=scaling.offset, categorical=scaling.categorical, nodata=_nodata(band, options, scaling.categorical),
        )
        for band, scaling in zip(named, scalings, strict=True)
    )  # fmt: skip
    notes += [
        f"{band.name} is marked as alpha in {band.file.stem}: pixels where it is 0 count as invalid"
        for band in named
        if band.name != band.own and band.file.header.colors[band.index - 1] == "alpha"
    ]
    return Meaning(bands=bands, quantity=quantity or "dn", scale_known=quantity is not None, notes=tuple(notes))


def _preset_notes(named: Sequence[NamedBand], sensor: Sensor) -> list[str]:
    if not any(band.preset for band in named):
        raise SceneError(
            f"`sensor={sensor.name}` knows {', '.join(band.source[0] for band in sensor.bands)}, but the scene has "
            f"{', '.join(band.name for band in named)}; take another preset, or name the bands: `bands=red=<number>,…`"
        )
    notes = [f"`sensor={sensor.name}`: {sentence}" for sentence in sensor.assumes]
    if any(band.by_place for band in named):
        order = ", ".join(band.name for band in named)
        notes.append(f"the file names no bands, so they are taken in the order of {sensor.name}: {order}")
    return notes


def _scaling(
    band: NamedBand, options: SceneOptions, sensor: Sensor | None, item: StacItem | None, acquired: date | None
) -> _Scaling:
    stac, preset = band.stac, band.preset
    if stac.categorical or (preset and preset.categorical):
        return _Scaling(categorical=True)
    if options.quantity == "dn" and options.scale is None and options.offset is None:
        return _Scaling()
    scale, offset, notes = stac.scale, stac.offset, []
    if item and item.offset_applied and offset:
        offset = 0.0
        notes.append("the STAC item says that its offset is already in the pixels, so it is not applied again")
    if sensor and preset:
        if scale is None and options.scale is None:
            if band.dtype not in sensor.dtypes:
                raise SceneError(
                    f"`sensor={sensor.name}` describes {' or '.join(sensor.dtypes)} values, but {band.name} holds "
                    f"{band.dtype}: they were changed since; say what they are by `scale`, `offset` and `quantity`"
                )
            sun = item.sun_elevation_deg if item and options.sun_elevation is None else options.sun_elevation
            scale, constant = sensor.scaling(preset, sun_elevation_deg=sun, acquired=acquired)
            if preset.radiance and acquired is None:
                notes.append("the Sun is taken to be 1 AU away, as the date is unknown: reflectance may be 3.4 % off")
        else:
            constant = preset.offset
        if offset is None:
            offset = constant
            if sensor.offset_baseline and item and options.offset is None and _stores_offset(item):
                offset = _SENTINEL2_OFFSET
                notes.append(f"offset -0.1, as the STAC item says processing baseline {item.processing_baseline}")
    elif scale is None and offset is None:
        tags = band.file.header.scales[band.index - 1], band.file.header.offsets[band.index - 1]
        scale, offset = tags if tags != (1.0, 0.0) else (None, None)
    scale = scale if options.scale is None else options.scale
    offset = offset if options.offset is None else options.offset
    declared = scale is not None or offset is not None
    if not declared and options.quantity == "unit":
        scale = 1.0 if np.dtype(band.dtype).kind == "f" else 1.0 / float(np.iinfo(band.dtype).max)
    elif not declared and options.quantity and np.dtype(band.dtype).kind != "f":
        raise SceneError(
            f"`quantity={options.quantity}` is said of {band.name}, but whole numbers ({band.dtype}) cannot be that as "
            "they are; say how they are scaled: `scale=0.0001`, or `sensor=<preset>`"
        )
    return _Scaling(
        1.0 if scale is None else scale, 0.0 if offset is None else offset,
        known=declared or options.quantity is not None, reflectance=declared and stac.reflectance, notes=tuple(notes),
    )  # fmt: skip


def _stores_offset(item: StacItem) -> bool:
    """Whether a Sentinel-2 item's pixels hold the offset of its processing baseline."""
    try:
        return not item.offset_applied and float((item.processing_baseline or "0").lstrip("Nn")) >= _OFFSET_SINCE
    except ValueError:
        return False


def _nodata(band: NamedBand, options: SceneOptions, categorical: bool) -> float | None:
    declared, in_item = band.file.header.nodata[band.index - 1], band.stac.nodata
    if options.nodata is not None and not categorical:
        if not representable(options.nodata, band.dtype):
            raise SceneError(
                f"`nodata={options.nodata:g}` cannot occur in {band.name}, which holds {band.dtype} values"
            )
        return options.nodata
    if declared is None and in_item is not None and representable(in_item, band.dtype):
        return in_item
    return declared
