"""What a STAC item says of its files: which hold data, what their bands are, where else they lie. Reads nothing.

Items of STAC 0.8 to 1.1 are read, in the dialects of the catalogues that publish them. What a field means where the
specification leaves it open is written down in docs/inputs.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from earthloom.jobs.intake.common_names import common_name
from earthloom.tiling.errors import EarthloomError
from earthloom.tiling.quantity import QUANTITIES
from earthloom.tiling.scene import Driver
from earthloom.tiling.storage.objects import ObjectRef

_TIFF_NAME = re.compile(r"\.tiff?$", re.IGNORECASE)
_TIFF_TYPE = re.compile(r"tiff", re.IGNORECASE)  # image/tiff, image/vnd.stac.geotiff, application/x-geotiff
_NO_TYPE = re.compile(r"(?i)^(application/octet-stream|binary/octet-stream|image/(cog|x-cog|\*))")
_NOT_DATA = frozenset(("thumbnail", "overview", "metadata", "graphic"))
_PICTURE = re.compile(r"(?i)^(visual|tci|true[-_]?colou?r|(rendered[-_]?)?preview|thumbnail|overview|browse)([-_].*)?$")
_QUALITY = frozenset((
    "data-mask", "cloud", "cloud-shadow", "snow-ice", "land-water", "water-mask", "saturation", "classification", "mask",
))  # fmt: skip
_COMMON_NAME = re.compile(r"^[a-z][a-z0-9_]{0,31}$")
_OTHER_UNITS = re.compile(r"(?i)kelvin|celsius|^k$|degree|metre|meter|^m$|radiance|watt|^w|db|decibel|^cm$|^k?g\b")
_WORDS = {
    "nan": math.nan, "inf": math.inf, "+inf": math.inf, "-inf": -math.inf, "infinity": math.inf, "-infinity": -math.inf,
}  # fmt: skip
_DECIMAL = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class StacBand:
    """What an item says of one band; None where it says nothing."""

    name: str | None = None
    """The provider's own, `B02`."""
    common_name: str | None = None
    """Name by STAC's EO extension; by the wavelength if the item gives none or one that stands for several bands."""
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    categorical: bool = False
    reflectance: bool = True
    """False when its unit says that it is something else."""
    quantity: str | None = None
    """What its scaled values are, as an item of Earthloom says it."""
    per_sine: bool = False
    """True where scale and offset are still to be divided by the sine of the sun's elevation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StacAsset:
    """One file of an item, with what the item says of its bands (none, or all of them in order)."""

    key: str
    ref: ObjectRef
    bands: tuple[StacBand, ...] = ()
    alternates: tuple[str, ...] = ()
    """Other addresses at which the item says that the file lies, such as `s3 (s3://bucket/key)`."""
    driver: Driver = "GTiff"


@dataclass(frozen=True, slots=True, kw_only=True)
class LostAsset:
    """A file of an item whose address we do not read; it costs the scene nothing as long as no model wants its bands."""

    key: str
    bands: tuple[StacBand, ...]
    problem: str


def data_assets(
    assets: Mapping[str, Any], properties: Mapping[str, Any], resolve: Callable[[str], ObjectRef], alternate: str | None
) -> tuple[tuple[StacAsset, ...], tuple[LostAsset, ...]]:
    """The TIFFs with data of an item: those that can be addressed, and the others.

    A picture for the eye counts as data only where an item has nothing else.

    Args:
        assets, properties: of the item.
        resolve: makes a reference of an href, or raises an EarthloomError that says why not.
        alternate: name of the alternate address to take of every asset that has it.
    """
    tiffs = {
        str(key): asset for key, asset in ((key, mapping(value)) for key, value in assets.items()) if _is_tiff(asset)
    }
    data = {key: asset for key, asset in tiffs.items() if not _roles(asset) & _NOT_DATA}
    seen = {key: asset for key, asset in data.items() if not (_PICTURE.match(key) or "visual" in _roles(asset))}
    item_bands = [mapping(band) for band in sequence(properties.get("eo:bands"))]
    found, lost = [], []
    for key, asset in (seen or data).items():
        bands = _bands(asset, item_bands)
        others = {str(name): str(mapping(other).get("href")) for name, other in mapping(asset.get("alternate")).items()}
        href = str(asset.get("href")) if alternate is None else others.pop(alternate, str(asset.get("href")))
        shown = tuple(f"{name[:40]} ({where.partition('?')[0][:120]})" for name, where in others.items())
        try:
            found.append(StacAsset(key=key, ref=resolve(href), bands=bands, alternates=shown))
        except EarthloomError as error:
            lost.append(LostAsset(key=key, bands=bands, problem=f"{error}{elsewhere(shown)}"))
    return tuple(found), tuple(lost)


def alternate_names(assets: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the alternate addresses that the assets of an item have, sorted."""
    return tuple(sorted({str(name) for asset in assets.values() for name in mapping(mapping(asset).get("alternate"))}))


