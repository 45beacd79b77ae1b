"""A block's pixels become classes or an image: cut chips, run the network, crop or cross-fade, all on the device.

Stored values go to the device once per block and its map comes back once; nothing waits for the device in between.

What a pixel gets depends on the chips of the scene's grid that see it and on nothing else: not on the block, on the
batch or on which chips were skipped. Knows nothing of files, networks or CRSs.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earthloom.models.device.resolve import strips
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.transfer import Pixels, download
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.encoding import CONFIDENCE_STEPS, NODATA
from earthloom.tiling.errors import TilingError
from earthloom.tiling.window import Window


@dataclass(frozen=True, slots=True)
class BlockMap:
    """The map of one block.

    Attributes:
        classes: (h, w) uint8, the likeliest class, the lowest one on a tie; 255 where not valid.
        confidence: (h, w) uint8, its probability * 250; 255 where not valid.
        n_computed, n_skipped: chips that ran, and chips without a valid pixel to decide.
    """

    classes: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    n_computed: int
    n_skipped: int


def predict_block(
    predictor: Predictor | Sequence[Predictor], chips: ChipGrid, core: Window, read: Window,
    values: NDArray[np.generic] | Tensor, valid: NDArray[np.bool_], gain: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> BlockMap:  # fmt: skip
    """Map `core` from the pixels of `read`.

    Args:
        predictor: several are an ensemble: their probabilities are averaged.
        chips: the scene's grid.
        core: pixels to decide, inside the grid's domain.
        read: what `values` covers; contains `chips.read(core)`.
        values: (C, read.height, read.width) stored values, reflected at the scene's borders by the chips' halo.
        valid: (read.height, read.width), false at nodata and beyond the reflected border.
        gain, bias: (C,), physical value = stored * gain + bias.

    Raises:
        TilingError: if the windows and arrays do not fit each other.
        CardError, EngineError: from the predictor.
    """
    members = [predictor] if isinstance(predictor, Predictor) else list(predictor)
    _check(chips, core, read, values, valid)
    every, todo = _cores(chips, core, read, valid)
    kind = members[0].device.kind
    pixels = Pixels(values, valid, kind)
    streams = [_answers(member, chips, todo, read, pixels, gain, bias, None) for member in members]
    with ExitStack() as closing_all, torch.inference_mode():
        for stream in streams:
            closing_all.callback(stream.close)
        made = torch.full((2, *core.shape), NODATA, dtype=torch.uint8, device=kind)  # classes, then confidence
        if chips.blend:
            fade = _Fade(members, chips, core)
            for answers in zip(*streams, strict=True):
                fade.add(answers[0][0], [logits for _, logits in answers])
                del answers  # not to be held while the next chip is computed
            fade.write_labels(made)
        else:
            for answers in zip(*streams, strict=True):
                chip_core = answers[0][0]
                part = chip_core & core
                inside = (slice(None), *part.slices(chip_core.grow(chips.halo_px)))
                crops = [logits[inside] for _, logits in answers]
                _write_map(members, crops, made[(slice(None), *part.slices(core))])
                del answers, crops  # not to be held while the next chip is computed
    return _block_map(made, valid[core.slices(read)], len(todo), len(every) - len(todo))


def enhance_block(
    predictor: Predictor, chips: ChipGrid, core: Window, read: Window, values: NDArray[np.generic] | Tensor,
    valid: NDArray[np.bool_], gain: NDArray[np.float32], bias: NDArray[np.float32], context: Tensor | None = None,
) -> tuple[Tensor, int, int]:  # fmt: skip
    """Make the image of `core` from the pixels of `read`; arguments as for `predict_block`.

    Returns:
        (K, scale * h, scale * w) fp32 on the device: physical values of the card's outputs, without meaning where the
        pixel below is not valid; then the chips that ran, and those without a valid pixel.
    """
    _check(chips, core, read, values, valid)
    every, todo = _cores(chips, core, read, valid)
    scale = predictor.card.scale
    height, width = (scale * side for side in core.shape)
    image = torch.zeros((len(predictor.card.outputs), height, width), device=predictor.device.kind)
    pixels = Pixels(values, valid, predictor.device.kind)
    answers = _answers(predictor, chips, todo, read, pixels, gain, bias, context)
    with closing(answers), torch.inference_mode():
        for chip_core, answer in answers:
            part = (chip_core & core).zoom(scale)
            inside = part.slices(chip_core.grow(chips.halo_px).zoom(scale))
            image[(slice(None), *part.slices(core.zoom(scale)))] = predictor.physical(answer[(slice(None), *inside)])
    return image, len(todo), len(every) - len(todo)


def _cores(chips: ChipGrid, core: Window, read: Window, valid: NDArray[np.bool_]) -> tuple[list[Window], list[Window]]:
    """Cores of all chips that decide `core`, and of those that have a valid pixel to decide."""
    reach_px = chips.halo_px if chips.blend else 0
    every = chips.cores(core)
    return every, [c for c in every if valid[(c.grow(reach_px) & chips.domain).slices(read)].any()]


def _answers(
    predictor: Predictor, chips: ChipGrid, todo: Sequence[Window], read: Window, pixels: Pixels,
    gain: NDArray[np.float32], bias: NDArray[np.float32], context: Tensor | None,
) -> Generator[tuple[Window, Tensor], None, None]:  # fmt: skip
    """Each chip's core with what the network says of the whole chip."""
    gains, biases = predictor.per_channel(gain), predictor.per_channel(bias)

    def fill(chip_core: Window, out: Tensor) -> None:
        rows, cols = chip_core.grow(chips.halo_px).slices(read)
        predictor.write_normalised(*pixels.cut(rows, cols), gains, biases, out)

    return predictor.run(todo, fill, (chips.chip_px, chips.chip_px), context)


