"""Reads networks published for ncnn: a `.param` text (layers and wiring) beside a `.bin` (weights). Data only, no code.

Only what is listed here is read: a layer, a parameter or a storage of weights that is not known is refused, because
a guess would give a network that runs and answers wrongly. Knows nothing of torch or of any particular network.
Format: the ncnn wiki, "param and model file structure", and the tags of ModelBinFromDataReader in its source.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.errors import CardError

_MAGIC = "7767517"
_MAX_LAYERS = 4096
_MAX_VALUES = 1 << 26
_FP32, _FP16 = 0, 0x01306B47
"""The four bytes before an array say how it is stored."""
_PARAMETERS: dict[str, frozenset[int]] = {
    "Input": frozenset(),
    "MemoryData": frozenset({0, 1, 2}),
    "BinaryOp": frozenset({0, 1, 2}),
    "Convolution": frozenset({0, 1, 4, 5, 6}),
    "Split": frozenset(),
    "Swish": frozenset(),
    "Sigmoid": frozenset(),
    "Concat": frozenset(),
    "PixelShuffle": frozenset({0}),
}
"""The parameters that a layer may have; whatever is left out has ncnn's default: stride and dilation 1, no fused activation."""


@dataclass(frozen=True, slots=True, eq=False)
class NcnnLayer:
    """One layer, with the names of the blobs that it takes and makes."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Mapping[int, float]
    arrays: tuple[NDArray[np.float32], ...] = ()
    """Convolution: weight (O, I, k, k) and, if it has one, bias (O,). MemoryData: (c, h, w), where 0 was said 1."""


def read(param: bytes, data: bytes) -> tuple[NcnnLayer, ...]:
    """The layers of a network in order of execution.

    Args:
        param: the `.param` file.
        data: the `.bin` file; every byte of it must belong to a layer.

    Raises:
        CardError: naming the line or the layer, what it holds and what is read.
    """
    source = _ArrayData(data)
    layers = tuple(_with_arrays(layer, source) for layer in _layers(param))
    if left := len(data) - source.position:
        raise CardError(f"ncnn weights: {left} of {len(data)} bytes belong to no layer; the .bin is of another .param")
    return layers


def _layers(param: bytes) -> Iterator[NcnnLayer]:
    try:
        lines = [words for line in param.decode("ascii").splitlines() if (words := line.split())]
    except UnicodeDecodeError as error:
        raise CardError(f"ncnn .param is not text ({error}); the binary .param.bin is not read") from error
    if len(lines) < 2 or lines[0] != [_MAGIC] or len(lines[1]) != 2:
        raise CardError(f"ncnn .param must begin with {_MAGIC} and two counts, got {b' '.join(param[:40].split())!r}")
    n_layers, n_blobs = (_integer(word, "line 2") for word in lines[1])
    if n_layers != len(lines) - 2 or n_layers > _MAX_LAYERS:
        raise CardError(
            f"ncnn .param says {n_layers} layers but has {len(lines) - 2} (at most {_MAX_LAYERS} are read); "
            "it is cut short or damaged: fetch it again"
        )
    known: set[str] = set()
    for words in lines[2:]:
        layer = _layer(words)
        if unmade := [name for name in layer.inputs if name not in known]:
            raise CardError(f"ncnn layer {layer.name}: takes {unmade[0]!r}, which no layer above it makes")
        if again := [name for name in layer.outputs if name in known]:
            raise CardError(f"ncnn layer {layer.name}: makes {again[0]!r}, which was made above")
        known.update(layer.outputs)
        yield layer
    if len(known) != n_blobs:
        raise CardError(f"ncnn .param says {n_blobs} blobs but its layers make {len(known)}")


def _layer(words: list[str]) -> NcnnLayer:
    where = f"ncnn layer {words[1] if len(words) > 1 else words[0]}"
    if words[0] not in _PARAMETERS:
        raise CardError(f"{where}: kind {words[0]!r} is not read; one of {', '.join(_PARAMETERS)}")
    if len(words) < 4:
        raise CardError(f"{where}: needs kind, name and two counts, got {' '.join(words)!r}")
    n_in, n_out = _integer(words[2], where), _integer(words[3], where)
    blobs, rest = words[4 : 4 + n_in + n_out], words[4 + n_in + n_out :]
    if len(blobs) != n_in + n_out or any("=" in word for word in blobs):
        raise CardError(f"{where}: says {n_in} inputs and {n_out} outputs but names {' '.join(words[4:])!r}")
    parameters: dict[int, float] = {}
    for word in rest:
        key, _, value = word.partition("=")
        number = _integer(key, where)
        if number not in _PARAMETERS[words[0]] or number in parameters:
            raise CardError(
                f"{where}: parameter {word!r} of {words[0]} is not read or said twice; "
                f"known are {sorted(_PARAMETERS[words[0]]) or 'none'}"
            )
        parameters[number] = _number(value, where)
    return NcnnLayer(words[0], words[1], tuple(blobs[:n_in]), tuple(blobs[n_in:]), parameters)


def _with_arrays(layer: NcnnLayer, source: _ArrayData) -> NcnnLayer:
    if layer.kind == "MemoryData":
        shape = tuple(max(1, _size(layer, key, 0)) for key in (2, 1, 0))
        arrays: tuple[NDArray[np.float32], ...] = (source.plain(layer, math.prod(shape)).reshape(shape),)
    elif layer.kind == "Convolution":
        n_out, kernel, n_values = _size(layer, 0), _size(layer, 1), _size(layer, 6)
        area = n_out * kernel * kernel
        if not area or not n_values or n_values % area:
            raise CardError(
                f"ncnn layer {layer.name}: {n_values} weights are not whole {kernel} x {kernel} kernels for {n_out} outputs"
            )
        weight = source.tagged(layer, n_values).reshape(n_out, n_values // area, kernel, kernel)
        arrays = (weight, source.plain(layer, n_out)) if _size(layer, 5, 0) else (weight,)
    else:
        return layer
    if not all(np.isfinite(array).all() for array in arrays):
        raise CardError(f"ncnn layer {layer.name}: holds NaN or infinite weights; the .bin is damaged: fetch it again")
    return NcnnLayer(layer.kind, layer.name, layer.inputs, layer.outputs, layer.parameters, arrays)


class _ArrayData:
    """The `.bin`, read from front to back; `position` is where the next array begins."""

    def __init__(self, data: bytes) -> None:
        self._data, self.position = data, 0

    def tagged(self, layer: NcnnLayer, n_values: int) -> NDArray[np.float32]:
        """Weights behind a tag that says how they are stored; halves are filled up to four bytes."""
        (tag,) = struct.unpack("<I", self._take(layer, 4))
        if tag == _FP32:
            return self.plain(layer, n_values)
        if tag == _FP16:
            padded = self._take(layer, -(-n_values * 2 // 4) * 4)
            return np.frombuffer(padded, "<f2", n_values).astype(np.float32)
        raise CardError(
            f"ncnn layer {layer.name}: weights are stored as {tag:#010x}; only fp32 ({_FP32:#010x}) and fp16 "
            f"({_FP16:#010x}) are read, int8 and tables are not: export the network without quantisation"
        )

    def plain(self, layer: NcnnLayer, n_values: int) -> NDArray[np.float32]:
        return np.frombuffer(self._take(layer, 4 * n_values), "<f4").astype(np.float32)

    def _take(self, layer: NcnnLayer, n_bytes: int) -> bytes:
        part = self._data[self.position : self.position + n_bytes]
        if len(part) != n_bytes:
            raise CardError(
                f"ncnn layer {layer.name}: needs {n_bytes} bytes at {self.position} but the .bin has {len(self._data)}; "
                "it is cut short: fetch it again"
            )
        self.position += n_bytes
        return part


def _size(layer: NcnnLayer, key: int, default: int | None = None) -> int:
    value = layer.parameters.get(key, default)
    if value is None or value != int(value) or not 0 <= value <= _MAX_VALUES:
        raise CardError(f"ncnn layer {layer.name}: parameter {key} must be a size up to {_MAX_VALUES}, got {value}")
    return int(value)


def _integer(word: str, where: str) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) <= 9):
        raise CardError(f"{where}: expected a count, got {word!r}")
    return int(word)


def _number(word: str, where: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CardError(f"{where}: expected a number, got {word!r}")
    return value
