"""How the stored values of a band become physical ones: by whose scale and offset.

Said by, strongest first: options, the STAC item, the sensor preset, the TIFF's own scale and offset tags. Opens nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from earthloom.jobs.intake.bands import NamedBand
from earthloom.jobs.intake.offsets import SENTINEL2_OFFSET, stores_offset
from earthloom.jobs.intake.preset import Sensor
from earthloom.jobs.intake.sensors import SENSORS
from earthloom.jobs.intake.stac import StacItem
from earthloom.tiling.errors import SceneError

if TYPE_CHECKING:
    from earthloom.jobs.intake.options import SceneOptions


@dataclass(frozen=True, slots=True)
class Scaling:
    """Physical value = stored value * scale + offset."""

    scale: float = 1.0
    offset: float = 0.0
    categorical: bool = False
    known: bool = True
    """True when something says how the band is scaled."""
    reflectance: bool = False
    """True when a scale is declared, and no unit says that it leads to something else."""
    notes: tuple[str, ...] = ()


def scaling_of(
    band: NamedBand, options: SceneOptions, sensor: Sensor | None, item: StacItem | None, acquired: date | None
) -> Scaling:
    """The scaling of a band by the strongest who speaks of it, with a note wherever two contradict each other.

    Raises:
        SceneError: if the option or the preset cannot be true of such values, or the sun's elevation is needed and unknown.
    """
    if band.categorical:
        return Scaling(categorical=True)
    if options.quantity == "dn" and options.scale is None and options.offset is None:
        return Scaling()
    notes: list[str] = []
    by_option = _Claim("the option", options.scale, options.offset)
    by_item, by_tags = _of_item(band, item, options, notes), _of_tags(band, sensor)
    claims = [by_option, by_item, by_tags]
    if sensor and band.preset:
        said = any(claim.scale is not None for claim in claims)
        claims.append(_of_preset(band, options, sensor, item, acquired, notes, said=said))
    scale = next(((claim.scale, claim) for claim in claims if claim.scale is not None), None)
    with_offset = [claim for claim in claims if claim is not by_tags] if by_item.scale is not None else claims
    offset = next(((claim.offset, claim) for claim in with_offset if claim.offset is not None), None)
    if offset is None and by_item.scale is not None:
        offset = (0.0, by_item)  # an item that gives a scale and no offset means none, whatever the file's tags say
    if scale and offset:
        notes += _disagreements(claims, scale, offset)
    factor = scale[0] if scale else 1.0 if offset else _unscaled_factor(band, options.quantity)
    declared = any(claim.scale is not None or claim.offset is not None for claim in claims)
    return Scaling(
        factor, offset[0] if offset else 0.0, known=declared or options.quantity is not None,
        reflectance=declared and band.stac.reflectance, notes=tuple(notes),
    )  # fmt: skip


def _unscaled_factor(band: NamedBand, quantity: str | None) -> float:
    """What values are multiplied by where the user names their quantity and nobody says how they are scaled.

    Raises:
        SceneError: if whole numbers cannot be that quantity as they are.
    """
    if quantity is None or np.dtype(band.dtype).kind == "f":
        return 1.0
    if quantity == "unit":
        return 1.0 / float(np.iinfo(band.dtype).max)
    raise SceneError(
        f"`quantity={quantity}` is said of {band.name}, but whole numbers ({band.dtype}) cannot be that as "
        f"they are; say how they are scaled: `scale=<factor>`{usual_scale(quantity, band.dtype)}, or "
        "`sensor=<preset>`"
    )


def usual_scale(quantity: str, dtype: str) -> str:
    """The factor that is usual for reflectance in values of a type; nothing for backscatter, which has no usual one."""
    if "reflectance" not in quantity:
        return ""
    one = 255 if dtype == "uint8" else 10000
    return f" ({1 / one:.6g} if {one} stands for 1)"


@dataclass(frozen=True, slots=True)
class _Claim:
    """What one source says of a band's scaling."""

    source: str
    scale: float | None
    offset: float | None


def _of_item(band: NamedBand, item: StacItem | None, options: SceneOptions, notes: list[str]) -> _Claim:
    source = item.source if item else "the STAC item"
    scale, offset = band.stac.scale, band.stac.offset
    if item and item.offset_applied and offset:
        offset = 0.0
        notes.append("the STAC item says that its offset is already in the pixels, so it is not applied again")
    if band.stac.per_sine and scale is not None and options.scale is None:
        sine = math.sin(math.radians(_sun_elevation_deg(source, item, options, notes)))
        scale, offset = scale / sine, None if offset is None else offset / sine
    return _Claim(source, scale, offset)


