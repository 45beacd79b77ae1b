"""What all kinds of answers have in common, with the defaults that most of them share. Knows none of the kinds.

Answers take tensors: they know nothing of predictors, files or what a scene is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from earthloom.models.inference.agreement import Agreement
from earthloom.models.inference.stack import Stack
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.encoding import NODATA
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
            answers: answers of each member of an ensemble, (K, scale * h, scale * w) for `read`, or (K, 1, 1) where a chip
                gets one label; may be written to.
        """

    def finish(self, valid: NDArray[np.bool_]) -> Made_co:
        """The block's result, once every chip was taken. `valid` is (h, w) over the core, in pixels of the input."""


class Kept(Protocol):
    """What a chain keeps of a stage until its block is written."""

    def over(self, window: Window) -> Self:
        """This answer on a smaller window."""

    def hide(self, hidden: NDArray[np.bool_]) -> Self:
        """This answer with nodata where `hidden`, (h, w)."""


class AnswerKind(ABC, Generic[Made]):
    """A kind of answer, bound to one card. A kind states only where it differs from what stands here."""

    label: str
    """Label of the card, for messages."""
    does: ClassVar[str]
    """What a model of this kind does, for messages: `finds objects`."""
    bands: tuple[str, ...] = ()
    """Bands that later stages of a chain may read of it; none of a kind that ends a chain."""
    scale: int = 1
    """Pixels of the answer per pixel of the input and side."""
    pixel_px: int = 1
    """Side, in pixels of the input, of what one pixel of the result stands for: 1, or the core of a chip."""
    exact_only: ClassVar[bool] = True
    """Whether every bit counts: the halo covers the support, and chips are never cross-faded."""
    averages: ClassVar[bool] = False
    """Whether several networks can answer together, as an ensemble."""
    odd: ClassVar[Mapping[int, int]] = MappingProxyType({})
    """Which channel of the network's answer (N, C, h, w) changes its sign in the mirror image, by the axis mirrored."""
    wants_fp32: ClassVar[bool] = False
    """Whether it is computed in fp32 unless another precision is asked for by name."""
    stored_bytes: ClassVar[int] = 2
    """What is stored of each pixel of the result; 0 where the plan chooses the dtype, as of an image."""

    @property
    def table_bytes(self) -> int:
        """What publishing a table of every pixel of the result takes for each of them; 0 where there is no such table."""
        return 0

    @property
    def reach_px(self) -> int:
        """How far around a pixel the network's values decide what is said of it; 0 where it is decided by its own."""
        return 0

    @property
    @abstractmethod
    def values_per_px(self) -> int:
        """Numbers that the network gives for each pixel of a chip. No default: plans of memory rest on it and the next two."""

    @abstractmethod
    def woven_bytes(self, *, blend: bool) -> int:
        """What the canvas holds on the device for each pixel of the input, while the stage runs, beside what is stored."""

    @abstractmethod
    def passed_bytes(self, *, is_first: bool) -> int:
        """What is held between stages for each pixel of the input; nothing of what later stages do not read."""

    @abstractmethod
    def shapes(self, chips: Sequence[int]) -> list[tuple[int, ...]]:
        """Shapes that the network's answer to chips (N, C, h, w) may have, the usual one first."""

    @abstractmethod
    def mismatch(self, wanted: tuple[int, ...]) -> str:
        """The end of a message about an answer of another shape than `wanted`: what has that shape, and the remedy."""

    def check(self, answer: object, chips: Sequence[int]) -> None:
        """Look at what the network gave for chips (N, C, h, w).

        Raises:
            CardError: naming both shapes, if it is not what the card says.
        """
        got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        if got not in (wanted := self.shapes(chips)):
            raise CardError(f"{self.label}: chips {tuple(chips)} give {got}, but {self.mismatch(wanted[0])}")

    @abstractmethod
    def canvas(self, chips: ChipGrid, core: Window, device: str, others: Sequence[Any] = ()) -> Canvas[Made]:
        """Buffers for the block that owns `core`, in pixels of the input.

        Args:
            chips: says whether chips are cropped to their cores or cross-faded.
            device: `cpu` or `cuda`.
            others: answers of the other members of an ensemble.
        """

    def refuse_mixing(self, chips: ChipGrid, others: Sequence[Any]) -> None:
        """
        Raises:
            CardError: if the answer would be averaged over an ensemble or cross-faded.
        """
        if others or chips.blend:
            raise CardError(
                f"{self.label}: {self.does}, and is neither averaged over an ensemble of {1 + len(others)} nor "
                "cross-faded; give it a stage of its own and leave its overlap exact"
            )

    def settle(self, stack: Stack, made: Any, carried: Collection[str]) -> tuple[Stack, Kept]:
        """What later stages go on with, and what is kept of the block.

        Args:
            stack: the stage's input over what the stage made.
            carried: bands that later stages want.
        """
        return stack, made

    def masked(self, made: Made) -> NDArray[np.bool_]:
        """Pixels (h, w) that a mask hides from later stages.

        Raises:
            CardError: if this kind masks nothing.
        """
        raise CardError(f"{self.label}: {self.does} and masks nothing")

    @abstractmethod
    def agreement(self, tiled: Made, whole: Made, valid: NDArray[np.bool_]) -> Agreement:
        """How far two answers for the same pixels agree where the input is `valid`, (h, w)."""


def hidden_in(layer: NDArray[np.uint8], hidden: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A copy of a layer with nodata where `hidden`; both (h, w)."""
    return np.where(hidden, np.uint8(NODATA), layer)
