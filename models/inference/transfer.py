"""Moves a block's pixels to the device that computes, once, and its results back; on a CPU nothing is copied.

Rows are sent as chips ask for them, from pinned memory on a stream of their own: while the first chips are computed,
the next rows are on their way. Knows nothing of chips or of what the values mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earthloom.models.device.cuda_graph import new_stream
from earthloom.models.inference.stack import Stack


class DevicePixels:
    """Values and mask of a stack, on the device that computes.

    Args:
        stack: values that are a tensor lie on the device already.
        kind: `cpu` or `cuda`.
    """

    def __init__(self, stack: Stack, kind: str) -> None:
        on_cpu = kind == "cpu"
        self._values = _Here(stack.values) if on_cpu or isinstance(stack.values, Tensor) else _Sent(stack.values, kind)
        self._valid = _Here(stack.valid) if on_cpu else _Sent(stack.valid, kind)

    def cut(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor]:
        """Values (C, h, w) and mask (h, w) of a part, on the device; not to be written to.

        Parts are asked for from top to bottom: rows that were passed over are gone.
        """
        return self._values.cut(rows, cols), self._valid.cut(rows, cols)


class _Here:
    """Values that need no sending: views."""

    def __init__(self, values: NDArray[np.generic] | Tensor) -> None:
        self._values = values

    def cut(self, rows: slice, cols: slice) -> Tensor:
        part = self._values[..., rows, cols]
        return part if isinstance(part, Tensor) else tensor_of(part)


class _Sent:
    """Values that are copied to the device, each row once."""

    def __init__(self, values: NDArray[np.generic], kind: str) -> None:
        self._values, self._is_gpu = values, kind == "cuda"
        self._sent = torch.empty(values.shape, dtype=_dtype_of(values.dtype), device=kind)
        self._stop = 0
        self._stream = new_stream() if self._is_gpu else None
        if self._stream is not None:  # what used the tensor's memory before may still be under way
            self._stream.wait_stream(torch.cuda.current_stream())

    def cut(self, rows: slice, cols: slice) -> Tensor:
        if rows.stop > self._stop:
            start = max(self._stop, rows.start)
            self._send(slice(start, rows.stop))
            self._stop = rows.stop
        return self._sent[..., rows, cols]

    def _send(self, rows: slice) -> None:
        part = tensor_of(self._values[..., rows, :])
        # pinned memory comes from torch's cache, which gives it to nobody else before the copy has ended
        staged = torch.empty(part.shape, dtype=part.dtype, pin_memory=self._is_gpu).copy_(part)
        with torch.cuda.stream(self._stream):  # None: no stream, as on a CPU
            # band by band: only a copy between contiguous parts needs no further memory on the device
            for there, here in zip(_bands(self._sent), _bands(staged), strict=True):
                there[rows].copy_(here, non_blocking=True)
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)


def _bands(values: Tensor) -> Tensor:
    """(C, h, w), also of a mask (h, w)."""
    return values.view(-1, *values.shape[-2:])


def download(tensor: Tensor) -> NDArray[np.generic]:
    """All of a tensor in memory, by one copy from the device; on a CPU the tensor's own memory."""
    if tensor.device.type == "cpu":
        return tensor.numpy()
    landed = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
    torch.cuda.current_stream().synchronize()
    return landed.numpy()


def tensor_of(array: NDArray[np.generic]) -> Tensor:
    """The array as a tensor on its own memory, or on a copy where torch cannot share it: a reader's may be read-only."""
    shareable = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(array if shareable else np.array(array, order="C"))


def to_stored(
    stack: Stack, *, gain: Sequence[float], bias: Sequence[float], dtype: str, nodata: float
) -> NDArray[np.generic]:
    """Physical values as they are stored: (value - bias) / gain, rounded to even and clipped to the dtype's range.

    A valid value that would be stored as nodata moves by one step, so that nodata stays what it says.

    Args:
        stack: (C, h, w) that a stage has made; `nodata` is stored where it is not valid.
        gain, bias: (C,), physical value = stored * gain + bias.
        dtype: type of the file.
        nodata: may be NaN for a float dtype.
    """
    where = stack.values.device if isinstance(stack.values, Tensor) else "cpu"
    image, kind = stack.physical(where), np.dtype(dtype)
    out = np.empty(tuple(image.shape), kind)
    for channel in range(image.shape[0]):
        wide = image[channel].to(torch.float64) if kind.itemsize > 2 else image[channel]
        stored = (wide - bias[channel]) / gain[channel]
        if kind.kind in "iu":
            info = np.iinfo(kind)
            stored = stored.round().clamp(float(info.min), float(info.max))
        values = download(stored.to(_dtype_of(kind)))  # on the device: fewer bytes come back
        if kind.kind in "iu":
            values[values == nodata] = int(nodata) + (1 if nodata < np.iinfo(kind).max else -1)
        values[~stack.valid] = nodata
        out[channel] = values
    return out


def _dtype_of(kind: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, kind)).dtype
