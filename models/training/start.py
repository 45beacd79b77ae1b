"""Fills a network with its first weights: another network's, fitted to these bands and classes, or a file's, by their names.

Whatever fits is taken and whatever does not is said. Knows nothing of cards' folders, of data or of training.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from earthloom.models.cards import weights
from earthloom.models.cards.card import BOX_CHANNELS, ModelCard
from earthloom.tiling.errors import CardError

_PREFIXES = ("module.", "model.", "net.", "backbone.")
_ENCODERS = ("encoder.", "encoder.model.", "network.")
"""Prefixes under which smp keeps its encoders and those of timm, and a classifier its network."""
_COLOURS = ("red", "green", "blue")
"""Order of the channels of photographs, on which published encoders were trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The use that was made of the weights that a network starts from."""

    filled: frozenset[str]
    """Names of the tensors that were filled."""
    adapted: tuple[str, ...] = ()
    """Tensors among them that were fitted to other bands or classes."""
    missing: tuple[str, ...] = ()
    """Tensors of the network that stay random."""
    unused: tuple[str, ...] = ()
    """Tensors that were given and belong nowhere."""

    def describe(self) -> str:
        """One sentence for people."""
        parts = [f"{len(self.filled)} tensors were taken over"]
        if self.adapted:
            parts.append(f"{_some(self.adapted)} fitted to other bands or classes")
        if self.missing:
            parts.append(f"{_some(self.missing)} start from nothing")
        if self.unused:
            parts.append(f"{_some(self.unused)} of the file are not used")
        return "; ".join(parts)


def from_network(module: nn.Module, card: ModelCard, given: Mapping[str, Tensor], before: ModelCard) -> Start:
    """Fill a network with the weights of another one of its kind, which may know other bands and classes.

    The filters of the first convolution go by the names of their bands. Where bands are new and some are kept, the new
    ones' filters are 0, so that the network answers at first as the other one did; where none is kept, each gets the mean
    filter, times the old number of bands over the new. The last layer's rows go by the names of the classes.

    Raises:
        CardError: if no tensor fits.
    """
    rows, rows_before = _outputs(card), _outputs(before)
    own, first, last = module.state_dict(), _first(module, len(card.bands)), _last(module, len(rows))
    filled: dict[str, Tensor] = {}
    adapted, unused = [], []
    for name, value in given.items():
        fitted: Tensor | None = value
        if name in own and name == first and card.bands != before.bands:
            fitted = _by_band(value, card.bands, before.bands)
        elif name in own and name in last and (rows != rows_before or value.shape != own[name].shape):
            fitted = _by_class(value, own[name], rows, rows_before)
        if name not in own or fitted is None or fitted.shape != own[name].shape:
            unused.append(name)
            continue
        filled[name] = fitted
        if fitted is not value:
            adapted.append(name)
    if not filled:
        raise CardError(
            f"no tensor of {before.label} fits a {card.architecture} {card.arguments}: start from another card"
        )
    return _load(module, own, filled, adapted, unused)


def from_file(module: nn.Module, bands: Sequence[str], path: Path) -> Start:
    """Fill a network from a file of weights, key by key: a whole network, or an encoder as torchvision, timm and smp name it.

    Args:
        module: the network.
        bands: of its channels. Where a file is for three channels, these are red, green and blue: bands of these names
            get their own filters, others the mean filter, all scaled as the sum over channels would be.
        path: safetensors, or `.pt` and `.pth` that hold tensors and nothing else.

    Raises:
        CardError: if the file cannot be read, or none of its tensors fits.
    """
    own, first = module.state_dict(), _first(module, len(bands))
    given = weights.read_tensors(path)
    names = _matched(own, given)
    filled: dict[str, Tensor] = {}
    adapted, unused = [], []
    for name, value in given.items():
        target = names.get(name)
        fitted = _by_colour(value, bands) if target == first else value
        if target is None or fitted.shape != own[target].shape:
            unused.append(name)
            continue
        filled[target] = fitted
        if fitted is not value:
            adapted.append(target)
    if not filled:
        shown = ", ".join(list(given)[:3])
        raise CardError(
            f"{path.name}: none of its {len(given)} tensors ({shown}, …) fits the network, whose first are "
            f"{', '.join(list(own)[:3])}; the file is of another architecture"
        )
    return _load(module, own, filled, adapted, unused)


def _matched(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, str]:
    """Given name -> own name, by the spelling of the names with which most tensors find a place."""
    mine = {_spelt(name): name for name in own}
    best: dict[str, str] = {}
    for cut in ("", *_PREFIXES):
        for prefix in ("", *_ENCODERS):
            spelt = {name: _spelt(prefix + name[len(cut) :]) for name in given if name.startswith(cut)}
            names = {name: mine[text] for name, text in spelt.items() if text in mine}
            best = max(best, names, key=len)
    return best


def _spelt(name: str) -> str:
    """timm writes `stages.0` where all of a network is asked for and `stages_0` where its features are."""
    return re.sub(r"_(?=\d+(\.|$))", ".", name)


def to_hold(module: nn.Module, filled: Collection[str], n_outputs: int) -> frozenset[str]:
    """The tensors taken over that hold still while the rest catches up: the encoder's, or all but the last
    layer's of a network that has no encoder by that name."""
    encoder = [name for name in filled if name.startswith("encoder.")]
    return frozenset(encoder or set(filled) - set(_last(module, n_outputs)))


