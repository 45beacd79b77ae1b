from __future__ import annotations

import struct

import numpy as np
import pytest
from numpy.typing import NDArray

from earthloom.models.zoo.convert import ncnn
from earthloom.tiling.errors import CardError

HALF = struct.pack("<I", 0x01306B47)
WHOLE = struct.pack("<I", 0)
PARAM = """7767517
4 4
Input                    in    0 1 data
MemoryData               mean  0 1 mean 0=1 1=1 2=3
BinaryOp                 sub   2 1 data mean centred 0=1
Convolution              conv  1 1 centred out 0=3 1=3 4=1 5=1 6=81
"""
MEAN = np.array([0.5, 0.25, 0.125], "<f4")
WEIGHT = np.random.default_rng(0).normal(size=(3, 3, 3, 3)).astype("<f2")
BIAS = np.array([1.0, 2.0, 3.0], "<f4")
PADDING = b"\0\0"
"""81 halves are 162 bytes; arrays end on multiples of four."""
DATA = MEAN.tobytes() + HALF + WEIGHT.tobytes() + PADDING + BIAS.tobytes()


def arrays(param: str, data: bytes) -> list[NDArray[np.float32]]:
    return [array for _, found in ncnn.arrays_of(param.encode(), data) for array in found]


def test_halves_end_on_four_bytes_and_constants_and_biases_have_no_tag() -> None:
    mean, weight, bias = arrays(PARAM, DATA)
    np.testing.assert_array_equal(mean, MEAN)
    np.testing.assert_array_equal(weight, WEIGHT.astype(np.float32))
    np.testing.assert_array_equal(bias, BIAS)
    assert {array.dtype for array in (mean, weight, bias)} == {np.dtype(np.float32)}


def test_whole_floats_are_read_too() -> None:
    weight = WEIGHT.astype("<f4") * 1.0001
    np.testing.assert_array_equal(arrays(PARAM, MEAN.tobytes() + WHOLE + weight.tobytes() + BIAS.tobytes())[1], weight)


def test_a_convolution_without_bias_has_one_array() -> None:
    assert len(arrays(PARAM.replace(" 5=1", ""), DATA[: -BIAS.nbytes])) == 2


@pytest.mark.parametrize(("data", "message"), [(DATA[:-4], "a layer wants"), (DATA + b"\0" * 4, "belong to no layer")])
def test_weights_of_another_network_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(CardError, match=message):
        arrays(PARAM, data)
