"""Drafts a training's card without weights, and finds where the network's first weights come from."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from earthloom.jobs.learning.config import ChipTable, TrainConfig
from earthloom.jobs.records.names import CARRIED
from earthloom.models.cards import weights
from earthloom.models.cards.card import LabelRule, ModelCard, ModelClass, ObjectRule, shade
from earthloom.models.cards.file import canonical
from earthloom.models.training.network import TRAINED, named
from earthloom.models.zoo import variants
from earthloom.tiling.errors import CardError, ConfigError
from earthloom.tiling.grid import Grid
from earthloom.tiling.rounding import round_up
from earthloom.tiling.storage.objects import ObjectRef

NOTHING = "nothing"
_FILES = (".safetensors", ".pt", ".pth")
_FOLLOW = ("in_channels", "classes")
"""Arguments of a network that the bands and the classes of the training decide, whatever an imported card says."""
_MARGIN = 1.25
"""A network is known to work at the pixel sizes that it has seen, and a little beyond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """Source of the first weights.

    Attributes:
        name: as the user gave it.
        path: path of the file; None for random weights.
        sha256: digest of its bytes.
        card: card of the model that they belong to; None for a file without one.
    """

    name: str
    path: Path | None = None
    sha256: str | None = None
    card: ModelCard | None = None


def first_weights(start: str, out: str | None = None) -> First:
    """Find what `start` names.

    Args:
        out: where the training writes, and weights lie that `earthloom submit` brought.

    Raises:
        CardError: if there is no such model or file.
    """
    if start == NOTHING:
        return First(name=start)
    path = Path(start)
    if path.suffix in _FILES:
        if not path.is_file():
            raise CardError(
                f"'start={start}' does not exist on {platform.node()}; on a cluster every node must see that file"
            )
        return First(name=path.name, path=path, sha256=weights.sha256_of(path))
    card, folder = variants(start, ObjectRef.parse(out) / CARRIED if out else None)[0]
    if card.weights is None:
        raise CardError(f"'start={start}': {card.label} has no weights to start from")
    if card.kind == "image":
        raise CardError(
            f"'start={start}': {card.label} makes {card.makes}; start from a segmentation, a classifier or a detector"
        )
    if card.architecture not in TRAINED:
        raise CardError(
            f"'start={start}': {card.label} is a network of the kind {card.architecture}, which cannot be trained further; "
            f"`earthloom distil {start}` teaches another network what it says"
        )
    return First(name=card.label, path=weights.fetch(folder, card.weights), sha256=card.weights, card=card)


def bands_of(config: TrainConfig, first: First) -> tuple[str, ...]:
    """The bands that the network is to see.

    Raises:
        ConfigError: if nobody names them.
    """
    bands = config.model.bands or (first.card.bands if first.card else ())
    if not bands:
        raise ConfigError(
            "`model.bands` is missing: name the bands that the network sees, in the order of its channels"
        )
    if len(set(bands)) < len(bands) or "*" in bands:
        raise ConfigError(f"`model.bands` are different names of bands, got {', '.join(bands)}")
    return bands


def draft(
    config: TrainConfig, first: First, bands: tuple[str, ...], *, quantity: str, grids: Sequence[Grid],
    mean: tuple[float, ...], std: tuple[float, ...],
) -> ModelCard:  # fmt: skip
    """The card that the trained network will have, without weights, halo and scores.

    Args:
        quantity: quantity of all scenes.
        grids: grids of the scenes, whose pixel sizes it will know.
        mean, std: of each band as measured; those that the user gives, or a card that is started from has, count more.

    Raises:
        CardError: if there is no such network, or the classes' values are not 0, 1, 2, ….
        ConfigError: if no network is named.
    """
    table = config.model
    if given := [name for name in _FOLLOW if name in table.arguments]:
        raise ConfigError(f"'model.arguments' has {given[0]}, which follows from the bands and classes; leave it out")
    if table.architecture is not None:
        architecture, arguments, stride = named(table.architecture, table.encoder, table.arguments, bands)
    elif first.card is not None:
        own = {name: value for name, value in first.card.kwargs.items() if name not in _FOLLOW}
        architecture, arguments, stride = first.card.architecture, canonical(own), first.card.stride_px
    else:
        raise ConfigError("`model.architecture` is missing: unet with an 'encoder', lite-unet, … (docs/training.md)")
    if (architecture == "chip-classifier") != (config.chips is not None):
        raise ConfigError(
            "a 'classifier' labels chips, and [chips] says which: "
            + ("add the table" if config.chips is None else f"choose it in the place of {architecture}")
        )
    if table.crop_px % stride:
        raise ConfigError(
            f"'crop_px={table.crop_px}' is not a multiple of the network's stride {stride}; use "
            f"{round_up(table.crop_px, stride)}"
        )
    mean, std = _normalisation(config, first, bands, quantity, mean, std)
    sizes = [grid.gsd_m() for grid in grids] or [1.0]
    reach = config.augment.zoom * _MARGIN
    about = config.card
    card = ModelCard(
        name=config.name, version=about.version, title=about.title or f"{config.name}, trained by earthloom train",
        description=about.description, license=about.license, citation=about.citation, architecture=architecture,
        arguments=arguments, bands=bands, quantities=(quantity,), mean=mean, std=std,
        gsd_m=(_short(min(sizes) / reach), _short(max(sizes) * reach)), classes=classes_of(config), stride_px=stride,
        **_of_chips(config.chips),
    )  # fmt: skip
    if config.objects is None:
        return card
    rule = ObjectRule(**config.objects.model_dump())
    return replace(card, objects=rule, task="object-detection", activation="sigmoid")


def _of_chips(table: ChipTable | None) -> dict[str, Any]:
    """Further fields of a card that labels chips, whose size is not measured."""
    if table is None:
        return {}
    return {
        "labels": LabelRule(least_valid=table.least_valid), "core_px": table.core_px, "halo_px": table.context_px,
        "task": "scene-classification",
    }  # fmt: skip


def classes_of(config: TrainConfig) -> tuple[ModelClass, ...]:
    """The classes as a card has them, in the order of their values."""
    listed = sorted(config.labels.classes, key=lambda each: each.value)
    return tuple(
        ModelClass(value=each.value, name=each.name, color=each.color or shade(place, len(listed)))
        for place, each in enumerate(listed)
    )


def _normalisation(
    config: TrainConfig, first: First, bands: tuple[str, ...], quantity: str, mean: tuple[float, ...],
    std: tuple[float, ...],
) -> tuple[tuple[float, ...], tuple[float, ...]]:  # fmt: skip
    """Mean and std by which each band is normalised: as given, else as the network that is started from knows it."""
    given = (config.model.mean, config.model.std)
    for name, values in zip(("mean", "std"), given, strict=True):
        if values is not None and len(values) != len(bands):
            raise ConfigError(f"`model.{name}` has {len(values)} numbers for {len(bands)} bands: {', '.join(bands)}")
    known: dict[str, tuple[float, float]] = {}
    if first.card is not None and quantity in first.card.quantities:
        known = {band: (m, s) for band, m, s in zip(first.card.bands, first.card.mean, first.card.std, strict=True)}
    measured = [known.get(band, both) for band, both in zip(bands, zip(mean, std, strict=True), strict=True)]
    return given[0] or tuple(m for m, _ in measured), given[1] or tuple(s for _, s in measured)


def _short(value: float) -> float:
    return float(f"{value:.3g}")
