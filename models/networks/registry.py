"""The registry of networks: a name in a card becomes a module. Knows nothing of weights; never imports by a given name.

A card may come from anywhere, so its arguments are checked before they reach a builder: nothing downloads, nothing is
read from disk, no size is absurd.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.weights import LoadsItself
from earthloom.models.networks.chip_classifier import ChipClassifier
from earthloom.models.networks.enhance.band_math import BandMath
from earthloom.models.networks.enhance.denoise import NonLocalMeans
from earthloom.models.networks.enhance.destripe import Destripe
from earthloom.models.networks.enhance.haze import DarkObject
from earthloom.models.networks.enhance.pansharpen import AdaptiveGramSchmidt, Brovey
from earthloom.models.networks.enhance.same import Same
from earthloom.models.networks.enhance.span import Span
from earthloom.models.networks.enhance.tone import EqualisedStretch, FixedStretch, PercentileStretch
from earthloom.models.networks.explained import Explained, Method
from earthloom.models.networks.onnx_net import OnnxNet
from earthloom.models.networks.segment.burn import BurnIndex
from earthloom.models.networks.segment.galileo import Galileo
from earthloom.models.networks.segment.lite_unet import LiteUnet
from earthloom.models.networks.segment.paired import PairedClasses
from earthloom.models.networks.segment.sar_water import SarWater
from earthloom.models.networks.segment.threshold import Threshold
from earthloom.models.networks.segment.ukis_unet import UkisUnet
from earthloom.models.networks.torchscript_net import TorchscriptNet
from earthloom.models.networks.torchvision_ops import define_missing_ops
from earthloom.tiling.errors import CardError

_OF_LIBRARIES = frozenset({"smp", "chip-classifier", "onnx"})
"""Architectures whose builders import segmentation-models-pytorch and timm, or a reader of ONNX."""
_LIBRARY_BYTES = 112 * 2**20
"""Measured: segmentation-models-pytorch with timm and torchvision, the largest of them."""
_LARGEST = 8192  # channels, sizes; a card must not make us allocate without end
_NOT_FROM_A_CARD = frozenset({"self", "kwargs", "encoder_weights", "activation", "aux_params"})


def build(card: ModelCard) -> nn.Module:
    """The card's network with random weights, in training mode.

    It takes (N, C, H, W) with H and W multiples of the stride. A segmentation returns logits (N, K, H, W), or
    probabilities when `card.activation` is `none`; one logit for two classes is the second one's. A model that labels
    chips returns one of either for each chip, (N, K, 1, 1), and takes chips of one size. The builder of both is given
    `in_channels` and `classes`. A model that makes an image returns (N, outputs, scale * H, scale * W), normalised as
    the bands that it makes were; its builder is given `in_channels`, and `scale` where that is not 1.

    Raises:
        CardError: naming the architecture, the argument and what would be accepted.
    """
    builder = REGISTRY.get(card.architecture)
    if builder is None:
        raise CardError(f"{card.label}: unknown architecture {card.architecture!r}; one of {', '.join(REGISTRY)}")
    arguments = card.sizes | {"in_channels": len(card.bands)} | card.kwargs
    if arguments["in_channels"] != len(card.bands):
        raise CardError(
            f"{card.label}: the network takes {arguments['in_channels']} channels but the card names {len(card.bands)} "
            f"bands ({', '.join(card.bands)}); make them agree"
        )
    if tuple(arguments.get("bands", card.bands)) != card.bands:
        raise CardError(
            f"{card.label}: the network is built for {', '.join(arguments['bands'])} but the card names the bands "
            f"{', '.join(card.bands)}; make them agree"
        )
    _check_sizes(card, arguments)
    try:
        return builder(**arguments)
    except CardError as error:
        raise CardError(f"{card.label}: {error}") from error
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, IndexError) as error:
        raise CardError(f"{card.label}: {card.architecture} cannot be built from {card.arguments}: {error}") from error


def libraries_bytes(cards: Iterable[ModelCard]) -> int:
    """Resident memory of the libraries that only these cards' networks need."""
    return max(
        (_LIBRARY_BYTES for card in cards if _OF_LIBRARIES & set(_bases(card.architecture, card.kwargs))), default=0
    )


def _bases(architecture: str, arguments: Mapping[str, Any]) -> Iterator[str]:
    """An architecture and those that it is built over."""
    yield architecture
    if "base" in arguments:
        yield from _bases(arguments["base"], arguments.get("arguments", {}))


