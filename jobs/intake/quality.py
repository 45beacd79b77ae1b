"""Which pixels the quality band of a product calls clear, where the user asks that the others be no data (`mask=qa`).

By default nothing but the product's fill is no data: providers' masks miss clouds and take bright ground for them, and a
model of clouds may be wanted instead. Opens nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from earthloom.jobs.intake.bands import NamedBand
from earthloom.jobs.intake.wanted import Wanted
from earthloom.tiling.errors import SceneError
from earthloom.tiling.scene import Band, Clear


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quality:
    name: str
    """Name of the band in a scene."""
    bits: int = 0
    values: tuple[int, ...] = ()
    words: str
    """What is taken for unclear."""


_BANDS = (
    # Landsat 8-9 Collection 2 Level 2 Science Product Guide, LSDS-1619, table 6-3; the same bits in all of Collection 2.
    _Quality(name="qa_pixel", bits=0b11111, words="fill, dilated cloud, cirrus, cloud and cloud shadow"),
    # Sentinel-2 Products Specification Document 15.0: scene classification.
    _Quality(
        name="scl", values=(0, 1, 3, 8, 9, 10),
        words="no data, saturated or defective, cloud shadow, cloud of medium and high probability and thin cirrus",
    ),
    # Planet, Usable Data Masks (UDM2): band 1, clear 1.
    _Quality(name="udm2_clear", values=(0,), words="anything but clear: cloud, shadow, haze, snow, and no data"),
)  # fmt: skip


def with_quality(models: Wanted) -> Wanted:
    """What models ask for, and a quality band."""
    variants = tuple(frozenset((one.name,)) for one in _BANDS)
    return Wanted(models=(*models.models, variants), every=models.every)


def as_classes(named: Sequence[NamedBand]) -> tuple[NamedBand, ...]:
    """The bands, those of quality as classes and bits, which are neither scaled nor averaged: who names a band by hand
    otherwise takes it as data."""
    names = {one.name for one in _BANDS}
    return tuple(replace(band, categorical=True, image=False) if band.name.lower() in names else band for band in named)


def clear_by(bands: Sequence[Band]) -> tuple[Clear, str]:
    """The quality band of a scene and which of its pixels are clear, and a note.

    Raises:
        SceneError: if it has none that is known.
    """
    found = next(((one, band) for one in _BANDS for band in bands if band.name.lower() == one.name), None)
    if found is None:
        raise SceneError(
            f"`mask=qa` needs a quality band, QA_PIXEL of Landsat, SCL of Sentinel-2 or UDM2 of PlanetScope, and the scene "
            f"has {', '.join(band.name for band in bands)}; if one of these is it, say so: `bands=scl=<number>`; else leave "
            "`mask` out, or find the clouds by `mask_clouds`"
        )
    quality, band = found
    note = f"`mask=qa`: no data where {quality.name} says {quality.words}"
    return Clear(band=band, bits=quality.bits, values=quality.values), note
