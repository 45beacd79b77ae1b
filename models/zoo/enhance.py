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
            "onto its grid. Intensity and weights by regression over the scene; interpolated bands are made crisp first. "
            "Bands that the panchromatic one does not see, as short-wave infrared, get detail that is likely and not measured; "
            "what moved between the two exposures gets a fringe. How pan lies on the bands is checked."
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
        title=f"Stripes along {direction} taken away",
        description=(
            f"What each of the {direction} has more or less than its neighbours all along, found by a look at up to 2048 px of "
            "each. For stripes that run along the grid and are narrower than 33 px; missing lines are not filled, and "
            "stripes of a detector in a scene that was turned onto a map run askew and stay."
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
        title="Haze taken away by dark-object subtraction, more where there is more of it",
        description=(
            f"What the darkest 1/256 of each band has above {keep} is taken from the whole band, and where the dark objects of "
            "a part of the scene (256 px, more in scenes beyond 5000 px a side) are brighter, more, without edges. Meant for "
            "values that are not corrected for the atmosphere. Of thick haze a part stays. Snow over a whole part of "
            "the scene looks like haze: mask clouds and snow first. It may come before a stretch."
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
    title="Noise averaged away over pixels whose surroundings look alike",
    description=(
        "Non-local means over all bands together; how strong it is follows from the noise found in the scene: what the bands "
        "do not share, in its calmer parts. Texture as faint as the noise goes with it, so an image with next to none is "
        "better left alone; of a single band, texture may be taken for noise."
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
        "8 bits per band for display; one linear rule for the whole scene. Clouds count as ground unless a mask of them "
        "comes before it."
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
        "8 bits per band for display; one curve for the whole scene and not one per tile, so that no border shows. Each band "
        "has its own curve, so colours shift."
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