def _smp(*, arch: str, encoder_name: str, in_channels: int, classes: int, **options: Any) -> nn.Module:
    """Any architecture of segmentation-models-pytorch on any encoder of its own or of timm (`tu-<name>`)."""
    define_missing_ops()
    import segmentation_models_pytorch as smp
    import timm

    network = smp.MODEL_ARCHITECTURES_MAPPING.get(arch.lower())
    if network is None:
        raise CardError(f"unknown arch {arch!r}; one of {', '.join(sorted(smp.MODEL_ARCHITECTURES_MAPPING))}")
    # timm also takes hub addresses and local folders as names: only what it lists itself is let through
    known = timm.is_model(encoder_name[3:]) if encoder_name.startswith("tu-") else encoder_name in smp.encoders.encoders
    if not known:
        raise CardError(
            f"unknown encoder {encoder_name!r}; one of segmentation_models_pytorch.encoders.get_encoder_names(), or "
            "tu- and a name of timm.list_models()"
        )
    allowed = set(inspect.signature(network.__init__).parameters) - _NOT_FROM_A_CARD
    if refused := sorted(set(options) - allowed):
        raise CardError(f"arguments {', '.join(refused)} are not taken from a card; {arch} takes {sorted(allowed)}")
    module: nn.Module = network(
        encoder_name=encoder_name, encoder_weights=None, in_channels=in_channels, classes=classes, **options
    )
    return module


def _paired(
    *, base: str, arguments: dict[str, Any], table: list[list[int]], in_channels: int, classes: int,
    gives_probabilities: bool = False, radius_px: int = 0, reference: list[int] | None = None,
) -> nn.Module:  # fmt: skip
    """One network of the registry on two dates, or on one and a map; `arguments` are the base's own."""
    if base == "paired" or base not in REGISTRY:
        raise CardError(f"unknown architecture {base!r} to pair; one of {', '.join(REGISTRY)} but paired itself")
    each = in_channels // 2 if reference is None else in_channels - 1
    own = {"in_channels": each, "classes": len(table)} | arguments
    if own["in_channels"] != each:
        raise CardError(f"{base} would take {own['in_channels']} channels but each date has {each} bands")
    return PairedClasses(
        REGISTRY[base](**own),
        in_channels=in_channels,
        classes=classes,
        table=table,
        gives_probabilities=gives_probabilities,
        radius_px=radius_px,
        reference=None if reference is None else (reference[0], reference[1]),
    )


def _explained(
    *, base: str, arguments: dict[str, Any], in_channels: int, classes: int, method: Method, **options: Any
) -> nn.Module:
    """One network of the registry, asked something else than its classes; `arguments` are the base's own."""
    if base == "explained" or base not in REGISTRY:
        raise CardError(f"unknown architecture {base!r} to explain; one of {', '.join(REGISTRY)} but explained itself")
    if base == "paired" and method == "gradients":
        raise CardError("a pair of dates has no gradients; 'occlusion' asks nearly the same of it")
    made = REGISTRY[base](**({"in_channels": in_channels, "classes": classes} | arguments))
    if isinstance(made, LoadsItself):
        raise CardError(f"a network that is a file of its own ({base}) cannot be explained; import it as weights")
    return Explained(made, method=method, classes=classes, **options)


REGISTRY: dict[str, Callable[..., nn.Module]] = {
    "ukis-unet": UkisUnet,
    "lite-unet": LiteUnet,
    "galileo": Galileo,
    "smp": _smp,
    "chip-classifier": ChipClassifier,
    "threshold": Threshold,
    "burn-index": BurnIndex,
    "sar-water": SarWater,
    "paired": _paired,
    "explained": _explained,
    "span": Span,
    "pansharpen-gsa": AdaptiveGramSchmidt,
    "pansharpen-brovey": Brovey,
    "non-local-means": NonLocalMeans,
    "destripe": Destripe,
    "dark-object": DarkObject,
    "same": Same,
    "band-math": BandMath,
    "fixed-stretch": FixedStretch,
    "percentile-stretch": PercentileStretch,
    "equalised-stretch": EqualisedStretch,
    "onnx": OnnxNet,
    "torchscript": TorchscriptNet,
}


def _check_sizes(card: ModelCard, value: Any) -> None:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _check_sizes(card, part)
    elif isinstance(value, int | float) and not abs(value) <= _LARGEST:
        raise CardError(f"{card.label}: {value} among the arguments of {card.architecture} is beyond {_LARGEST}")
