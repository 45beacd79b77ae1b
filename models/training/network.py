"""Turns the names that a user gives a network into a card's: its entry in the registry, its arguments and its stride."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import canonical
from earthloom.models.networks import registry
from earthloom.models.networks.smp_stride import smp_stride
from earthloom.models.networks.torchvision_ops import define_missing_ops
from earthloom.models.training.start import Start, from_file, from_network
from earthloom.tiling.errors import CardError
from earthloom.tiling.suggest import did_you_mean

_OWN = {"lite-unet": 16, "ukis-unet": 16}
"""Networks of our own that can be trained, with their strides."""
GALILEO = "galileo"
"""An encoder of band groups with a light head; its stride is the side of its patches."""
CLASSIFIER = "classifier"
"""A classifier of timm, which labels chips; each chip is seen by itself, so that no pooling grid has to meet another."""
TRAINED = (*_OWN, GALILEO, "smp", "chip-classifier")
"""Networks of the registry that learn from batches."""


def named(
    architecture: str, encoder: str | None, arguments: Mapping[str, Any], bands: Sequence[str] = ()
) -> tuple[str, str, int]:  # fmt: skip
    """Name in the registry, arguments as canonical JSON, and stride of a network.

    Args:
        architecture: `lite-unet`, `ukis-unet`, `galileo`, one of segmentation-models-pytorch by its name there, or
            `classifier`.
        encoder: of the last two.
        arguments: further ones of the network.
        bands: that it is to see, for `galileo`, whose layers go by their names.

    Raises:
        CardError: for an unknown architecture, or an encoder where there is none to choose.
    """
    define_missing_ops()
    import segmentation_models_pytorch as smp

    if architecture in (*_OWN, GALILEO):
        if encoder is not None:
            raise CardError(f"{architecture} has an encoder of its own; leave out 'encoder={encoder}'")
        if architecture == GALILEO:
            return architecture, canonical({**arguments, "bands": list(bands)}), int(arguments.get("patch_px", 8))
        return architecture, canonical(dict(arguments)), _OWN[architecture]
    if architecture == CLASSIFIER:
        if encoder is None:
            raise CardError(
                f"{architecture} needs an 'encoder', such as resnet18, tf_efficientnet_lite0 or convnext_tiny"
            )
        return "chip-classifier", canonical({"encoder_name": encoder, **arguments}), 1
    known = smp.MODEL_ARCHITECTURES_MAPPING
    if architecture not in known:
        every = (*_OWN, GALILEO, *known, CLASSIFIER)
        raise CardError(
            f"unknown architecture {architecture!r}{did_you_mean(architecture, every)}; one of {', '.join(every)}"
        )
    if encoder is None:
        raise CardError(f"{architecture} needs an 'encoder', such as resnet18, efficientnet-b0 or tu-convnext_tiny")
    stride = smp_stride(architecture, arguments)
    if architecture == "dpt" and "decoder_readout" not in arguments and not _has_prefix_tokens(encoder):
        arguments = {**arguments, "decoder_readout": "ignore"}  # smp warns of any other
    return "smp", canonical({"arch": architecture, "encoder_name": encoder, **arguments}), stride


def _has_prefix_tokens(encoder: str) -> bool:
    """Whether an encoder has tokens of the whole picture beside those of its patches; True if there is no such encoder."""
    import timm

    name = encoder.removeprefix("tu-")
    if not timm.is_model(name):
        return True
    with torch.device("meta"):
        return bool(getattr(timm.create_model(name), "num_prefix_tokens", 0))


def build(card: ModelCard, seed: int) -> nn.Module:
    """The card's network with random weights that depend on the seed alone.

    Raises:
        CardError: if it cannot be built.
    """
    torch.manual_seed(seed)
    return registry.build(card)


def fill(module: nn.Module, card: ModelCard, source: Path, before: ModelCard | None) -> Start:
    """Give a network its first weights.

    Args:
        module: the card's network.
        source: a weights file.
        before: the card of the network that the file belongs to; None for a file of another kind, which goes by its keys.

    Raises:
        CardError: if the file cannot be read or none of it fits.
    """
    if before is None:
        return from_file(module, card.bands, source)
    if before.architecture != card.architecture or before.kwargs.get("arch") != card.kwargs.get("arch"):
        raise CardError(
            f"'start' {before.label} is a {before.architecture} {before.arguments} and this network a {card.architecture} "
            f"{card.arguments}; leave out `architecture`, and it is taken from the card"
        )
    return from_network(module, card, weights.read_tensors(source), before)


def load(module: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """The network with these weights, in eval mode."""
    module.load_state_dict(dict(state))
    return module.eval()
