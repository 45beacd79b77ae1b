"""What the stored values of a scene mean: scale, offset, nodata and quantity of each band. Opens nothing.

Said by, strongest first: options, the STAC item, the sensor preset, the TIFF's own scale and offset tags; nodata by
options, the file, the STAC item, the preset. Where nobody says, the values are raw numbers of unknown scale; that is never
guessed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from earthloom.jobs.intake.bands import NamedBand
from earthloom.jobs.intake.masks import has_colors, nodata_in
from earthloom.jobs.intake.offsets import SENTINEL2_OFFSET, missing_offset, offset_doubts, stores_offset
from earthloom.jobs.intake.plausible import must_be
from earthloom.jobs.intake.preset import Sensor
from earthloom.jobs.intake.recognise import Product
from earthloom.jobs.intake.sensors import SENSORS
from earthloom.jobs.intake.stac import StacItem
from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading.fill import HUGE
from earthloom.tiling.reading.preflight import representable
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
    notes: list[str] = []
    if sensor:
        notes += _preset_notes(named, sensor, options)
        if sensor.offset_baseline and options.offset is None:
            notes += offset_doubts(sensor, item, acquired, products)
    _refuse_stored_offset(options, sensor)
    scalings = [_scaling(band, options, sensor, item, acquired) for band in named]
    notes += dict.fromkeys(note for scaling in scalings for note in scaling.notes)
    quantity = options.quantity or (item.quantity if item else None) or (sensor.quantity if sensor else None)
    if quantity is None and any(scaling.reflectance for scaling in scalings):
        quantity = "reflectance"
        notes.append("scaled values are taken as reflectance; `quantity` says otherwise")
    elif quantity is None:
        notes.append("unknown value scale: say what the numbers mean by `sensor=<preset>`, or `scale` with `quantity`")
    if options.offset is None and not (sensor and sensor.offset_baseline):
        image = [one for band, one in zip(named, scalings, strict=True) if band.image and one.reflectance]
        notes += missing_offset([one.offset for one in image], item, products)
    silent = [band for band, scaling in zip(named, scalings, strict=True) if not scaling.known]
    if quantity and silent:
        _refuse_unscaled([band for band in silent if band.name in wanted and must_be(band.name, quantity)], quantity)
        names = ", ".join(band.name for band in silent)
        notes.append(f"nothing says how these bands are scaled, so they stay as stored: {names}")
    bands = tuple(
        _with_nodata(
            Band(
                name=band.name, asset=band.asset, index=band.index, dtype=band.dtype, scale=scaling.scale,
                offset=scaling.offset, categorical=scaling.categorical, alpha=band.alpha,
            ),
            band, options, sensor,
        )
        for band, scaling in zip(named, scalings, strict=True)
    )  # fmt: skip
    notes += dict.fromkeys(note for band in named if not band.categorical for note in _nodata_doubts(band, options))
    if options.nodata_in is None and any(band.nodata_in == "all" for band in bands):
        notes.append(
            "nodata counts where all colours of a file hold it, as black is 0 in some; `nodata_in=any` counts each band"
        )
    return Meaning(bands=bands, quantity=quantity or "dn", scale_known=quantity is not None, notes=tuple(notes))


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


def _refuse_unscaled(silent: Sequence[NamedBand], quantity: str) -> None:
    """An index of one band as reflectance and another one as stored, thousands of times as large, is the same everywhere."""
    whole = [band for band in silent if np.dtype(band.dtype).kind != "f"]
    if whole:
        raise SceneError(
            f"nothing says how {', '.join(band.name for band in whole)} is scaled, while other bands are {quantity}: whole "
            f"numbers ({whole[0].dtype}) cannot be that as they are; say how all bands are scaled: "
            f"`scale=<factor>`{_example(quantity, whole[0].dtype)} and `offset`, or `sensor=<preset>`"
        )


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


def _scaling(
    band: NamedBand, options: SceneOptions, sensor: Sensor | None, item: StacItem | None, acquired: date | None
) -> _Scaling:
    if band.categorical:
        return _Scaling(categorical=True)
    if options.quantity == "dn" and options.scale is None and options.offset is None:
        return _Scaling()
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
    return _Scaling(
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
        f"they are; say how they are scaled: `scale=<factor>`{_example(quantity, band.dtype)}, or "
        "`sensor=<preset>`"
    )


def _example(quantity: str, dtype: str) -> str:
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


def _with_nodata(band: Band, named: NamedBand, options: SceneOptions, sensor: Sensor | None) -> Band:
    """A band with its nodata. Colours beside alpha, and in 8 bits beside any mask, have none: the mask knows better."""
    header, rule = named.file.header, nodata_in(named, options.nodata_in, sensor)
    has_alpha = bool(band.alpha) or (header.mask == "alpha" and band.alpha is None)
    masked = (has_colors(header) and has_alpha) or (rule == "all" and header.mask == "internal")
    if masked and options.nodata_in is None and options.nodata is None and not named.categorical:
        return replace(band, nodata=None)
    nodata = _nodata(named, options, sensor)
    return replace(band, nodata=nodata, nodata_in=rule if nodata is not None else "any")


def _nodata_doubts(band: NamedBand, options: SceneOptions) -> list[str]:
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
