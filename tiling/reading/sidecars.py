"""Files beside a scene that GDAL would read with it: a mask (`.msk`) and what other programs noted (`.aux.xml`).

GDAL itself is kept from them, as either may name any other file or address. The notes are read here as plain XML, and what
they say of values is taken as GDAL takes it, before the file's own word; a mask is refused by name. Of web servers, which
are not asked for files that nobody named, neither is looked for. Statistics, histograms, categories and names of classes
are not of interest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
from pyproj import CRS, Geod
from pyproj.exceptions import ProjError

from earthloom.tiling.errors import SceneError, StorageError
from earthloom.tiling.ground import horizontal, to_wgs84
from earthloom.tiling.reading.georeference import grid_file_in
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

MOST_BYTES = 8 << 20
"""Histograms and tables of 65536 classes take a few of them."""

_NEAR = 1e-9  # of a pixel: the numbers of one transform, written as text
_NEAR_PX, _NEAR_M = 0.5, 3.0  # of two CRSs: a datum may be written with a shift to WGS84, of which others know none
_SAMPLES = 9  # per side, at which they are compared
_MOST_LAT = 90.0  # degrees; grids of nodes go half a pixel beyond
_EARTH_M = 6_378_137.0  # per radian
_IS_CRS = re.compile(
    r"(?i)EPSG:\d{4,6}$|(GEOGCRS|GEOGCS|GEODCRS|PROJCRS|PROJCS|BOUNDCRS|COMPD|COMPOUNDCRS|DERIVEDPROJCRS)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BandNotes:
    """What is noted of one band; None where nothing is."""

    nodata: float | None = None
    scale: float | None = None
    offset: float | None = None
    description: str | None = None
    color: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecars:
    """What lies beside a file and matters."""

    bands: Mapping[int, BandNotes] = field(default_factory=dict)
    """Notes on each band by its number, from 1."""
    notes: tuple[str, ...] = ()

    def of(self, band: int) -> BandNotes:
        return self.bands.get(band, BandNotes())


def read_sidecars(ref: ObjectRef, dataset: DatasetReader) -> Sidecars:
    """What the files beside `ref`, which has a place of its own, say of it.

    Raises:
        SceneError: if there is a mask, or the notes cannot be read or put the file at another place than it does itself.
    """
    if ref.scheme not in ("file", "s3"):
        return Sidecars()
    name = ref.name
    if _exists(_beside(ref, ".msk")):
        raise SceneError(
            f"{name} has its mask in a file beside it, {name}.msk, which is not read; put both into one file: "
            f"gdal_translate -of COG {name} {ref.stem}-masked.tif, or move the mask away if every pixel is valid"
        )
    other = _beside(ref, ".aux.xml")
    return _parse(other.name, _load(other), dataset) if _exists(other) else Sidecars()


def _beside(ref: ObjectRef, suffix: str) -> ObjectRef:
    return replace(ref, key=ref.key + suffix)


def _exists(ref: ObjectRef) -> bool:
    if ref.scheme == "file":
        return ref.path.exists()
    try:
        return open_store(ref).head() is not None
    except StorageError:  # a key of its own may be hidden from us; the scene's is not
        return False


def _load(ref: ObjectRef) -> bytes:
    if ref.scheme == "file" and not ref.path.is_file():
        raise SceneError(f"{ref.name} beside it is not a regular file; move it away")
    head = open_store(ref).head()
    if head is None or head.size > MOST_BYTES:
        raise SceneError(
            f"{ref.name} beside it has {head.size if head else 0} bytes; notes of at most {MOST_BYTES} bytes are read. If "
            "it holds statistics only, move it away"
        )
    return open_store(ref).get()


def _parse(name: str, data: bytes, dataset: DatasetReader) -> Sidecars:
    if b"<!" in data.replace(b"<!--", b"") or b"\0" in data:  # no document type, so no entities; UTF-8 alone
        raise SceneError(f"{name} beside it is XML with declarations of its own, which are not read; move it away")
    try:
        root = ET.fromstring(data)
    except (ET.ParseError, ValueError) as error:
        raise SceneError(f"{name} beside it cannot be read ({str(error)[:80]}); mend it or move it away") from None
    if root.tag != "PAMDataset":
        return Sidecars(notes=(f"{name} beside it is no file of GDAL's and is not read",))
    _check_place(name, root, dataset)
    _check_crs(name, root, dataset)
    found = {}
    for element in root.findall("PAMRasterBand"):
        number = element.get("band", "1")
        if number.isascii() and number.isdigit() and 1 <= int(number[:6]) <= dataset.count:
            found[int(number)] = _of_band(name, element)
    taken = sorted({what for notes in found.values() for what in ("nodata", "scale", "offset", "color")
                    if getattr(notes, what) is not None})  # fmt: skip
    return Sidecars(bands=found, notes=(f"{', '.join(taken)} as {name} says",) if taken else ())


def _check_place(name: str, root: ET.Element, dataset: DatasetReader) -> None:
    text = root.findtext("GeoTransform")
    if text is not None:
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            numbers = []
        gdal = dataset.transform.to_gdal()
        side = max(abs(dataset.transform.a), abs(dataset.transform.e))
        if len(numbers) != 6 or not all(
            abs(a - b) <= _NEAR * max(side, abs(b)) for a, b in zip(numbers, gdal, strict=True)
        ):
            raise SceneError(
                f"{name} beside it puts it at ({text.strip()[:160]}), the file itself at {gdal}; write into the file what is "
                "right, gdal_translate in.tif out.tif takes the former, or move the other away"
            )


def _check_crs(name: str, root: ET.Element, dataset: DatasetReader) -> None:
    """GDAL and ArcGIS take the CRS beside a file before its own. Two texts of one CRS lead to one place, names apart."""
    text, own = (root.findtext("SRS") or "").strip(), dataset.crs
    if not text or not own:
        return
    remedy = "write into the file what is right, gdal_translate in.tif out.tif takes the former, or move the other away"
    if not (_IS_CRS.match(text) and not grid_file_in(text) and "PARAMETERFILE" not in text):
        raise SceneError(f"{name} beside it gives the CRS {text[:60]!r}, which is not read; mend it or move it away")
    try:
        apart_m = min(_apart_m(one, other, dataset) for one, other in _both(text, own.to_wkt()))
        found = horizontal(CRS.from_user_input(own.to_wkt()))
        unit_m = found.axis_info[0].unit_conversion_factor * (_EARTH_M if found.is_geographic else 1)
    except (ProjError, ValueError) as error:
        raise SceneError(f"{name} beside it gives a CRS that PROJ cannot use ({str(error)[:80]}); {remedy}") from None
    side = math.sqrt(abs(dataset.transform.determinant))
    if apart_m > max(_NEAR_PX * side * unit_m, _NEAR_M):
        away = f"{apart_m / 1000:.3g} km away" if math.isfinite(apart_m) else "another place on Earth or none"
        raise SceneError(
            f"{name} beside it gives the CRS {_called(text)}, the file itself {_called(own.to_wkt())}, which is {away}; "
            f"{remedy}"
        )


def _both(text: str, own: str) -> Iterator[tuple[str, str]]:
    """Two CRSs as they are, and without ways of their own to WGS84, which one of two texts of one datum may have."""
    yield text, own
    bare = (horizontal(CRS.from_user_input(crs)).to_wkt() for crs in (text, own))
    yield next(bare), next(bare)


def _apart_m(one: str, other: str, dataset: DatasetReader) -> float:
    """How far apart two CRSs have a file's pixels at most; infinite if they know none of them together. A map of the whole
    Earth has corners off it, where no CRS leads anywhere."""
    a, b, c, d, e, f = tuple(dataset.transform)[:6]
    cols, rows = np.meshgrid(*(np.linspace(0, side, _SAMPLES) for side in (dataset.width, dataset.height)))
    x, y = a * cols + b * rows + c, d * cols + e * rows + f
    lons, lats = np.moveaxis(np.array([to_wgs84(crs).transform(x, y) for crs in (one, other)]), 1, 0)
    known = np.all(np.isfinite(lons) & (np.abs(lats) <= _MOST_LAT), axis=0)
    apart_m = Geod(ellps="WGS84").inv(lons[0][known], lats[0][known], lons[1][known], lats[1][known])[2]
    return float(np.max(apart_m)) if known.any() else math.inf


def _called(crs: str) -> str:
    found = CRS.from_user_input(crs)
    code = found.to_epsg()
    return f"EPSG:{code}" if code else found.name[:60]


def _of_band(name: str, element: ET.Element) -> BandNotes:
    def number(tag: str) -> float | None:
        text = element.findtext(tag)
        if text is None:
            return None
        try:
            value = float(text.strip())
        except ValueError:
            raise SceneError(f"{name} beside it gives {text[:40]!r} as {tag}; mend it or move it away") from None
        if (tag != "NoDataValue" and not math.isfinite(value)) or (tag == "Scale" and value == 0):
            raise SceneError(f"{name} beside it gives {value} as {tag}; mend it or move it away")
        return value

    color = element.findtext("ColorInterp")
    if element.find("ColorTable") is not None:
        color = "palette"
    return BandNotes(
        nodata=number("NoDataValue"), scale=number("Scale"), offset=number("Offset"),
        description=element.findtext("Description"), color=color.strip().lower() if color else None,
    )  # fmt: skip
