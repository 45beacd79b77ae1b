"""What some networks know of a whole scene beside the chip: quantiles, covariance, or what they look for themselves.

It is taken once per scene and travels to every block, so that no block decides for itself how bright is bright.
Knows nothing of files or of where the pixels come from.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earthloom.tiling.window import Window

N_QUANTILES = 257
"""Quantiles at k / 256, from the smallest value to the largest."""

MOST_PX = 1 << 21
"""Pixels that are looked at; with quantiles over two million a scene's tails are known to 0.01 %."""

WINDOW_PX = 256
EVER_PX = 1 << 30
"""Beyond the scene lies its reflection, however far a placed network is asked."""


@dataclass(frozen=True, slots=True)
class Part:
    """Pixels of one window of a scene."""

    window: Window
    """Window in pixels of the grid that the network sees, whose corner is (0, 0)."""
    values: NDArray[np.float32]
    """(C, h, w), normalised."""
    valid: NDArray[np.bool_]
    """(h, w)"""


@dataclass(frozen=True, slots=True)
class Look:
    """What a network keeps of a scene."""

    context: Tensor
    """fp32; its `forward` takes it after the chips."""
    notes: tuple[str, ...] = ()
    """Notes for the user."""

    def to_json(self) -> dict[str, Any]:
        """A document that gives back the same bits: nine digits tell any two numbers of fp32 apart."""
        values = [float(f"{value:.9g}") for value in self.context.flatten().tolist()]
        return {"shape": list(self.context.shape), "values": values, "notes": list(self.notes)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Look:
        context = torch.tensor(document["values"], dtype=torch.float32).reshape(document["shape"])
        return cls(context, tuple(document["notes"]))


class Surveying(ABC):
    """A network that wants to know of a whole scene before it sees chips of it; a base beside `nn.Module`.

    It says at which windows it wants to look, and makes a context of what it sees there. One that `is_placed` is also
    told where chips lie: its `forward` takes (row, col) of the corner of each, by default (0, 0).
    """

    is_placed = False

    def windows(self, scene: Window) -> list[Window]:
        """Windows to look at; a function of the scene's extent alone, as everybody who surveys it must see the same."""
        return lattice(scene)

    @abstractmethod
    def look(self, scene: Window, parts: Iterable[Part]) -> Look:
        """What the network keeps of the scene.

        Args:
            scene: its extent.
            parts: pixels of `windows(scene)`, in that order.
        """


class Statistical(Surveying):
    """One to which the statistics of all that it looks at say enough."""

    def look(self, scene: Window, parts: Iterable[Part]) -> Look:  # noqa: ARG002 - where they lie says nothing more
        return Look(self.context(survey([(part.values, part.valid) for part in parts])))

    @abstractmethod
    def context(self, survey: Survey) -> Tensor:
        """What it keeps of a survey of all parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is known of the valid pixels of one scene, per channel, in the values that the network sees (normalised)."""

    n: int
    """Pixels that were looked at; 0 when the scene has no valid one, and all else is 0 then."""
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    """(C, C)"""
    quantiles: tuple[tuple[float, ...], ...]
    """(C, N_QUANTILES)"""


def survey(parts: list[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> Survey:
    """Look at parts of a scene.

    Args:
        parts: normalised pixels (C, h, w) and where they are valid (h, w); the order does not matter beyond rounding.
    """
    n_channels = parts[0][0].shape[0]
    seen = np.concatenate([values[:, valid] for values, valid in parts], axis=1).astype(np.float64)
    if not seen.shape[1]:
        zeros = (0.0,) * n_channels
        flat = ((0.0,) * N_QUANTILES,) * n_channels
        return Survey(n=0, mean=zeros, covariance=(zeros,) * n_channels, quantiles=flat)
    centred = seen - seen.mean(axis=1, keepdims=True)
    return Survey(
        n=seen.shape[1],
        mean=tuple(seen.mean(axis=1).tolist()),
        # not by BLAS, which adds up in as many parts as there are cores
        covariance=tuple(tuple(row) for row in (np.einsum("ik,jk->ij", centred, centred) / seen.shape[1]).tolist()),
        quantiles=tuple(tuple(row) for row in np.quantile(seen, np.linspace(0, 1, N_QUANTILES), axis=1).T.tolist()),
    )


def squares(
    values: NDArray[np.float32], valid: NDArray[np.bool_], side_px: int, least_valid: float
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Values (…, n, n) and what of them is valid (n, n), of each whole square of a part that is valid for so large a share."""
    rows, cols = (range(0, side - side_px + 1, side_px) for side in valid.shape)
    for where in ((slice(row, row + side_px), slice(col, col + side_px)) for row in rows for col in cols):
        if valid[where].mean() >= least_valid:
            yield values[..., *where], valid[where]


def lattice(scene: Window) -> list[Window]:
    """Windows of 256 px that hold at most about MOST_PX pixels, spread evenly; all of a small scene."""
    every = math.ceil(math.sqrt(max(1.0, scene.size_px / MOST_PX)))
    if every == 1:
        return list(scene.split(4 * WINDOW_PX))
    rows, cols = (_spread(side, every) for side in scene.shape)
    return [Window(col, row, WINDOW_PX, WINDOW_PX) & scene for row in rows for col in cols]


def _spread(side_px: int, every: int) -> list[int]:
    """Offsets of every n-th window along a side, at least one."""
    offsets = list(range(0, side_px, WINDOW_PX))
    return offsets[min(every, len(offsets)) // 2 :: every]
