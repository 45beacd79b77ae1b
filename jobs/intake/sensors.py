"""Sensor presets: what the bands of a known product are called, mean and assume. A table; reads nothing.

A preset is the user's word that a file is such a product. What it assumes beyond the file is in `assumes`, to be shown
every time it is used; what it cannot assume must be given, or is an error.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date

from earthloom.tiling.errors import ConfigError, SceneError


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorBand:
    """One band of a product.

    Args:
        source: names in file names and descriptions, the usual one first (`B02`, `B2`).
        name: STAC EO common name, or the source's own in lower case.
        scale, offset: to the sensor's quantity, where they are constants.
        radiance: (LMIN, LMAX) at DN 1 and 255 and ESUN, where reflectance depends on the sun: W / (m2 sr um), W / (m2 um).
        categorical: quality bands and masks.
    """

    source: tuple[str, ...]
    name: str
    scale: float = 1.0
    offset: float = 0.0
    radiance: tuple[float, float, float] | None = None
    categorical: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """A product whose files can be read without their metadata.

    Args:
        quantity: what scaled values are (`tiling.quantity.QUANTITIES`).
        dtypes: of the product; another one means that values were changed after the provider wrote them.
        orders: source names in file order, for files that name no bands; chosen by their count.
        assumes: sentences for the user.
    """

    name: str
    quantity: str
    dtypes: tuple[str, ...]
    bands: tuple[SensorBand, ...]
    orders: tuple[tuple[str, ...], ...]
    assumes: tuple[str, ...]
    offset_baseline: bool = False
    """True for Sentinel-2, whose processing baselines from 04.00 on store reflectance with an offset."""

    def find(self, text: str) -> SensorBand | None:
        """The band that a description, a STAC band name or a file stem speaks of, by its last matching part."""
        best: tuple[int, int] = (-1, 0)
        found = None
        for band in self.bands:
            for source in band.source:
                for match in re.finditer(rf"(?<![A-Z0-9]){source}(?![A-Z0-9])", text.upper()):
                    if (match.start() + len(source), len(source)) > best:
                        best, found = (match.start() + len(source), len(source)), band
        return found

    def by_name(self, name: str) -> SensorBand | None:
        """The band with this common name."""
        return next((band for band in self.bands if band.name == name), None)

    def in_order(self, count: int) -> tuple[SensorBand, ...] | None:
        """Bands of a file with `count` nameless bands, or None when no such file is known."""
        for order in self.orders:
            if len(order) == count:
                return tuple(band for source in order for band in self.bands if source in band.source)
        return None

    def scaling(
        self, band: SensorBand, *, sun_elevation_deg: float | None, acquired: date | None
    ) -> tuple[float, float]:
        """(scale, offset) that turn a stored value into the sensor's quantity.

        Raises:
            SceneError: if that depends on the sun and its elevation is not known.
        """
        if band.radiance is None:
            return band.scale, band.offset
        if sun_elevation_deg is None:
            raise SceneError(
                f"{self.name} needs the sun's elevation at the time of the scene to turn digital numbers into "
                "reflectance, and it is unknown; give `sun_elevation=<degrees>` (SUN_ELEVATION in the scene's MTL file)"
            )
        if not 0 < sun_elevation_deg <= 90:
            raise ConfigError(f"`sun_elevation={sun_elevation_deg:g}` is outside 0 to 90 degrees above the horizon")
        low, high, esun = band.radiance
        gain = (high - low) / 254
        distance_au = sun_distance_au(acquired) if acquired else 1.0
        factor = math.pi * distance_au**2 / (esun * math.sin(math.radians(sun_elevation_deg)))
        return gain * factor, (low - gain) * factor  # DN 1 is LMIN


def sun_distance_au(day: date) -> float:
    """Earth to Sun in astronomical units, within 1e-4 (Astronomical Almanac, low-precision formulas for the Sun)."""
    anomaly = math.radians(357.528 + 0.9856003 * (day.toordinal() - date(2000, 1, 1).toordinal()))
    return 1.00014 - 0.01671 * math.cos(anomaly) - 0.00014 * math.cos(2 * anomaly)


def sensor(name: str) -> Sensor:
    """The preset called `name`.

    Raises:
        ConfigError: listing the presets there are.
    """
    if name not in SENSORS:
        raise ConfigError(f"there is no sensor preset {name!r}; presets are {', '.join(SENSORS)}")
    return SENSORS[name]


_SENTINEL2 = (
    ("B01", "coastal"), ("B02", "blue"), ("B03", "green"), ("B04", "red"), ("B05", "rededge071"), ("B06", "rededge075"),
    ("B07", "rededge078"), ("B08", "nir"), ("B8A", "nir08"), ("B09", "nir09"), ("B10", "cirrus"), ("B11", "swir16"),
    ("B12", "swir22"),
)  # fmt: skip


def _sentinel2(level: str, quantity: str, sources: tuple[str, ...], extra: tuple[SensorBand, ...]) -> Sensor:
    bands = tuple(
        SensorBand(source=tuple(dict.fromkeys((source, source.replace("B0", "B")))), name=name, scale=1e-4)
        for source, name in _SENTINEL2
        if source in sources
    )
    return Sensor(
        name=f"sentinel2-{level}", quantity=quantity, dtypes=("uint16", "int16"), bands=bands + extra,
        orders=(sources,), offset_baseline=True,
        assumes=(
            "reflectance = DN / 10000",
            "no offset is stored: true before processing baseline 04.00 (25 January 2022) and for harmonised copies; "
            "for other files give `offset=-0.1`",
        ),
    )  # fmt: skip


# Chander, Markham, Helder (2009), Remote Sensing of Environment 113:893-903, table 4: (LMIN, LMAX) in high gain, ESUN.
_ETM = (
    ("B1", "blue", (-6.2, 191.6, 1997.0)), ("B2", "green", (-6.4, 196.5, 1812.0)), ("B3", "red", (-5.0, 152.9, 1533.0)),
    ("B4", "nir", (-5.1, 157.4, 1039.0)), ("B5", "swir16", (-1.0, 31.06, 230.8)), ("B7", "swir22", (-0.35, 10.80, 84.90)),
    ("B8", "pan", (-4.7, 243.1, 1362.0)),
)  # fmt: skip

_OLI = (
    ("SR_B1", "coastal"), ("SR_B2", "blue"), ("SR_B3", "green"), ("SR_B4", "red"), ("SR_B5", "nir"), ("SR_B6", "swir16"),
    ("SR_B7", "swir22"),
)  # fmt: skip

_L1C = tuple(source for source, _ in _SENTINEL2)
_PRESETS = (
    _sentinel2(
        "l2a", "boa_reflectance", tuple(source for source in _L1C if source != "B10"),
        (SensorBand(source=("SCL",), name="scl", categorical=True),),
    ),
    _sentinel2("l1c", "toa_reflectance", _L1C, ()),
    Sensor(
        name="landsat7-etm-dn", quantity="toa_reflectance", dtypes=("uint8",),
        bands=(
            *(SensorBand(source=(source, f"B{source[1:]}0", f"B0{source[1:]}"), name=name, radiance=radiance)
              for source, name, radiance in _ETM),
            SensorBand(source=("B6_VCID_1", "B6_VCID_2", "B61", "B62", "B6"), name="lwir"),
        ),
        orders=(("B1", "B2", "B3", "B4", "B5", "B7"), ("B1", "B2", "B3", "B4", "B5", "B6", "B7")),
        assumes=(
            "8-bit digital numbers of a Landsat 7 level 1 product, calibrated after July 2000: DN 1 is LMIN, 255 is LMAX",
            "gain state high for bands 1, 2, 3, 4, 5 and 7, low for band 8 (GAIN_BAND_n in the MTL file says; a band "
            "taken in low gain would come out a third too dark)",
            "top-of-atmosphere reflectance, not corrected for the air; band 6 stays as stored",
        ),
    ),
    Sensor(
        name="landsat8-c2l2", quantity="boa_reflectance", dtypes=("uint16",),
        bands=(
            *(SensorBand(source=(source,), name=name, scale=2.75e-5, offset=-0.2) for source, name in _OLI),
            SensorBand(source=("ST_B10",), name="lwir11", scale=0.00341802, offset=149.0),
            *(SensorBand(source=(source,), name=source.lower(), categorical=True)
              for source in ("QA_PIXEL", "QA_RADSAT", "SR_QA_AEROSOL")),
        ),
        orders=(tuple(source for source, _ in _OLI),),
        assumes=(
            "Landsat 8 or 9 Collection 2 level 2: surface reflectance = DN * 0.0000275 - 0.2",
            "band ST_B10 is a temperature in kelvin, not a reflectance",
        ),
    ),
    Sensor(
        name="naip", quantity="unit", dtypes=("uint8",),
        bands=tuple(
            SensorBand(source=(source,), name=name, scale=1 / 255)
            for source, name in (("RED", "red"), ("GREEN", "green"), ("BLUE", "blue"), ("NIR", "nir"))
        ),
        orders=(("RED", "GREEN", "BLUE", "NIR"), ("RED", "GREEN", "BLUE")),
        assumes=("values are display brightness, DN / 255, not reflectance: they differ between flights",),
    ),
)  # fmt: skip

SENSORS: dict[str, Sensor] = {preset.name: preset for preset in _PRESETS}
