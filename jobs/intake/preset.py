"""What a sensor preset is: how the bands of a known product are called, and what their stored values mean. Reads nothing.

A preset is the user's word that a file is such a product. What it assumes beyond the file is in `assumes`, to be shown
every time it is used; what it cannot assume must be given, or is an error.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date

from earthloom.tiling.errors import ConfigError, SceneError

_BEFORE = r"(?<![A-Z0-9])(?<!^S[RT]_)(?<!_(?:T1|T2|RT)_S[RT]_)(?<!REFL_)"
"""What stands before a band's name in a text: no letter or digit, and not what makes it the name of another product's band,
as SR_B4 of Landsat level 2 and SUR_REFL_B04 of MODIS are not B4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorBand:
    """One band of a product.

    Args:
        source: names in file names and descriptions, the usual one first (`B02`, `B2`).
        name: STAC EO common name, or the source's own in lower case.
        also: other common names under which catalogues file this very band.
        scale, offset: to the sensor's quantity, where they are constants.
        radiance: (LMIN, LMAX) at DN 1 and 255 and ESUN, where reflectance depends on the sun: W / (m2 sr um), W / (m2 um).
        earlier: first day of `radiance`, and what held before it.
        categorical: quality bands and masks.
        image: False for what no camera saw: masks, angles, heights, states of the air. A model that takes all bands of a
            scene does not get it.
    """

    source: tuple[str, ...]
    name: str
    also: tuple[str, ...] = ()
    scale: float = 1.0
    offset: float = 0.0
    radiance: tuple[float, float, float] | None = None
    earlier: tuple[date, tuple[float, float, float]] | None = None
    categorical: bool = False
    image: bool = True

    @property
    def reflects(self) -> bool:
        """Whether its values are of light that the ground reflects: neither heat nor a mask."""
        return self.image and not self.name.startswith("lwir")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """A product whose files can be read without their metadata.

    Args:
        title: what the product is called in full.
        quantity: what scaled values are (`tiling.quantity.QUANTITIES`).
        dtypes: types of the product; another one means that values were changed after the provider wrote them.
        bands: image bands and quality bands.
        orders: source names in file order, for files that name no bands; chosen by their count.
        fill: stored value of pixels without data; None where the product has none.
        valid: lowest and highest stored value that the product's specification allows in its image bands.
        platforms: as `jobs.intake.recognise` calls them; a file that says it is from another one contradicts the preset.
        level: level of processing, `L1` or `L2`; likewise.
        assumes: sentences for the user.
        source: where the figures stand.
    """

    name: str
    title: str
    quantity: str
    dtypes: tuple[str, ...]
    bands: tuple[SensorBand, ...]
    orders: tuple[tuple[str, ...], ...]
    fill: float | None
    valid: tuple[float, float]
    platforms: tuple[str, ...]
    level: str | None
    assumes: tuple[str, ...]
    source: str
    offset_baseline: bool = False
    """True for Sentinel-2, whose processing baselines from 04.00 on store reflectance with an offset."""
    needs_sun: bool = False
    """True where constant scale and offset are still to be divided by the sine of the sun's elevation."""

    def find(self, text: str) -> SensorBand | None:
        """The band that a description, a STAC band name or a file stem speaks of, by its last matching part."""
        best: tuple[int, int] = (-1, 0)
        found = None
        for band in self.bands:
            for source in band.source:
                for match in re.finditer(rf"{_BEFORE}{source}(?![A-Z0-9])", text.upper()):
                    if (match.start() + len(source), len(source)) > best:
                        best, found = (match.start() + len(source), len(source)), band
        return found

    def by_name(self, name: str) -> SensorBand | None:
        """The band with this common name."""
        return next((band for band in self.bands if name == band.name or name in band.also), None)

    def in_order(self, count: int) -> tuple[SensorBand, ...] | None:
        """Bands of a file with `count` nameless bands, or None when no such file is known."""
        for order in self.orders:
            if len(order) == count:
                return tuple(band for source in order for band in self.bands if source in band.source)
        return None

    @property
    def wants_sun(self) -> bool:
        """Whether its values cannot be scaled without the sun's elevation."""
        return self.needs_sun or any(band.radiance for band in self.bands)

    def scaling(
        self, band: SensorBand, *, sun_elevation_deg: float | None, acquired: date | None
    ) -> tuple[float, float]:
        """(scale, offset) that turn a stored value into the sensor's quantity.

        Raises:
            SceneError: if that depends on the sun and its elevation is not known.
        """
        if band.radiance is None and not (self.needs_sun and band.reflects):
            return band.scale, band.offset
        if sun_elevation_deg is None:
            raise SceneError(
                f"{self.name} needs the sun's elevation at the time of the scene to turn digital numbers into "
                "reflectance, and it is unknown; give `sun_elevation=<degrees>` (SUN_ELEVATION in the scene's MTL file), or "
                "the MTL file itself as the scene"
            )
        if not 0 < sun_elevation_deg <= 90:
            raise ConfigError(f"`sun_elevation={sun_elevation_deg:g}` is outside 0 to 90 degrees above the horizon")
        sine = math.sin(math.radians(sun_elevation_deg))
        if band.radiance is None:
            return band.scale / sine, band.offset / sine
        before = band.earlier and acquired and acquired < band.earlier[0]
        low, high, esun = band.earlier[1] if band.earlier and before else band.radiance
        gain = (high - low) / 254
        distance_au = sun_distance_au(acquired) if acquired else 1.0
        factor = math.pi * distance_au**2 / (esun * sine)
        return gain * factor, (low - gain) * factor  # DN 1 is LMIN


def sun_distance_au(day: date) -> float:
    """Earth to Sun in astronomical units, within 1e-4 (Astronomical Almanac, low-precision formulas for the Sun)."""
    anomaly = math.radians(357.528 + 0.9856003 * (day.toordinal() - date(2000, 1, 1).toordinal()))
    return 1.00014 - 0.01671 * math.cos(anomaly) - 0.00014 * math.cos(2 * anomaly)
