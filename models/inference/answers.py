"""What a network says is a value of a kind, and each kind knows all that depends on it; nobody else asks which it is.

A kind is a class that fits `AnswerKind`; the kinds are `models.inference.class_map`, `.image`, `.labels`,
`.footprints` and `.objects`.
Another one is a module beside these and a line in `_KINDS`. Answers take tensors: they know nothing of predictors, files or
what a scene is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.agreement import Agreement
from earthloom.models.inference.class_map import ClassMap
from earthloom.models.inference.footprints import Footprints
from earthloom.models.inference.image import Image
from earthloom.models.inference.labels import Labels
from earthloom.models.inference.objects import Objects
from earthloom.models.inference.stack import Stack
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.errors import CardError
from earthloom.tiling.window import Window

Made = TypeVar("Made")
"""What a block gets of a kind, over the block's core: a map, an image, and so on."""
Made_co = TypeVar("Made_co", covariant=True)


class Canvas(Protocol[Made_co]):
    """Buffers on the device into which the answers for a block's chips are woven."""

    def add(self, read: Window, owned: Window, answers: Sequence[Tensor]) -> None:
        """Take what is said of one chip.

        Args:
            read: pixels of the input that the chip covers.
            owned: of these, the chip's core.
            answers: of each member of an ensemble, (K, scale * h, scale * w) for `read`, or (K, 1, 1) where a chip
                gets one label; may be written to.
        """

    def finish(self, valid: NDArray[np.bool_]) -> Made_co:
        """The block's result, once every chip was taken. `valid` is (h, w) over the core, in pixels of the input."""


class Kept(Protocol):
    """What a chain keeps of a stage until its block is written."""

    def over(self, window: Window) -> Self:
        """The same on a smaller window."""

    def hide(self, hidden: NDArray[np.bool_]) -> Self:
        """The same with nodata where `hidden`, (h, w)."""


class AnswerKind(Protocol[Made]):
    """A kind of answer, bound to one card."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands that later stages of a chain may read of it; none of a kind that ends a chain."""

    @property
    def scale(self) -> int:
        """Pixels of the answer per pixel of the input and side."""

    @property
    def pixel_px(self) -> int:
        """Side, in pixels of the input, of what one pixel of the result stands for: 1, or the core of a chip."""

    @property
    def table_bytes(self) -> int:
        """What publishing a table of every pixel of the result takes for each of them; 0 where there is no such table."""

    @property
    def exact_only(self) -> bool:
        """Whether every bit counts: the halo covers the support, and chips are never cross-faded."""

    @property
    def averages(self) -> bool:
        """Whether several networks can answer together, as an ensemble."""

    @property
    def odd(self) -> Mapping[int, int]:
        """Which channel of the network's answer (N, C, h, w) changes its sign in the mirror image, by the axis mirrored."""

    @property
    def reach_px(self) -> int:
        """How far around a pixel the network's values decide what is said of it; 0 where it is decided by its own."""

    @property
    def wants_fp32(self) -> bool:
        """Whether it is computed in fp32 unless another precision is asked for by name."""

    @property
    def values_per_px(self) -> int:
        """Numbers that the network gives for each pixel of a chip."""

    @property
    def stored_bytes(self) -> int:
        """What is stored of each pixel of the result; 0 where the plan chooses the dtype, as of an image."""

    def woven_bytes(self, *, blend: bool) -> int:
        """What the canvas holds on the device for each pixel of the input, while the stage runs."""

    def passed_bytes(self, *, is_first: bool) -> int:
        """What is held between stages for each pixel of the input."""

    def shapes(self, chips: Sequence[int]) -> list[tuple[int, ...]]:
        """Shapes that the network's answer to chips (N, C, h, w) may have, the usual one first."""

    def check(self, answer: object, chips: Sequence[int]) -> None:
        """Look at what the network gave for chips (N, C, h, w).

        Raises:
            CardError: naming both shapes, if it is not what the card says.
        """

    def canvas(self, chips: ChipGrid, core: Window, device: str, others: Sequence[Any] = ()) -> Canvas[Made]:
        """Buffers for the block that owns `core`, in pixels of the input.

        Args:
            chips: says whether chips are cropped to their cores or cross-faded.
            device: `cpu` or `cuda`.
            others: answers of the other members of an ensemble.
        """

    def settle(self, stack: Stack, made: Made, carried: Collection[str]) -> tuple[Stack, Kept]:
        """What later stages go on with, and what is kept of the block.

        Args:
            stack: the stage's input over what the stage made.
            carried: bands that later stages want.
        """

    def masked(self, made: Made) -> NDArray[np.bool_]:
        """Pixels (h, w) that a mask hides from later stages.

        Raises:
            CardError: if this kind masks nothing.
        """

    def agreement(self, tiled: Made, whole: Made, valid: NDArray[np.bool_]) -> Agreement:
        """How far two answers for the same pixels agree where the input is `valid`, (h, w)."""


_KINDS: dict[str, Callable[[ModelCard], AnswerKind[Any]]] = {
    "class-map": ClassMap.of,
    "image": Image.of,
    "labels": Labels.of,
    "footprints": Footprints.of,
    "objects": Objects.of,
}


def answer_of(card: ModelCard) -> AnswerKind[Any]:
    """What a model's network says.

    Raises:
        CardError: if no such kind is known.
    """
    if card.kind not in _KINDS:
        raise CardError(f"{card.label}: its network gives a {card.kind}, but only {', '.join(_KINDS)} are known")
    return _KINDS[card.kind](card)
