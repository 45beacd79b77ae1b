"""The cards of the zoo, as they were measured. Values only: builds nothing, reads nothing."""

from __future__ import annotations

from models.card import ModelCard, ModelClass

_REFLECTANCE = ("toa_reflectance", "boa_reflectance", "reflectance")
_WATER = "#1f78b4"

_CSMASK_BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
_CSMASK_MEAN = (0.19312, 0.18659, 0.18899, 0.30362, 0.23085, 0.16216)
_CSMASK_STD = (0.16431, 0.16762, 0.18230, 0.17409, 0.16020, 0.14164)


def _landwater(variant: str, sha256: str, *, memory: tuple[tuple[str, float], ...], flop_per_px: float) -> ModelCard:
    n_bands = int(variant[0])
    return ModelCard(
        name="landwater",
        variant=variant,
        version="0.2.1",
        title=f"Land, water, snow, cloud and shadow from {n_bands} bands",
        description="Five-class U-Net trained on Landsat and Sentinel-2 top-of-atmosphere reflectance.",
        license="Apache-2.0",
        citation=(
            "ukis-csmask, German Aerospace Center (DLR). Wieland, M., Li, Y., Martinis, S. (2019): Multi-sensor cloud and "
            "cloud shadow segmentation with a convolutional neural network. Remote Sensing of Environment 230, 111203."
        ),
        architecture="ukis-unet",
        bands=_CSMASK_BANDS[:n_bands],
        quantities=_REFLECTANCE,
        mean=_CSMASK_MEAN[:n_bands],
        std=_CSMASK_STD[:n_bands],
        gsd_m=(8.0, 60.0),
        classes=(
            ModelClass(value=0, name="shadow", color="#4d4d4d", description="Cloud shadow"),
            ModelClass(value=1, name="water", color=_WATER),
            ModelClass(value=2, name="snow_ice", color="#a6eef2", description="Snow and ice"),
            ModelClass(value=3, name="land", color="#b59f6b"),
            ModelClass(value=4, name="cloud", color="#ffffff"),
        ),
        stride_px=16,
        support_px=94,
        halo_px=96,
        core_px=1024,
        weights=sha256,
        memory=memory,
        flop_per_px=flop_per_px,
    )


LANDWATER = (
    _landwater(
        "6b",
        "bfe80267cfb12106be0d0da5dffc2ad54e951e4deb9b1fc5f87e2f9098c82c20",
        memory=(("bf16", 354.0), ("fp32", 633.0)),
        flop_per_px=370368.0,
    ),
    _landwater(
        "4b",
        "e795484177a50288476cdf1df3c1c981712c854151761ff67bc6547fa65a1464",
        memory=(("bf16", 347.0), ("fp32", 592.0)),
        flop_per_px=369216.0,
    ),
)


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
        quantities=_REFLECTANCE,
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        gsd_m=(0.3, 1000.0),
        classes=(
            ModelClass(value=0, name="land", color="#b59f6b"),
            ModelClass(value=1, name="water", color=_WATER),
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
