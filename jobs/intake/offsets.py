"""Whether the pixels of Sentinel-2 hold the offset that ESA has stored since processing baseline 04.00, and what speaks for it.

Reflectance that is 0.1 too high or too low makes land of water; copies of both kinds are in use under the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from earthloom.jobs.intake.preset import Sensor
from earthloom.jobs.intake.recognise import Product
from earthloom.jobs.intake.stac import StacItem

SENTINEL2_SCALE, SENTINEL2_OFFSET = 1e-4, -0.1
"""1 / QUANTIFICATION_VALUE, and BOA_ADD_OFFSET and RADIO_ADD_OFFSET of baseline 04.00 and later, -1000 / 10000."""

_OFFSET_SINCE = 4.0
_OFFSET_SINCE_DAY = date(2022, 1, 25)


def stores_offset(item: StacItem | None) -> bool | None:
    """Whether a Sentinel-2 item's pixels hold the offset of its processing baseline; None where it does not say."""
    if item is None:
        return None
    if item.offset_applied:
        return False
    try:
        return float((item.processing_baseline or "").lstrip("Nn")) >= _OFFSET_SINCE
    except ValueError:
        return None


def offset_doubts(
    sensor: Sensor, item: StacItem | None, acquired: date | None, products: Sequence[Product]
) -> list[str]:
    """What speaks against the preset's word on the offset of Sentinel-2, where no item settles it."""
    if stores_offset(item) is not None:
        return []
    baseline = next((product.baseline for product in products if product.baseline is not None), None)
    holds = any(band.offset for band in sensor.bands)
    other = sensor.name.removesuffix("-0400") if holds else f"{sensor.name}-0400"
    if baseline is not None and (baseline >= _OFFSET_SINCE) != holds:
        return [
            f"offset {SENTINEL2_OFFSET if holds else 0:g} by `sensor={sensor.name}`, but its name says processing "
            f"baseline {baseline:05.2f}, which stores {0 if holds else SENTINEL2_OFFSET:g}: unless these are changed "
            f"copies, take `sensor={other}`"
        ]
    if baseline is None and not holds and acquired and acquired >= _OFFSET_SINCE_DAY:
        return [
            f"taken on {acquired}, when ESA's files hold an offset of {SENTINEL2_OFFSET:g}, and `sensor={sensor.name}` "
            f"takes 0: right for harmonised copies, else take `sensor={other}`"
        ]
    return []


def missing_offset(offsets: Sequence[float], item: StacItem | None, products: Sequence[Product]) -> list[str]:
    """A note, where a scale is known without an offset, and the item or a name says a baseline that stores one.

    Args:
        offsets: of the bands of the image whose scale is known.
    """
    product = next((one for one in products if one.platform == "Sentinel-2"), None)
    if product is None or not offsets or any(offsets) or (item and (item.offset_applied or item.metadata)):
        return []
    said = stores_offset(item)
    baselines = [one.baseline for one in products if one.baseline is not None]
    if not (said or (said is None and any(baseline >= _OFFSET_SINCE for baseline in baselines))):
        return []
    named = f"the STAC item says processing baseline {item.processing_baseline}" if item and said else (
        f"its name says processing baseline {max(baselines):05.2f}"
    )  # fmt: skip
    return [
        f"no offset is taken, and {named}, in which ESA's files store {SENTINEL2_OFFSET:g}: right for harmonised copies, else "
        f"give `offset={SENTINEL2_OFFSET:g}`"
    ]
