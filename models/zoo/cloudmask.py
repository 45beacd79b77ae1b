"""`cloudmask`: clouds and their shadows, from twelve Sentinel-2 bands or from six or four of any optical sensor.

Two published families under one name. Both are U-Nets of segmentation-models-pytorch on an EfficientNet encoder, whose
squeeze-and-excitation pools over the whole chip: their answer depends on all of it, so their chips are blended. The
twelve-band network minds its surroundings most; its chips of 768 px are near the 736 that its own package gives it.
"""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

from earthloom.models.cards.card import ModelCard, ModelClass
from earthloom.models.zoo.entry import Wheel, ZooEntry

_CSMASK = Wheel("ukis-csmask==1.0.0", "898d6efe59b3908ec92aabad3f61a56394ff81d997a2ebe5675732503a18d1f1")
_SENTLE = Wheel("sentle==2026.10.2", "f391290cab9846b67c00a6ddfca20ccb49f414ee7ca796a8f57d5c1dd052c787")

_CLEAR = ModelClass(value=0, name="clear", color="#b59f6b")
_SHADOW_COLOR = "#4d4d4d"

_S2_BANDS = (
    "coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "nir09", "swir16",
    "swir22",
)  # fmt: skip
_SENTINEL2 = ModelCard(
    name="cloudmask",
    variant="s2-12b",
    version="2026.10.2",
    title="Thick cloud, thin cloud and shadow from twelve Sentinel-2 bands",
    description=(
        "Four-class U-Net for Sentinel-2 surface reflectance at 10 m, all bands but B10 (cirrus). White roofs, sand and snow "
        "may look like cloud, and the thinnest clouds may be missed. The only available reference was the output of its own "
        "package, which it reproduces."
    ),
    license="MIT",
    citation=(
        "sentle, Clemens Mosig, Leipzig University. Its classes are those of Aybar, C. et al. (2022): CloudSEN12, a "
        "global dataset for semantic understanding of cloud and cloud shadow in Sentinel-2. Scientific Data 9, 782."
    ),
    architecture="smp",
    arguments='{"arch":"unet","encoder_name":"efficientnet-b1"}',
    bands=_S2_BANDS,
    quantities=("boa_reflectance", "reflectance"),
    mean=(0.0,) * len(_S2_BANDS),
    std=(1.0,) * len(_S2_BANDS),
    gsd_m=(8.0, 20.0),
    classes=(
        _CLEAR,
        ModelClass(value=1, name="thick_cloud", color="#ffffff", description="Opaque cloud"),
        ModelClass(value=2, name="thin_cloud", color="#a8c5da", description="Cloud through which the ground is seen"),
        ModelClass(value=3, name="shadow", color=_SHADOW_COLOR, description="Cloud shadow"),
    ),
    masks=(1, 2, 3),
    stride_px=32,
    halo_px=128,
    core_px=512,
    overlap="blend",
    memory=(("bf16", 316.0), ("fp32", 465.0)),
    flop_per_px=99748.8,
    weights="d95100b89f193d6bf8f5bdade496773dad0672c3664eae86dcf151bb123adfa1",
)

_BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
_MEAN = {
    "l1c": (0.27552253, 0.25566444, 0.26980153, 0.33431220, 0.20851292, 0.15826508),
    "l2a": (0.26681778, 0.27799085, 0.28811994, 0.36494744, 0.22257099, 0.17859040),
}
_STD = {
    "l1c": (0.24488002, 0.22757471, 0.25371522, 0.23213787, 0.14873883, 0.12604216),
    "l2a": (0.33637598, 0.31254560, 0.31114846, 0.27260706, 0.16653667, 0.14328985),
}
_QUANTITIES = {"l1c": ("toa_reflectance",), "l2a": ("boa_reflectance", "reflectance")}


def _csmask(n_bands: int, level: str, sha256: str) -> ModelCard:
    top = level == "l1c"
    return ModelCard(
        name="cloudmask",
        variant=f"{n_bands}b-{level}",
        version="1.0.0",
        title=f"Cloud and shadow from {n_bands} bands of {'top-of-atmosphere' if top else 'surface'} reflectance",
        description=(
            "Three-class U-Net trained on Landsat and Sentinel-2 reflectance "
            f"{'at the top of the atmosphere' if top else 'corrected for the atmosphere'}; works best near 30 m."
        ),
        license="Apache-2.0",
        citation=(
            "ukis-csmask, German Aerospace Center (DLR). Wieland, M., Fichtner, F., Martinis, S. (2022): UKIS-CSMASK, a "
            "Python package for multi-sensor cloud and cloud shadow segmentation. International Archives of the "
            "Photogrammetry, Remote Sensing and Spatial Information Sciences XLIII-B3-2022, 217-222."
        ),
        architecture="smp",
        arguments='{"arch":"unet","encoder_name":"efficientnet-b4"}',
        bands=_BANDS[:n_bands],
        quantities=_QUANTITIES[level],
        mean=_MEAN[level][:n_bands],
        std=_STD[level][:n_bands],
        gsd_m=(8.0, 60.0),
        classes=(
            _CLEAR,
            ModelClass(value=1, name="cloud", color="#ffffff"),
            ModelClass(value=2, name="shadow", color=_SHADOW_COLOR, description="Cloud shadow"),
        ),
        masks=(1, 2),
        stride_px=32,
        halo_px=64,
        core_px=512,
        overlap="blend",
        memory=(("bf16", 272.0), ("fp32", 525.0)) if n_bands == 6 else (("bf16", 265.0), ("fp32", 521.0)),
        flop_per_px=141860.9 if n_bands == 6 else 141428.9,
        weights=sha256,
    )


CLOUDMASK = (
    _SENTINEL2,
    _csmask(6, "l1c", "f5af904f592312422801019888f51a8ee53c12d05770916c702707565abd5128"),
    _csmask(6, "l2a", "128bb10eab863cb7164b0f1595cb8de6ac34f8650a4c1f572d74090dd199df43"),
    _csmask(4, "l1c", "883b7015651c613f8229fb58e3af7ef3ec30c51dc24a034ddbee559cc6946e8a"),
    _csmask(4, "l2a", "a6f7eb830919255bfdf8d6db152081f02b27921a2a0a7bf921f90f84f8649abe"),
)


def _convert(card: ModelCard, wheel: ZipFile, target: Path) -> None:
    from earthloom.models.networks.registry import build
    from earthloom.models.zoo.convert.convert import onnx_tensors, state_to_safetensors
    from earthloom.models.zoo.convert.torchscript_archive import torchscript_tensors

    if card.variant == _SENTINEL2.variant:
        tensors = torchscript_tensors(wheel.read("sentle/data/cloudmodel.pt"))
    else:
        name = "_".join(card.variant.split("-"))
        graph = onnx_tensors(wheel.read(f"ukis_csmask/model_{name}.onnx"))
        tensors = {name.removeprefix("model."): tensor for name, tensor in graph.items()}
    state_to_safetensors(tensors, build(card), len(card.bands), card.stride_px, target)


ENTRY = ZooEntry(cards=CLOUDMASK, wheel=_CSMASK, wheels=((_SENTINEL2.variant, _SENTLE),), convert=_convert)
