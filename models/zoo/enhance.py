"""Enhancements without trained weights: pansharpening, noise, stripes, haze and contrast. Nothing is fetched.

All of them take any bands that a scene has. Their mean is -1, so that a pixel that is valid is never 0 to the network.
"""

from __future__ import annotations

import json
from typing import Any

from earthloom.models.cards.card import ModelCard
from earthloom.models.zoo.entry import REFLECTANCE, ZooEntry

_ANY = (*REFLECTANCE, "unit", "dn")
_ANY_GSD_M = (0.1, 1000.0)


def _card(
    name: str, *, title: str, description: str, citation: str, architecture: str, support_px: int, variant: str = "",
    task: str = "regression", bands: tuple[str, ...] = ("*",), quantities: tuple[str, ...] = _ANY,
    gsd_m: tuple[float, float] = _ANY_GSD_M, output_dtype: str = "", bytes_per_px: tuple[float, float],
    version: str = "1.1.0", **arguments: Any,
) -> ModelCard:  # fmt: skip
    return ModelCard(
        name=name, variant=variant, version=version, title=title, description=description, license="Apache-2.0",
        citation=citation,
        task=task, architecture=architecture, arguments=json.dumps(arguments, sort_keys=True, separators=(",", ":")),
        bands=bands, quantities=quantities, mean=(-1.0,) * len(bands), std=(1.0,) * len(bands), gsd_m=gsd_m,
        outputs=("*",), output_dtype=output_dtype, needs_survey=True, stride_px=1, support_px=support_px,
        halo_px=support_px, core_px=1024, memory=(("bf16", bytes_per_px[0]), ("fp32", bytes_per_px[0])),
        memory_per_band=bytes_per_px[1], flop_per_px=0.0,
    )  # fmt: skip


def _pansharpen(
    name: str, architecture: str, ratio: int, support_px: int, how: str, citation: str, version: str = "1.1.0"
) -> ModelCard:
    return _card(
        name,
        version=version,
        title=f"Bands sharpened {ratio} times by a panchromatic one, {how}",
        description=(
            f"For bands whose pixels are {ratio} times as wide as those of the panchromatic band, resampled bilinearly "
            "onto its grid. Intensity and weights come from a regression over the scene; interpolated bands are sharpened "
            "first. Bands outside the panchromatic range, such as short-wave infrared, get plausible detail that was not "
            "measured; objects that moved between the two exposures get a fringe. The alignment of pan and bands is checked."
        ),
        citation=citation,
        architecture=architecture,
        task="super-resolution",
        bands=("pan", "*"),
        support_px=support_px,
        bytes_per_px=(109.0, 15.0),
        ratio=ratio,
    )


_GSA = (
    "Aiazzi, B., Baronti, S., Selva, M. (2007): Improving component substitution pansharpening through multivariate "
    "regression of MS + Pan data. IEEE Transactions on Geoscience and Remote Sensing 45, 3230-3239. Aiazzi, B., Baronti, "
    "S., Lotti, F., Selva, M. (2009): A comparison between global and context-adaptive pansharpening of multispectral "
    "images. IEEE Geoscience and Remote Sensing Letters 6, 302-306."
)
_BROVEY = (
    "Gillespie, A. R., Kahle, A. B., Walker, R. E. (1987): Color enhancement of highly correlated images. II. Channel "
    "ratio and chromaticity transformation techniques. Remote Sensing of Environment 22, 343-365."
)
_CHAVEZ = (
    "Chavez, P. S. (1988): An improved dark-object subtraction technique for atmospheric scattering correction of "
    "multispectral data. Remote Sensing of Environment 24, 459-479."
)


def _destripe(name: str, direction: str) -> ModelCard:
    return _card(
        name,
        title=f"Stripes along {direction} removed",
        description=(
            f"Subtracts what each of the {direction} has more or less than its neighbours, estimated from up to 2048 px of "
            "each. It removes stripes that run along the grid and are narrower than 33 px. It does not fill missing lines, and "
            "does not remove oblique detector stripes in scenes that were rotated onto a map grid."
        ),
        citation=(
            "Carfantan, H., Idier, J. (2010): Statistical linear destriping of satellite-based pushbroom-type images. IEEE "
            "Transactions on Geoscience and Remote Sensing 48, 1860-1871."
        ),
        architecture="destripe",
        support_px=0,
        bytes_per_px=(9.0, 15.0),
        direction=direction,
    )