def _outputs(card: ModelCard) -> tuple[str, ...]:
    """Meaning of each channel of the last layer: a class, or of objects one of the numbers of a box."""
    return (*card.gives, *(f"box {number}" for number in range(BOX_CHANNELS if card.objects else 0)))


def _first(module: nn.Module, n_bands: int) -> str | None:
    """Name of the weight that sees the bands."""
    return next((f"{name}.weight" for name, layer in module.named_modules()
                 if isinstance(layer, nn.Conv2d) and layer.in_channels == n_bands), None)  # fmt: skip


def _last(module: nn.Module, n_outputs: int) -> tuple[str, ...]:
    """Names of weight and bias of the layer that names the classes."""
    found = [name for name, layer in module.named_modules()
             if (isinstance(layer, nn.Conv2d) and layer.out_channels == n_outputs)
             or (isinstance(layer, nn.Linear) and layer.out_features == n_outputs)]  # fmt: skip
    return (f"{found[-1]}.weight", f"{found[-1]}.bias") if found else ()


def _by_band(value: Tensor, bands: Sequence[str], before: Sequence[str]) -> Tensor | None:
    """Filters (K, bands, kh, kw) from those of other bands; None if they are not of `before`."""
    if value.ndim != 4 or value.shape[1] != len(before):
        return None
    if not set(bands) & set(before):
        return value.mean(dim=1, keepdim=True).expand(-1, len(bands), -1, -1) * (len(before) / len(bands))
    new = torch.zeros_like(value[:, 0])
    return torch.stack([value[:, before.index(band)] if band in before else new for band in bands], dim=1)


def _by_class(value: Tensor, mine: Tensor, classes: Sequence[str], before: Sequence[str]) -> Tensor | None:
    """Rows (classes, …) from those of other classes; new classes keep what `mine` has for them. One row for two classes is
    that of the second, and the first one's is 0."""
    if len(value) == 1 and len(before) == 2:
        value = torch.cat([torch.zeros_like(value), value])
    if len(value) != len(before) or value.shape[1:] != mine.shape[1:]:
        return None
    return torch.stack([value[before.index(name)] if name in before else mine[i] for i, name in enumerate(classes)])


def _by_colour(value: Tensor, bands: Sequence[str]) -> Tensor:
    """Filters (K, bands, kh, kw) from those for other channels; the same where there are as many, but for their order."""
    n_before = value.shape[1] if value.ndim == 4 else 0
    named = n_before == len(_COLOURS) and bool(set(bands) & set(_COLOURS))
    if not n_before or tuple(bands) == _COLOURS or (n_before == len(bands) and not named):
        return value
    mean = value.mean(dim=1)
    filters = [value[:, _COLOURS.index(band)] if named and band in _COLOURS else mean for band in bands]
    return torch.stack(filters, dim=1) * (n_before / len(bands))


def _load(
    module: nn.Module, own: Mapping[str, Tensor], filled: Mapping[str, Tensor], adapted: Sequence[str],
    unused: Sequence[str],
) -> Start:  # fmt: skip
    if wrong := [name for name, value in filled.items() if not bool(torch.isfinite(value.float()).all())]:
        raise CardError(f"{wrong[0]} holds NaN or infinite weights; the file was saved from a failed training")
    module.load_state_dict(filled, strict=False)
    missing = [name for name in own if name not in filled and not name.endswith("num_batches_tracked")]
    return Start(filled=frozenset(filled), adapted=tuple(adapted), missing=tuple(missing), unused=tuple(unused))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
