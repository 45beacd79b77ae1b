"""Models that compare an expression of bands with a threshold: open water, snow, hot spots. Nothing was trained or fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from earthloom.models.cards.card import ModelCard, ModelClass
from earthloom.models.cards.expression import bands_of, parse, values_held
from earthloom.models.cards.file import canonical
from earthloom.models.zoo.entry import REFLECTANCE, ZooEntry

_FLOAT_BYTES = 4


def formula_card(
    name: str, expression: str, *, values_besides: int, citation: str, arguments: Mapping[str, Any] | None = None,
    **fields: Any,
) -> ModelCard:  # fmt: skip
    """The card of a network that computes an expression at each pixel by itself.

    Args:
        expression: of bands by name (`models.cards.expression`).
        values_besides: arrays that are held beside the bands, as read and as normalised, and those of the expression.
        arguments: arguments of the network, beside the expression and its bands.
        fields: fields of the card.

    Raises:
        CardError: if the expression is none.
    """
    tree = parse(expression)
    bands = bands_of(tree)
    bytes_per_px = float(_FLOAT_BYTES * (2 * len(bands) + values_held(tree) + values_besides))
    return ModelCard(
        name=name, license="Apache-2.0", citation=citation, bands=bands, mean=(0.0,) * len(bands), std=(1.0,) * len(bands),
        arguments=canonical({"expression": str(tree), "names": list(bands), **(arguments or {})}),
        stride_px=1, support_px=0, halo_px=0, core_px=1024, flop_per_px=0.0,
        memory=(("bf16", bytes_per_px), ("fp32", bytes_per_px)), **fields,
    )  # fmt: skip


def threshold_card(
    name: str, expression: str, *, threshold: float = 0.0, classes: tuple[ModelClass, ModelClass], title: str,
    variant: str = "", description: str = "", citation: str = "", quantities: tuple[str, ...] = REFLECTANCE,
    gsd_m: tuple[float, float] = (0.3, 1000.0),
) -> ModelCard:  # fmt: skip
    """The card of two classes, parted where an expression crosses a threshold.

    Args:
        expression: of bands by name (`models.cards.expression`).
        classes: up to the threshold, and above it.

    Raises:
        CardError: if the expression is none.
    """
    return formula_card(
        name, expression, values_besides=4, arguments={"threshold": threshold}, architecture="threshold", variant=variant,
        title=title, description=description, citation=citation, quantities=quantities, gsd_m=gsd_m, classes=classes,
    )  # fmt: skip


MCFEETERS = (
    "McFeeters, S. K. (1996): The use of the Normalized Difference Water Index (NDWI) in the delineation of open water "
    "features. International Journal of Remote Sensing 17, 1425-1432."
)
XU = (
    "Xu, H. (2006): Modification of normalised difference water index (NDWI) to enhance open water features in remotely "
    "sensed imagery. International Journal of Remote Sensing 27, 3025-3033."
)
LAND_AND_WATER = (ModelClass(value=0, name="land", color="#b59f6b"), ModelClass(value=1, name="water", color="#1f78b4"))
_CLOUDS = "Shadows, snow and clouds may look like water to it: mask them first."


def _water(name: str, variant: str, expression: str, title: str, citation: str) -> ModelCard:
    return threshold_card(
        name, expression, variant=variant, classes=LAND_AND_WATER, title=title, citation=citation,
        description=f"{parse(expression)}, a threshold that needs no training. {_CLOUDS}",
    )  # fmt: skip


_NDWI, _MNDWI = "(green - nir) / (green + nir)", "(green - swir16) / (green + swir16)"
WATER_INDEX = (
    _water("water-index", "mndwi", _MNDWI, "Open water where MNDWI > 0", XU),
    _water("water-index", "ndwi", _NDWI, "Open water where NDWI > 0", MCFEETERS),
)
WATER_INDICES = _water(
    "water-indices", "", f"{_NDWI} + {_MNDWI}", "Open water where NDWI + MNDWI > 0", f"{MCFEETERS} {XU}"
)

SNOW = threshold_card(
    "snow", "min((green - swir16) / (green + swir16) - 0.4, nir - 0.11, green - 0.1)",
    title="Snow and ice where NDSI is above 0.4",
    description=(
        "NDSI above 0.4, with near infrared above 0.11, which excludes water, and green above 0.1, which excludes dark ground. "
        "It misses snow below dense forest; ice clouds and water with much sediment may look like snow. It was not tested on "
        "real snow."
    ),
    citation=(
        "Hall, D. K., Riggs, G. A., Salomonson, V. V. (1995): Development of methods for mapping global snow cover using "
        "moderate resolution imaging spectroradiometer data. Remote Sensing of Environment 54, 127-140. Hall, D. K., Riggs, "
        "G. A., Salomonson, V. V. (2001): Algorithm theoretical basis document for the MODIS snow and sea ice-mapping "
        "algorithms. NASA Goddard Space Flight Center."
    ),
    classes=(
        ModelClass(value=0, name="no_snow", color="#7a6f5a"),
        ModelClass(value=1, name="snow", color="#a6eef2"),
    ),
)  # fmt: skip

HOT_SPOTS = threshold_card(
    "hot-spots",
    "max(min(swir22 / swir16 - 1.4, swir22 / nir - 1.4, swir22 - 0.15), min(swir16 / nir - 2, swir16 - 0.5))",
    title="Flames and lava that shine in the short-wave infrared",
    description=(
        "The tests alpha and beta of HOTMAP, without its rule that a beta pixel touches an alpha pixel: ground that is "
        "brighter in swir22 than in swir16 and nir, or so hot that swir16 is twice nir. Made for top-of-atmosphere "
        "reflectance at 20 to 30 m. It was not tested on a real fire. For burn scars, use burn-nbr."
    ),
    citation=(
        "Murphy, S. W., de Souza Filho, C. R., Wright, R., Sabatino, G., Correa Pabon, R. (2016): HOTMAP: global hot target "
        "detection at moderate spatial resolution. Remote Sensing of Environment 177, 78-88."
    ),
    gsd_m=(8.0, 60.0),
    classes=(
        ModelClass(value=0, name="not_hot", color="#4d4d4d"),
        ModelClass(value=1, name="hot", color="#ff3b00"),
    ),
)  # fmt: skip

ENTRIES = (
    ZooEntry(cards=WATER_INDEX),
    ZooEntry(cards=(WATER_INDICES,)),
    ZooEntry(cards=(SNOW,)),
    ZooEntry(cards=(HOT_SPOTS,)),
)
