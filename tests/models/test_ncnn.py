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
    return [array for layer in ncnn.read(param.encode(), data) for array in layer.arrays]


def test_layers_come_in_order_with_their_blobs_and_parameters() -> None:
    layers = ncnn.read(PARAM.encode(), DATA)
    assert [layer.kind for layer in layers] == ["Input", "MemoryData", "BinaryOp", "Convolution"]
    assert layers[2].inputs == ("data", "mean")
    assert layers[2].outputs == ("centred",)
    assert layers[3].parameters == {0: 3, 1: 3, 4: 1, 5: 1, 6: 81}


def test_halves_end_on_four_bytes_and_constants_and_biases_have_no_tag() -> None:
    mean, weight, bias = arrays(PARAM, DATA)
    np.testing.assert_array_equal(mean, MEAN.reshape(3, 1, 1))
    np.testing.assert_array_equal(weight, WEIGHT.astype(np.float32))
    np.testing.assert_array_equal(bias, BIAS)
    assert {array.dtype for array in (mean, weight, bias)} == {np.dtype(np.float32)}


def test_whole_floats_are_read_too() -> None:
    weight = WEIGHT.astype("<f4") * 1.0001
    np.testing.assert_array_equal(arrays(PARAM, MEAN.tobytes() + WHOLE + weight.tobytes() + BIAS.tobytes())[1], weight)


def test_a_convolution_without_bias_has_one_array() -> None:
    assert len(arrays(PARAM.replace(" 5=1", ""), DATA[: -BIAS.nbytes])) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("7767517", "7767518", "must begin with 7767517"),
        ("4 4", "5 4", "says 5 layers but has 4"),
        ("4 4", "4 9", "says 9 blobs but its layers make 4"),
        ("4 4", "-4 4", "expected a count"),
        ("BinaryOp ", "LSTM ", "kind 'LSTM' is not read; one of Input"),
        ("6=81", "6=81 9=1", "parameter '9=1' of Convolution is not read"),
        ("6=81", "6=81 6=81", "said twice"),
        ("6=81", "6=80", "80 weights are not whole 3 x 3 kernels for 3 outputs"),
        ("6=81", "6=1e30", "must be a size"),
        ("6=81", "6=nan", "expected a number, got 'nan'"),
        ("6=81", "", "parameter 6 must be a size"),
        ("1 1 centred out", "1 1 nothing out", "takes 'nothing', which no layer above it makes"),
        ("1 1 centred out", "1 1 centred data", "makes 'data', which was made above"),
        ("1 1 centred out", "9 1 centred out", "says 9 inputs and 1 outputs"),
        ("0=3 1=3", "0=2000 1=2000", "not whole 2000 x 2000 kernels"),
        ("conv  1 1 centred out 0=3 1=3 4=1 5=1 6=81", "conv 1", "needs kind, name and two counts"),
    ],
)
def test_a_param_that_is_unknown_or_damaged_is_refused(old: str, new: str, message: str) -> None:
    assert old in PARAM
    with pytest.raises(CardError, match=message):
        ncnn.read(PARAM.replace(old, new).encode(), DATA)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DATA[:-1], "layer conv: needs 12 bytes at 180 but the .bin has 191"),
        (DATA[:20], "layer conv: needs 164 bytes"),
        (b"", "layer mean: needs 12 bytes"),
        (DATA + b"\0", "1 of 193 bytes belong to no layer"),
        (DATA.replace(HALF, struct.pack("<I", 0x000D4B38)), "stored as 0x000d4b38; only fp32"),
        (DATA.replace(HALF, struct.pack("<I", 0x0002C056)), "stored as 0x0002c056; only fp32"),
        (DATA[: -BIAS.nbytes] + np.full(3, np.nan, "<f4").tobytes(), "NaN or infinite"),
    ],
)
def test_a_bin_that_is_unknown_or_damaged_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(CardError, match=message):
        ncnn.read(PARAM.encode(), data)


def test_a_binary_param_is_refused() -> None:
    with pytest.raises(CardError, match="not text"):
        ncnn.read(b"\xdd\x85\x76\x00", DATA)
