"""`water-index`: open water by a threshold on MNDWI or NDWI; nothing was trained and nothing is fetched."""

from __future__ import annotations

from earthloom.models.cards.card import ModelCard, ModelClass
from earthloom.models.zoo.entry import REFLECTANCE, ZooEntry


def _water_index(variant: str, other: str, citation: str) -> ModelCard:
    return ModelCard(
        name="water-index",
        variant=variant,
        title=f"Open water where {variant.upper()} > 0",
        description=f"(green - {other}) / (green + {other}), a threshold that needs no training.",
        license="Apache-2.0",
        citation=citation,
        architecture="spectral-index",
        arguments='{"sharpness":20.0,"threshold":0.0}',
        bands=("green", other),
        quantities=REFLECTANCE,
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        gsd_m=(0.3, 1000.0),
        classes=(
            ModelClass(value=0, name="land", color="#b59f6b"),
            ModelClass(value=1, name="water", color="#1f78b4"),
        ),
        stride_px=1,
        support_px=0,
        halo_px=0,
        core_px=1024,
        memory=(("bf16", 65.0), ("fp32", 65.0)),
        flop_per_px=0.0,
    )


WATER_INDEX = (
    _water_index(
        "mndwi",
        "swir16",
        "Xu, H. (2006): Modification of normalised difference water index (NDWI) to enhance open water features in "
        "remotely sensed imagery. International Journal of Remote Sensing 27, 3025-3033.",
    ),
    _water_index(
        "ndwi",
        "nir",
        "McFeeters, S. K. (1996): The use of the Normalized Difference Water Index (NDWI) in the delineation of open "
        "water features. International Journal of Remote Sensing 17, 1425-1432.",
    ),
)

ENTRY = ZooEntry(cards=WATER_INDEX)
