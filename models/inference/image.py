"""An image: each chip's core is copied into the block's image on the device, as physical values. Knows no files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.agreement import Agreement
from earthloom.models.inference.answer_kind import AnswerKind
from earthloom.models.inference.stack import Stack
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.encoding import INDEX_MOST
from earthloom.tiling.window import Window

_FLOAT_BYTES = 4
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(AnswerKind[Tensor]):
    """Physical values of some of the bands that the network was given, `scale` times as many a side.

    A block gets (K, scale * h, scale * w) fp32 on the device, without meaning where the pixel below is not valid.
    """

    label: str
    bands: tuple[str, ...]
    scale: int
    mean: tuple[float, ...]
    """Mean of each band: physical value = answer * std + mean; empty if the network gives the physical values."""
    std: tuple[float, ...]
    most: float | None = None
    """Largest magnitude that is a value, where the network may have none for a pixel: what is beyond or NaN is nodata."""

    does: ClassVar[str] = "makes an image"
    wants_fp32: ClassVar[bool] = True  # bf16 has 8 significant bits, stored values have up to 16
    stored_bytes: ClassVar[int] = 0

    @classmethod
    def of(cls, card: ModelCard) -> Image:
        """What a model that makes an image says."""
        channels = [card.bands.index(name) for name in card.outputs if not card.output_dtype]
        most = {"int16": INDEX_MOST, "float32": _LARGEST}.get(card.output_dtype)
        return cls(
            label=card.label, bands=card.outputs, scale=card.scale, mean=tuple(card.mean[n] for n in channels),
            std=tuple(card.std[n] for n in channels), most=most,
        )  # fmt: skip

    @property
    def values_per_px(self) -> int:
        return len(self.bands) * self.scale**2

    def woven_bytes(self, *, blend: bool) -> int:
        """None: it is woven into the image that is passed on."""
        return 0

    def passed_bytes(self, *, is_first: bool) -> int:
        """An image, its quantised form on the way to storage, where it has undefined values a copy without them, and for a
        later stage what it was made from."""
        n_images = 2 + (self.most is not None) + (not is_first)
        return _FLOAT_BYTES * n_images * self.values_per_px

    def shapes(self, chips: Sequence[int]) -> list[tuple[int, ...]]:
        """(N, K, scale * h, scale * w)."""
        n_chips, _, height, width = chips
        return [(n_chips, len(self.bands), self.scale * height, self.scale * width)]

    def mismatch(self, wanted: tuple[int, ...]) -> str:
        return f"its {len(self.bands)} bands at scale {self.scale} are {wanted}; correct the card's outputs and scale"

    def canvas(self, chips: ChipGrid, core: Window, device: str, others: Sequence[Image] = ()) -> _Pasted:
        self.refuse_mixing(chips, others)
        return _Pasted(self, core, device)

    def settle(self, stack: Stack, made: Tensor, carried: Collection[str]) -> tuple[Stack, Stack]:
        if self.most is None:
            after = stack.put(self.bands, made, self.scale, carried)
        else:
            undefined = ~(made.abs() <= self.most)  # NaN is not
            after = stack.put(self.bands, made.masked_fill(undefined, 0.0), self.scale, carried)
            after = after.hide(undefined.any(dim=0).cpu().numpy())
        return after, after

    def agreement(self, tiled: Tensor, whole: Tensor, valid: NDArray[np.bool_]) -> Agreement:
        known = np.repeat(np.repeat(valid, self.scale, 0), self.scale, 1)
        same = bool(torch.equal(tiled[:, known], whole[:, known]))
        return Agreement(identical=same, flips=0.0 if same else 1.0, class_flips=0.0 if same else 1.0)


class _Pasted:
    """A pixel is made by the chip whose core it lies in."""

    def __init__(self, answer: Image, core: Window, device: str) -> None:
        self._scale, self._core = answer.scale, core
        height, width = (answer.scale * side for side in core.shape)
        self._image = torch.zeros((len(answer.bands), height, width), device=device)
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1).to(device)
            for values in (answer.mean, answer.std)
        )

    def add(self, read: Window, owned: Window, answers: Sequence[Tensor]) -> None:
        (answer,) = answers
        part = (owned & self._core).zoom(self._scale)
        physical = answer[(slice(None), *part.slices(read.zoom(self._scale)))].float()
        if self._std.numel():
            physical.mul_(self._std).add_(self._mean)
        self._image[(slice(None), *part.slices(self._core.zoom(self._scale)))] = physical

    def finish(self, valid: NDArray[np.bool_]) -> Tensor:
        return self._image