def _sun_elevation_deg(source: str, item: StacItem | None, options: SceneOptions, notes: list[str]) -> float:
    given, stated = options.sun_elevation, item.sun_elevation_deg if item else None
    if given is not None and stated is not None and not math.isclose(given, stated, abs_tol=0.05):
        notes.append(f"sun elevation {given:g} by the option is taken, not {stated:g} by {source}")
    sun = stated if given is None else given
    if sun is None or not 0 < sun <= 90:
        said = "nothing of" if sun is None else f"{sun:g} as"
        raise SceneError(
            f"{source} says {said} the sun's elevation, without which its digital numbers cannot become reflectance; give "
            "`sun_elevation=<degrees>`"
        )
    return sun


def _of_tags(band: NamedBand, sensor: Sensor | None) -> _Claim:
    """The file's own scale and offset; of a product whose reflectance needs the sun, they lead to something else."""
    tags = band.file.header.scales[band.index - 1], band.file.header.offsets[band.index - 1]
    silent = tags == (1.0, 0.0) or (sensor is not None and sensor.wants_sun)
    return _Claim("the file's tags", *((None, None) if silent else tags))


def _of_preset(
    band: NamedBand, options: SceneOptions, sensor: Sensor, item: StacItem | None, acquired: date | None,
    notes: list[str], *, said: bool,
) -> _Claim:  # fmt: skip
    """What the preset says; where another source gives the scale (`said`), it need not fit the type of values."""
    preset = band.preset
    assert preset, "only called for bands that the preset knows"
    if said and sensor.wants_sun:
        if sensor.needs_sun and preset.reflects and options.scale and math.isclose(options.scale, preset.scale):
            raise SceneError(
                f"`scale={options.scale:g}` is the factor of {sensor.name} before it is divided by the sine of the sun's "
                "elevation, without which a low sun makes dark ground look like water; leave it out and give "
                "`sun_elevation=<degrees>`"
            )
        return _Claim(f"`sensor={sensor.name}`", None, None)
    scale, offset = preset.scale, preset.offset
    if not said:
        if band.dtype not in sensor.dtypes:
            raise SceneError(
                f"`sensor={sensor.name}` describes {' or '.join(sensor.dtypes)} values, but {band.name} holds "
                f"{band.dtype}: {_others(preset.name, band.dtype)}if they were changed since, say what they are by `scale`, "
                "`offset` and `quantity`"
            )
        sun = item.sun_elevation_deg if item and options.sun_elevation is None else options.sun_elevation
        scale, offset = sensor.scaling(preset, sun_elevation_deg=sun, acquired=acquired)
        if preset.radiance and acquired is None:
            notes.append("the Sun is taken to be 1 AU away, as the date is unknown: reflectance may be 3.4 % off")
    stored = stores_offset(item) if sensor.offset_baseline and preset.image else None
    if item and stored is not None and band.stac.offset is None:
        constant, offset = offset, SENTINEL2_OFFSET if stored else 0.0
        if offset != constant:
            says = (
                "the offset is taken out" if item.offset_applied else f"processing baseline {item.processing_baseline}"
            )
            notes.append(f"offset {offset:g} and not the preset's {constant:g}, as {item.source} says {says}")
    elif said and band.dtype not in sensor.dtypes:
        offset = 0.0  # values that were changed since the provider wrote them: its offset went with them
    return _Claim(f"`sensor={sensor.name}`", scale, offset)


def _others(band: str, dtype: str) -> str:
    """Presets of products that have this band in values of this type."""
    fitting = [one.name for one in SENSORS.values() if dtype in one.dtypes and one.by_name(band)]
    return f"presets of {dtype} values with such a band are {', '.join(fitting)}; " if fitting else ""


def _disagreements(claims: Sequence[_Claim], scale: tuple[float, _Claim], offset: tuple[float, _Claim]) -> list[str]:
    """Both numbers wherever a source says another one than is taken, and where scale and offset come from two."""
    notes = []
    for claim in claims:
        for word, value, (taken, winner) in (("scale", claim.scale, scale), ("offset", claim.offset, offset)):
            if (
                claim is not winner
                and value is not None
                and not math.isclose(value, taken, rel_tol=1e-6, abs_tol=1e-12)
            ):
                notes.append(f"{word} {taken:g} by {winner.source} is taken, not {value:g} by {claim.source}")
    if offset[1] is not scale[1] and offset[0]:
        notes.append(f"scale {scale[0]:g} is by {scale[1].source}, offset {offset[0]:g} by {offset[1].source}")
    return notes
