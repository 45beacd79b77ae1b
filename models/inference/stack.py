"""The bands of a window on their way through a chain: values, mask, names, and how stored values become physical ones.

Values stay as they were stored until a stage has made an image; then they are fp32 on the device. Knows no model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earthloom.tiling.errors import TilingError
from earthloom.tiling.window import Window


@dataclass(frozen=True, slots=True)
class Stack:
    """Bands of one window.

    Attributes:
        window: in pixels of the grid that the bands lie on.
        names: names of the bands.
        values: (C, h, w), stored values of any dtype in memory or fp32 on a device.
        valid: (h, w), false where any band has no data.
        gain, bias: (C,), physical value = value * gain + bias.
    """

    window: Window
    names: tuple[str, ...]
    values: NDArray[np.generic] | Tensor
    valid: NDArray[np.bool_]
    gain: NDArray[np.float32]
    bias: NDArray[np.float32]

    def select(self, names: Sequence[str]) -> Stack:
        """These bands only, in this order.

        Raises:
            TilingError: if one is not there.
        """
        if missing := [name for name in names if name not in self.names]:
            raise TilingError(f"a stage wants {', '.join(missing)}, but only {', '.join(self.names)} have come so far")
        if tuple(names) == self.names:
            return self
        channels = [self.names.index(name) for name in names]
        return replace(
            self, names=tuple(names), values=self.values[channels], gain=self.gain[channels], bias=self.bias[channels]
        )

    def over(self, window: Window) -> Stack:
        """This stack on another window; what it covers beyond its own is 0 and not valid."""
        inside = window & self.window
        rows, cols = inside.slices(self.window)
        values, valid = self.values[:, rows, cols], self.valid[rows, cols]
        if inside != window:
            where = inside.slices(window)
            shape = (len(self.names), *window.shape)
            wide: Any  # tensors and arrays are indexed alike
            if isinstance(values, Tensor):
                wide = torch.zeros(shape, dtype=values.dtype, device=values.device)
            else:
                wide = np.zeros(shape, values.dtype)
            wide[(slice(None), *where)] = values
            known = np.zeros(window.shape, np.bool_)
            known[where] = valid
            values, valid = wide, known
        return replace(self, window=window, values=values, valid=valid)

    def hide(self, hidden: NDArray[np.bool_]) -> Stack:
        """This stack without the pixels where `hidden`, (h, w)."""
        return replace(self, valid=self.valid & ~hidden)

    def put(self, names: Sequence[str], image: Tensor, scale: int, carried: Collection[str]) -> Stack:
        """What follows an image: its bands in the place of those it was made from.

        Args:
            names: names of the image's bands.
            image: (K, scale * h, scale * w) fp32, physical values.
            scale: pixels of the image per pixel of this stack and side.
            carried: bands that later stages want; those that are not in the image go along where scale is 1.
        """
        others = [name for name in self.names if name in carried and name not in names]
        if scale > 1:
            others = []
        bands = [image, self.select(others).physical(image.device)] if others else [image]
        n = len(names) + len(others)
        return Stack(
            window=self.window.zoom(scale),
            names=(*names, *others),
            values=torch.cat(bands) if others else image,
            valid=self.valid.repeat(scale, axis=0).repeat(scale, axis=1) if scale > 1 else self.valid,
            gain=np.ones(n, np.float32),
            bias=np.zeros(n, np.float32),
        )

    def physical(self, device: torch.device | str = "cpu") -> Tensor:
        """(C, h, w) fp32 physical values on `device`."""
        stored = self.values if isinstance(self.values, Tensor) else torch.from_numpy(np.array(self.values, order="C"))
        gain, bias = (torch.from_numpy(part).reshape(-1, 1, 1).to(device) for part in (self.gain, self.bias))
        return stored.to(device).to(torch.float32, copy=True).mul_(gain).add_(bias)
