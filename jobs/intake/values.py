"""What the stored values of a scene mean: scale, offset, nodata and quantity of each band. Opens nothing.

Said by, strongest first: options, the STAC item, the sensor preset, the TIFF's own scale and offset tags; nodata by
options, the file, the STAC item, the preset. Where nobody says, the values are raw numbers of unknown scale; that is never
guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from earthloom.jobs.intake.bands import NamedBand
from earthloom.jobs.intake.nodata import nodata_doubts, with_nodata
from earthloom.jobs.intake.offsets import missing_offset, offset_doubts
from earthloom.jobs.intake.plausible import must_be
from earthloom.jobs.intake.preset import Sensor
from earthloom.jobs.intake.recognise import Product
from earthloom.jobs.intake.scaling import Scaling, scaling_of, usual_scale
from earthloom.jobs.intake.sensors import SENSORS
from earthloom.jobs.intake.stac import StacItem
from earthloom.tiling.errors import SceneError
from earthloom.tiling.scene import Band

if TYPE_CHECKING:
    from earthloom.jobs.intake.options import SceneOptions

_MOST_OFFSET = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """Bands of a scene with what their values mean."""

    bands: tuple[Band, ...]
    quantity: str
    scale_known: bool
    """False when nothing says what the values are; `quantity` is then `dn`."""
    notes: tuple[str, ...]
    """Assumptions made, to be shown to the user."""


def give_meaning(
    named: Sequence[NamedBand],
    options: SceneOptions,
    *,
    sensor: Sensor | None,
    item: StacItem | None,
    acquired: date | None,
    products: Sequence[Product] = (),
    wanted: Collection[str] = (),
) -> Meaning:
    """Say what the values of all bands mean.

    Args:
        sensor: preset, when the user named one.
        item: STAC item that the scene comes from.
        acquired: day of the scene, where known: the distance to the sun depends on it.
        products: what the files and the item say that they are.
        wanted: names of the bands that models compute with.

    Raises:
        SceneError: if an option or the preset contradicts the files, the preset needs something that is not known, or nothing
            says how a wanted colour or polarisation of whole numbers is scaled while others are.
    """
    notes = _preset_notes(named, sensor, options) if sensor else []
    _refuse_stored_offset(options, sensor)
    scaled = [(band, scaling_of(band, options, sensor, item, acquired)) for band in named]
    quantity = options.quantity or (item.quantity if item else None) or (sensor.quantity if sensor else None)
    if quantity is None and any(scaling.reflectance for _, scaling in scaled):
        quantity = "reflectance"
        assumed = ["scaled values are taken as reflectance; `quantity` says otherwise"]
    elif quantity is None:
        assumed = ["unknown value scale: say what the numbers mean by `sensor=<preset>`, or `scale` with `quantity`"]
    else:
        assumed = []
    bands = tuple(with_nodata(_band(band, scaling), band, options, sensor) for band, scaling in scaled)
    if sensor and sensor.offset_baseline and options.offset is None:
        notes += offset_doubts(sensor, item, acquired, products)
    notes += dict.fromkeys(note for _, scaling in scaled for note in scaling.notes)
    notes += assumed
    if options.offset is None and not (sensor and sensor.offset_baseline):
        offsets = [scaling.offset for band, scaling in scaled if band.image and scaling.reflectance]
        notes += missing_offset(offsets, item, products)
    if quantity:
        notes += _unscaled_notes([band for band, scaling in scaled if not scaling.known], quantity, wanted)
    notes += dict.fromkeys(note for band in named if not band.categorical for note in nodata_doubts(band, options))
    if options.nodata_in is None and any(band.nodata_in == "all" for band in bands):
        notes.append(
            "nodata counts where all colours of a file hold it, as black is 0 in some; `nodata_in=any` counts each band"
        )
    return Meaning(bands=bands, quantity=quantity or "dn", scale_known=quantity is not None, notes=tuple(notes))


def _band(band: NamedBand, scaling: Scaling) -> Band:
    return Band(
        name=band.name, asset=band.asset, index=band.index, dtype=band.dtype, scale=scaling.scale, offset=scaling.offset,
        categorical=scaling.categorical, alpha=band.alpha,
    )  # fmt: skip


def _refuse_stored_offset(options: SceneOptions, sensor: Sensor | None) -> None:
    """Metadata give offsets in stored units, as -1000; added to reflectance, that would make every pixel the same."""
    quantity = options.quantity or (sensor.quantity if sensor else "reflectance" if options.scale is not None else "dn")
    if quantity == "dn" or options.offset is None or abs(options.offset) <= _MOST_OFFSET:
        return
    scale = options.scale or (max(band.scale for band in sensor.bands if band.reflects) if sensor else None)
    remedy = f": `offset={options.offset * scale:g}`" if scale and scale < 1 else ""
    raise SceneError(
        f"`offset={options.offset:g}` would be added to scaled values, and no {quantity} is that far from 0 to 1; an offset "
        f"in stored numbers is multiplied by the scale first{remedy}"
    )


def _unscaled_notes(silent: Sequence[NamedBand], quantity: str, wanted: Collection[str]) -> list[str]:
    """A note on bands of which nothing says how they are scaled.

    Raises:
        SceneError: if a model takes one that holds whole numbers and cannot be the quantity: an index of one band as
            reflectance and another one as stored, thousands of times as large, is the same everywhere.
    """
    whole = [band for band in silent if band.name in wanted and must_be(band.name, quantity)]
    whole = [band for band in whole if np.dtype(band.dtype).kind != "f"]
    if whole:
        raise SceneError(
            f"nothing says how {', '.join(band.name for band in whole)} is scaled, while other bands are {quantity}: whole "
            f"numbers ({whole[0].dtype}) cannot be that as they are; say how all bands are scaled: "
            f"`scale=<factor>`{usual_scale(quantity, whole[0].dtype)} and `offset`, or `sensor=<preset>`"
        )
    names = ", ".join(band.name for band in silent)
    return [f"nothing says how these bands are scaled, so they stay as stored: {names}"] if silent else []


def _preset_notes(named: Sequence[NamedBand], sensor: Sensor, options: SceneOptions) -> list[str]:
    if not any(band.preset for band in named):
        sun = " and `sun_elevation=<degrees>`" if sensor.wants_sun and options.sun_elevation is None else ""
        raise SceneError(
            f"`sensor={sensor.name}` knows {', '.join(band.source[0] for band in sensor.bands)}, but the scene has "
            f"{', '.join(band.name for band in named)}; take another preset, or name the bands: `bands=red=<number>,…`{sun}"
        )
    notes = [f"`sensor={sensor.name}`: {sentence}" for sentence in sensor.assumes]
    if others := _exactly_those_of(named, sensor):
        sources = ", ".join(band.preset.source[0] for band in named if band.preset and band.preset.reflects)
        notes.append(
            f"{sources} are exactly the bands of {' and '.join(others)}, where some of them are other colours, and a part of "
            f"those of {sensor.name}: is the scene of that sensor?"
        )
    if any(band.by_place for band in named):
        order = ", ".join(band.name for band in named)
        notes.append(f"the file names no bands, so they are taken in the order of {sensor.name}: {order}")
    return notes


def _exactly_those_of(named: Sequence[NamedBand], sensor: Sensor) -> list[str]:
    """Presets of which a scene has all bands and no other, if it has but a part of those of the one that the user named, and
    they are other colours there: B4 of Landsat 7 is near infrared, that of Landsat 8 red."""
    there = {band.preset.source[0]: band.preset.name for band in named if band.preset and band.preset.reflects}

    def has(one: Sensor) -> bool:
        return any(set(order) == there.keys() for order in one.orders)

    def differs(one: Sensor) -> bool:
        return any((band := one.find(source)) is not None and band.name != name for source, name in there.items())

    return [] if has(sensor) else [f"`sensor={one.name}`" for one in SENSORS.values() if has(one) and differs(one)]
