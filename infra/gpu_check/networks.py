"""The networks that are measured, as card folders: their own architecture, weights from a fixed seed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard, ModelClass, ObjectRule
from earthloom.models.cards.file import canonical, load_card, write_card
from earthloom.models.device.resolve import resolve
from earthloom.models.inference.predictor import Predictor
from earthloom.models.networks import registry
from earthloom.models.training.export import save_weights
from earthloom.models.zoo.landwater import LANDWATER
from earthloom.models.zoo.span import SPAN
from earthloom.tiling.storage.objects import ObjectRef
from infra.gpu_check.sections import Size, Task
from tests.bench.command import LANDWATER_BANDS

_CLASSES = tuple(ModelClass(value=n, name=f"class_{n}", color=f"#0000{40 * n:02x}") for n in range(4))
_RGBN = LANDWATER_BANDS[:4]
_SMP = ModelCard(
    name="smp", title="Weights from a seed", architecture="smp", bands=_RGBN, quantities=("toa_reflectance",),
    mean=(0.25,) * 4, std=(0.1,) * 4, gsd_m=(1.0, 100.0), classes=_CLASSES, stride_px=32, halo_px=128, core_px=1024,
)  # fmt: skip
"""A plausible halo: neither speed nor seams of weights from a seed are judged by it."""


def _unet(encoder: str, overlap: str = "exact") -> ModelCard:
    arguments = canonical({"arch": "unet", "encoder_name": encoder})
    return replace(_SMP, name=f"unet-{encoder}", arguments=arguments, overlap=overlap)


def dpt(name: str, vit: str) -> ModelCard:
    """A dense prediction transformer on a plain ViT that takes chips of any size (Ranftl et al. 2021, arXiv:2103.13413)."""
    arguments = canonical({"arch": "dpt", "encoder_name": f"tu-{vit}", "decoder_readout": "cat"})
    return replace(_SMP, name=name, arguments=arguments, overlap="blend")


def _landwater() -> ModelCard:
    return replace(LANDWATER[0], name="landwater-seeded", weights=None)


def _span() -> ModelCard:
    return replace(SPAN[0].bind(_RGBN), name="span-x2", weights=None)


def _objects() -> ModelCard:
    return replace(
        _SMP, name="objects", architecture="lite-unet", task="object-detection", classes=_CLASSES[:1], stride_px=16,
        objects=ObjectRule(threshold=0.999), activation="sigmoid", halo_px=224, memory=(("bf16", 252.0), ("fp32", 481.0)),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], ModelCard]] = {
    "landwater": _landwater,
    "unet-resnet18": partial(_unet, "resnet18"),
    "unet-resnet50": partial(_unet, "resnet50"),
    "unet-efficientnet-b4": partial(_unet, "efficientnet-b4", "blend"),  # squeeze-excite sees all of a chip
    "dpt-vit-s": partial(dpt, "dpt-vit-s", "vit_small_patch16_dinov3"),
    "objects": _objects,
    "span-x2": _span,
}
"""By the names of the table."""


def make(name: str, folder: Path, size: Size, card: ModelCard | None = None) -> ModelCard:
    """Write a network's card folder, in the size of the check; its card."""
    card = card or NETWORKS[name]()
    halo_px = card.halo_px or 0
    if card.support_px is None:  # made up, so that it may shrink with the chips
        halo_px = min(halo_px, size.core_px // 4 // card.stride_px * card.stride_px)
    card = replace(card, core_px=card.core_px * size.core_px // 1024, halo_px=halo_px)
    torch.manual_seed(7)
    folder.mkdir(parents=True, exist_ok=True)
    card = replace(card, weights=save_weights(registry.build(card).state_dict(), folder / weights.FILE, "fp32"))
    write_card(folder, card)
    return card


def predictor_of(task: Task, name: str, *, precision: str = "auto", batch: int | None = None) -> Predictor:
    """A network that `prepare` has made, on the task's device."""
    folder = folder_of(task, name)
    card = load_card(ObjectRef.parse(str(folder)))
    return Predictor(card, folder / weights.FILE, resolve(task.device, precision), batch)


def folder_of(task: Task, name: str) -> Path:
    """Its card folder; made here if `prepare` has not come to it."""
    folder = task.work / "networks" / name
    if not folder.is_dir():
        aside = folder.with_name(f".{name}.{os.getpid()}")
        make(name, aside, task.size)
        with suppress(OSError):  # the other process was faster
            aside.rename(folder)
    return folder