def predict_whole(
    predictor: Predictor, chips: ChipGrid, values: NDArray[np.generic] | Tensor, valid: NDArray[np.bool_],
    gain: NDArray[np.float32], bias: NDArray[np.float32],
) -> BlockMap:  # fmt: skip
    """What exact tiling is measured against: one forward pass over the whole padded scene, `chips.extent`."""
    logits = forward_whole(predictor, chips, values, valid, gain, bias)
    inside = chips.domain.slices(chips.extent)
    with torch.inference_mode():
        made = torch.empty((2, *chips.domain.shape), dtype=torch.uint8, device=logits.device)
        _write_map([predictor], [logits[(slice(None), *inside)]], made)
    return _block_map(made, valid[inside], 1, 0)


def enhance_whole(
    predictor: Predictor, chips: ChipGrid, values: NDArray[np.generic] | Tensor, valid: NDArray[np.bool_],
    gain: NDArray[np.float32], bias: NDArray[np.float32], context: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The image of the domain by one forward pass over `chips.extent`: (K, scale * h, scale * w), physical values."""
    answer = forward_whole(predictor, chips, values, valid, gain, bias, context)
    scale = predictor.card.scale
    inside = chips.domain.zoom(scale).slices(chips.extent.zoom(scale))
    with torch.inference_mode():
        return predictor.physical(answer[(slice(None), *inside)])


def forward_whole(
    predictor: Predictor, chips: ChipGrid, values: NDArray[np.generic] | Tensor, valid: NDArray[np.bool_],
    gain: NDArray[np.float32], bias: NDArray[np.float32], context: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The network's answer to `chips.extent` in one piece."""
    _check(chips, chips.domain, chips.extent, values, valid)
    gains, biases = predictor.per_channel(gain), predictor.per_channel(bias)
    rows, cols = chips.extent.slices(chips.extent)
    pixels = Pixels(values, valid, predictor.device.kind)

    def fill(_: Window, out: Tensor) -> None:
        predictor.write_normalised(*pixels.cut(rows, cols), gains, biases, out)

    ((_, answer),) = predictor.run([chips.extent], fill, chips.extent.shape, context)
    return answer


def _mean_probabilities(members: Sequence[Predictor], logits: Sequence[Tensor]) -> Tensor:
    """(K, h, w) fp32, added in the members' order."""
    total, *others = (member.probabilities(one) for member, one in zip(members, logits, strict=True))
    if not others:
        return total
    for other in others:
        total = total + other
    return total / len(members)


class _Fade:
    """Cross-fades chips over `core`: each fades out over the 2h that it shares with its neighbour, by half a cosine.

    A chip outside the domain does not exist, so at a scene's edge a weight falls to one half and no further.
    """

    def __init__(self, members: Sequence[Predictor], chips: ChipGrid, core: Window) -> None:
        self._members, self._halo_px, self._core = members, chips.halo_px, core
        kind = members[0].device.kind
        steps = (np.arange(2 * chips.halo_px) + 0.5) / (2 * chips.halo_px)
        rise = (1 - np.cos(np.pi * steps)) / 2
        ramp = np.concatenate([rise, np.ones(chips.chip_px - 2 * rise.size), rise[::-1]]).astype(np.float32)
        side = torch.from_numpy(ramp).to(kind)
        self._weight = side[:, None] * side[None, :]
        self._sum = torch.zeros((len(members[0].card.classes), *core.shape), device=kind)
        self._weights = torch.zeros(core.shape, device=kind)

    def add(self, chip_core: Window, logits: Sequence[Tensor]) -> None:
        chip = chip_core.grow(self._halo_px)
        part = chip & self._core
        inside, where = part.slices(chip), part.slices(self._core)
        weight = self._weight[inside]
        mean = _mean_probabilities(self._members, [one[(slice(None), *inside)] for one in logits])
        self._sum[(slice(None), *where)] += mean * weight
        self._weights[where] += weight

    def write_labels(self, out: Tensor) -> None:
        for rows in _strips_of(self._sum):
            weights = self._weights[rows]
            untouched = weights == 0  # all its chips were skipped: nothing there is valid
            _write_labels(self._sum[:, rows] / weights.masked_fill(untouched, 1.0), out[:, rows])


def _write_map(members: Sequence[Predictor], logits: Sequence[Tensor], out: Tensor) -> None:
    """Classes and confidence (2, h, w) uint8 from each member's logits (K, h, w)."""
    for rows in _strips_of(logits[0]):
        _write_labels(_mean_probabilities(members, [one[:, rows] for one in logits]), out[:, rows])


def _write_labels(probabilities: Tensor, out: Tensor) -> None:
    """Classes and quantised confidence (2, h, w) from (K, h, w)."""
    best = probabilities.amax(dim=0)
    # the class is the number of channels before the first of the best; `max` would say it as int64, in twice the time
    is_less = (probabilities[:-1] < best).view(torch.uint8)
    none_yet = torch.ones_like(out[0])
    out[0].zero_()
    for less in is_less:
        out[0].add_(none_yet.bitwise_and_(less))
    out[1] = best.mul_(CONFIDENCE_STEPS).round_().clamp_(0, CONFIDENCE_STEPS)


def _strips_of(image: Tensor) -> Iterator[slice]:
    n_channels, height, width = image.shape
    return strips(height, n_channels * width, image.device.type)


def _block_map(made: Tensor, valid: NDArray[np.bool_], n_computed: int, n_skipped: int) -> BlockMap:
    """What comes back from the device, as soon as it is done."""
    classes, confidence = download(made).astype(np.uint8, copy=False)
    for layer in (classes, confidence):
        np.copyto(layer, NODATA, where=~valid)
    return BlockMap(classes, confidence, n_computed, n_skipped)


def _check(
    chips: ChipGrid, core: Window, read: Window, values: NDArray[np.generic] | Tensor, valid: NDArray[np.bool_]
) -> None:
    if not core or not chips.domain.contains(core):
        raise TilingError(f"the core {core} is empty or not inside the scene {chips.domain}")
    if not read.contains(chips.read(core)):
        raise TilingError(f"chips of {core} read {chips.read(core)} but only {read} was loaded")
    if values.ndim != 3 or values.shape[1:] != read.shape or valid.shape != read.shape:
        raise TilingError(f"values {values.shape} and mask {valid.shape} do not cover the read window {read.shape}")
