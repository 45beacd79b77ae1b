"""Reads the weights of a network published for ncnn: a `.param` text (layers) beside a `.bin` (weights). Data only, no code.

Whoever calls it has checked both files against a pinned sha256, so only what those files hold is understood. Knows nothing
of torch or of any particular network.

Format: the ncnn wiki, "param and model file structure", and the tags of ModelBinFromDataReader in its source.
"""

from __future__ import annotations

import math
import struct

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.errors import CardError
from earthloom.tiling.rounding import round_up

_FP16 = 0x01306B47
"""The four bytes before the weights of a convolution say how they are stored: as halves, or by 0 as floats."""


def arrays_of(param: bytes, data: bytes) -> list[tuple[str, list[NDArray[np.float32]]]]:
    """The layers that hold arrays, in order of execution: a layer's kind and its arrays.

    Args:
        param: the `.param` file.
        data: the `.bin` file.

    Returns:
        Of `Convolution` the weight (O, I, k, k) and, if it has one, the bias (O,); of `MemoryData` the constant (n,).

    Raises:
        CardError: if the two files do not belong together: not every byte of the `.bin` belongs to a layer.
    """
    position, found = 0, list[tuple[str, list[NDArray[np.float32]]]]()

    def taken(count: int, dtype: str = "<f4") -> NDArray[np.float32]:
        nonlocal position
        start, position = position, position + round_up(count * np.dtype(dtype).itemsize, 4)  # halves are filled up
        if position > len(data):
            raise CardError(f"the ncnn weights end at {len(data)} bytes where a layer wants {position}")
        return np.frombuffer(data, dtype, count, start).astype(np.float32)

    for line in param.decode("ascii").splitlines()[2:]:
        kind, _, n_inputs, n_outputs, *words = line.split()
        settings = dict(word.split("=") for word in words[int(n_inputs) + int(n_outputs) :])
        if kind == "MemoryData":
            found.append((kind, [taken(math.prod(max(1, int(settings.get(key, 0))) for key in "012"))]))
        elif kind == "Convolution":
            out, kernel, count = (int(settings[key]) for key in "016")
            (tag,) = struct.unpack_from("<I", data, position)
            position += 4
            weight = taken(count, "<f2" if tag == _FP16 else "<f4").reshape(out, -1, kernel, kernel)
            found.append((kind, [weight, *([taken(out)] if settings.get("5") == "1" else [])]))
    if position != len(data):
        raise CardError(f"{len(data) - position} of {len(data)} bytes of the ncnn weights belong to no layer")
    return found