def _dehaze(variant: str, quantities: tuple[str, ...], keep: float) -> ModelCard:
    return _card(
        "dehaze",
        variant=variant,
        title="Haze removed by dark-object subtraction that adapts to uneven haze",
        description=(
            f"Subtracts from each band what its darkest 1/256 has above {keep}, and more where the dark objects of a part "
            "of the scene (256 px, more in scenes beyond 5000 px a side) are brighter, without visible edges. Meant for "
            "values that are not corrected for the atmosphere. Part of a thick haze remains. Snow that covers a whole part "
            "of the scene looks like haze, so mask clouds and snow first. It may come before a stretch."
        ),
        citation=(
            f"{_CHAVEZ} Makarau, A., Richter, R., Müller, R., Reinartz, P. (2014): Haze detection and removal in remotely "
            "sensed multispectral imagery. IEEE Transactions on Geoscience and Remote Sensing 52, 5895-5905."
        ),
        architecture="dark-object",
        quantities=quantities,
        support_px=0,
        bytes_per_px=(9.0, 15.0),
        keep=keep,
    )


_DENOISE = _card(
    "denoise",
    version="1.2.0",
    title="Noise reduced by averaging pixels with similar surroundings",
    description=(
        "Non-local means over all bands together. Its strength follows from the noise measured in the calmer parts of the "
        "scene: what the bands do not share. Texture as faint as the noise is lost too, so leave images with hardly any noise "
        "unchanged. In a single band, texture may be mistaken for noise."
    ),
    citation=(
        "Buades, A., Coll, B., Morel, J.-M. (2005): A non-local algorithm for image denoising. IEEE Conference on Computer "
        "Vision and Pattern Recognition, 60-65. Roger, R. E., Arnold, J. F. (1996): Reliably estimating the noise in AVIRIS "
        "hyperspectral images. International Journal of Remote Sensing 17, 1951-1962."
    ),
    architecture="non-local-means",
    support_px=4,
    bytes_per_px=(39.0, 33.0),
)
_STRETCH = _card(
    "stretch",
    title="Contrast stretched between the 2 % and 98 % quantiles of the scene",
    description=(
        "8 bits per band for display, with one linear rule for the whole scene. Clouds count as ground unless a cloud mask "
        "comes first."
    ),
    citation="Earthloom",
    architecture="percentile-stretch",
    output_dtype="uint8",
    support_px=0,
    bytes_per_px=(1.0, 15.0),
)
_EQUALISED = _card(
    "stretch-clahe",
    title="Histogram equalised with limited contrast, for the whole scene",
    description=(
        "8 bits per band for display, with one curve for the whole scene instead of one per tile, so that no border shows. "
        "Each band has its own curve, so colours shift."
    ),
    citation=(
        "Zuiderveld, K. (1994): Contrast limited adaptive histogram equalization. In: Graphics Gems IV, Academic Press, "
        "474-485."
    ),
    architecture="equalised-stretch",
    output_dtype="uint8",
    support_px=0,
    bytes_per_px=(39.0, 16.0),
)

ENTRIES: tuple[ZooEntry, ...] = tuple(
    ZooEntry(cards=cards)
    for cards in (
        (_pansharpen("pansharpen", "pansharpen-gsa", 2, 5, "Gram-Schmidt adaptive with local gains", _GSA),),
        (_pansharpen("pansharpen-4x", "pansharpen-gsa", 4, 10, "Gram-Schmidt adaptive with local gains", _GSA),),
        (_pansharpen("pansharpen-brovey", "pansharpen-brovey", 2, 3, "by the ratio of intensities", _BROVEY, "1.2.0"),),
        (_DENOISE,),
        (_destripe("destripe", "columns"),),
        (_destripe("destripe-rows", "rows"),),
        (_dehaze("reflectance", REFLECTANCE, 0.01), _dehaze("dn", ("unit", "dn"), 0.0)),
        (_STRETCH,),
        (_EQUALISED,),
    )
)
