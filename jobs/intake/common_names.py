"""Names that bands have in all sensors: the common names of STAC's EO extension, from whatever is said of a band.

Dialects differ: some items write `rededge` for three bands, some give a wavelength and no name. A wavelength is looked up
only where the name is missing or too coarse; nothing is taken from the number of a band. Knows nothing of files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_NARROW_UM = 0.08
"""Full width at half maximum: Sentinel-2 B08 has 0.145 and B8A 0.033, Landsat 8 B5 0.030."""


@dataclass(frozen=True, slots=True)
class _Range:
    name: str
    centre_um: tuple[float, float]
    width_um: tuple[float, float] = (0.0, 9.9)
    """A band whose width is not said is taken to be narrow."""


_RANGES = (
    _Range("pan", (0.50, 0.75), (0.15, 9.9)),  # Landsat 8 B8 has 0.18, Landsat 7 B8 0.38
    _Range("coastal", (0.40, 0.455)),
    _Range("blue", (0.455, 0.53)),
    _Range("green05", (0.51, 0.55), (0.001, 0.05)),
    _Range("green", (0.51, 0.585)),
    _Range("yellow", (0.585, 0.62)),
    _Range("red", (0.62, 0.69)),
    _Range("rededge071", (0.69, 0.73), (0.0, _NARROW_UM)),
    _Range("rededge075", (0.73, 0.76), (0.0, _NARROW_UM)),
    _Range("rededge078", (0.76, 0.80), (0.0, _NARROW_UM)),
    _Range("nir08", (0.845, 0.885), (0.0, _NARROW_UM)),
    _Range("nir09", (0.925, 0.965), (0.0, _NARROW_UM)),
    _Range("nir", (0.75, 1.00), (_NARROW_UM, 9.9)),
    _Range("cirrus", (1.35, 1.40)),
    _Range("swir16", (1.55, 1.75)),
    _Range("swir22", (2.08, 2.35)),
    _Range("lwir", (10.4, 12.5), (1.5, 9.9)),
    _Range("lwir11", (10.5, 11.5)),
    _Range("lwir12", (11.5, 12.6)),
)
"""Where a band's centre lies and how wide it is, the first that fits: https://github.com/stac-extensions/eo, version 2.0,
"Common Band Names", with the red edge, near infrared and thermal bands told apart by their width."""

COMMON_NAMES = frozenset((*(one.name for one in _RANGES), "rededge"))
"""A TIFF description or the key of a STAC asset names a band by itself only if it is one of them."""

_COARSE = {"rededge": (0.69, 0.80), "nir": (0.75, 1.00)}
"""Names under which items file several bands: where the centre lies of those that are rightly called so."""

STAND_INS = {
    "nir": ("nir08",), "rededge": ("rededge071", "rededge075", "rededge078"), "lwir": ("lwir11",),
}  # fmt: skip
"""Which narrow bands may answer for a broad one that a scene lacks, if it has exactly one of them."""

_KIN = ("green", "rededge", "nir", "lwir")


def kin(name: str) -> str:
    """What a common name has in common with those of narrower bands: `nir` of nir08 and nir09."""
    return next((one for one in _KIN if name.startswith(one)), name)


_MASKS = (
    "scl|fmask|cfmask|bqa|qa|qa_(pixel|radsat|aerosol)|udm2?|datamask|clm|cld|snw|cloud|clouds|snow|msk_[a-z]+|"
    "(cloud|snow|data|water|quality|pixel)_?(mask|prob|probability|cover|qa)"
)
_STATES = (
    "aot|wvp|(atmos_)?opacity|dem|elevation|slope|aspect|atran|cdist|drad|emis|emsd|trad|urad|s[az]a|v[az]a|"
    "(sun|view|viewing|solar|sensor|satellite|sat|relative)_?(zenith|azimuth)"
)
_END = r"([-_.](\d{1,4}m|clip|jp2))*$"  # a resolution, and what orders and catalogues append
_IS_MASK = re.compile(rf"(?i)(?<![a-z0-9])({_MASKS}){_END}")
_IS_STATE = re.compile(rf"(?i)(?<![a-z0-9])({_STATES}){_END}")


def is_mask(name: str) -> bool:
    """Whether a file, an asset or a band ends in the name of a mask or a classification, which is never averaged."""
    return _IS_MASK.search(name) is not None


def is_no_image(name: str) -> bool:
    """Whether it ends in the name of a mask, an angle, a height or a state of the air: nothing that a camera saw."""
    return is_mask(name) or _IS_STATE.search(name) is not None


def common_name(
    declared: str | None, centre: float | None = None, width: float | None = None, others: Iterable[str | None] = ()
) -> str | None:
    """The common name of a band, or None where nothing tells.

    Args:
        declared: common name as the item writes it, in any case.
        centre, width: centre and full width at half maximum in micrometres, or in nanometres.
        others: further names, the most trusted first, of which one may be a common name.
    """
    name = (declared or "").strip().lower()
    centre_um, width_um = _micrometres(centre, 100), _micrometres(width, 5)
    if centre_um is None or (name and name not in _COARSE):
        return name or next((other.lower() for other in others if other and other.lower() in COMMON_NAMES), None)
    found = _by_wavelength(centre_um, width_um or 0.0)
    if name == "nir" and _COARSE["nir"][0] <= centre_um <= _COARSE["nir"][1]:
        return name  # broad or narrow: near infrared it is
    return found or name or common_name(None, others=others)


def centre_um(name: str) -> float | None:
    """Middle of the range of wavelengths of a common name, in micrometres; None if it is none."""
    return next((sum(one.centre_um) / 2 for one in _RANGES if one.name == name), None)


def _by_wavelength(centre_um: float, width_um: float) -> str | None:
    fitting = (
        one.name
        for one in _RANGES
        if one.centre_um[0] <= centre_um <= one.centre_um[1] and one.width_um[0] <= width_um <= one.width_um[1]
    )
    return next(fitting, None)


def _micrometres(value: float | None, nanometres_from: float) -> float | None:
    if value is None or not value > 0:
        return None
    return value / 1000 if value > nanometres_from else value
