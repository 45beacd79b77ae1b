"""`landwater`: the five-class U-Net of ukis-csmask 0.2.1, converted from its published ONNX graphs."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

from earthloom.models.cards.card import ModelCard, ModelClass
from earthloom.models.zoo.entry import REFLECTANCE, Wheel, ZooEntry

_WHEEL = Wheel("ukis-csmask==0.2.1", "6a40e1cab2ba5f53d44dcbd271927830addc148bd0b66958688625a43964c906")
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
        description=(
            "Five-class U-Net trained on Landsat and Sentinel-2 top-of-atmosphere reflectance. It misses narrow water: "
            "compared with a land-cover map of North Carolina at 28.5 m, it finds a quarter of the water, at a precision "
            "of three quarters. It takes 28 to 54 % of the pixels of ships in six ports for water, and sea with sun glint "
            "may become land. Bright playa, salt and quarries may become cloud, salt snow, and dark slopes "
            "shadow. Taking water where both NDWI and MNDWI say so was tried: better on 60 chips of "
            "lakes and rivers (mean IoU 0.486 to 0.498, masks of another date), worse on the map (0.228 to 0.191) and on ships."
        ),
        license="Apache-2.0",
        citation=(
            "ukis-csmask, German Aerospace Center (DLR). Wieland, M., Li, Y., Martinis, S. (2019): Multi-sensor cloud and "
            "cloud shadow segmentation with a convolutional neural network. Remote Sensing of Environment 230, 111203."
        ),
        architecture="ukis-unet",
        bands=_CSMASK_BANDS[:n_bands],
        quantities=REFLECTANCE,
        mean=_CSMASK_MEAN[:n_bands],
        std=_CSMASK_STD[:n_bands],
        gsd_m=(8.0, 60.0),
        classes=(
            ModelClass(value=0, name="shadow", color="#4d4d4d", description="Cloud shadow"),
            ModelClass(value=1, name="water", color="#1f78b4"),
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


def _convert(card: ModelCard, wheel: ZipFile, target: Path) -> None:
    from earthloom.models.networks.registry import build
    from earthloom.models.zoo.convert.convert import onnx_to_safetensors

    graph = wheel.read(f"ukis_csmask/model_{card.variant}.onnx")
    onnx_to_safetensors(graph, build(card), len(card.bands), card.stride_px, target)


ENTRY = ZooEntry(cards=LANDWATER, wheel=_WHEEL, convert=_convert)