def elsewhere(alternates: tuple[str, ...]) -> str:
    """End of a message about a file that cannot be read: where else its item says that it lies, and how to take that."""
    if not alternates:
        return ""
    first = alternates[0].partition(" (")[0]
    return f"; its item has an alternate address, {', '.join(alternates)}: take it by `alternate={first}`"


def _is_tiff(asset: Mapping[str, Any]) -> bool:
    media_type = text(asset.get("type")) or ""
    named = _TIFF_NAME.search(str(asset.get("href")).partition("?")[0].partition("#")[0]) is not None
    return bool(_TIFF_TYPE.search(media_type)) or (named and (not media_type or bool(_NO_TYPE.match(media_type))))


def _roles(asset: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(str(role).lower() for role in sequence(asset.get("roles")))


def _bands(asset: Mapping[str, Any], item_bands: list[Mapping[str, Any]]) -> tuple[StacBand, ...]:
    """STAC 1.1 `bands`, or `eo:bands` with `raster:bands` of 1.0; fields of the asset itself hold for all its bands.

    In STAC 0.8 and before, `eo:bands` of an asset are positions in the list of the item.
    """
    modern = [mapping(band) for band in sequence(asset.get("bands"))]
    optical = [
        item_bands[band] if isinstance(band, int) and 0 <= band < len(item_bands) else mapping(band)
        for band in sequence(asset.get("eo:bands"))
    ]
    raster = [mapping(band) for band in sequence(asset.get("raster:bands"))]
    count = max(len(modern), len(optical), len(raster))
    fields = ("eo:common_name", "eo:center_wavelength", "raster:scale", "raster:offset", "nodata")
    if not count and any(name in asset for name in fields):
        count = 1
    quality = bool(_roles(asset) & _QUALITY)
    found = []
    for position in range(count):
        band = {**asset, "name": None, "description": None}
        for bands in (optical, raster, modern):
            band |= bands[position] if position < len(bands) else {}
        common = common_name(
            text(_first(band, "eo:common_name", "common_name")),
            number(_first(band, "eo:center_wavelength", "center_wavelength")),
            number(_first(band, "eo:full_width_half_max", "full_width_half_max")),
        )
        found.append(
            StacBand(
                name=text(band.get("name")),
                common_name=common if common and _COMMON_NAME.match(common) else None,
                scale=number(_first(band, "raster:scale", "scale")) or None,  # 0 would make every value the same
                offset=number(_first(band, "raster:offset", "offset")),
                nodata=number(band.get("nodata"), finite=False),
                categorical=quality or "classification:classes" in band or "classification:bitfields" in band,
                reflectance=not _OTHER_UNITS.search(text(band.get("unit")) or ""),
                quantity=quantity if (quantity := text(band.get("earthloom:quantity"))) in QUANTITIES else None,
            )
        )
    return tuple(found)


def mapping(value: object) -> Mapping[str, Any]:
    """A JSON object, or an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """A JSON array, or an empty one."""
    return value if isinstance(value, list) else []


def text(value: object) -> str | None:
    """A JSON string that is not empty."""
    return value if isinstance(value, str) and value else None


def number(value: object, *, finite: bool = True) -> float | None:
    """A JSON number; where it need not be finite, also the words and decimal texts that catalogues use for nodata."""
    if isinstance(value, str) and not finite:
        word = value.strip().lower()
        return float(word) if _DECIMAL.match(word) and len(word) < 400 else _WORDS.get(word)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) or not finite else None


def _first(band: Mapping[str, Any], *names: str) -> object:
    return next((band[name] for name in names if band.get(name) is not None), None)
