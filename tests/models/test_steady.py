from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from earthloom.models.device.deterministic import softmax, steady

POINTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "mish": F.mish,
    "elu": F.elu,
    "softplus": F.softplus,
    "sigmoid_in_place": lambda x: x.clone().sigmoid_(),
    "expit": torch.special.expit,
    "elu_in_place": lambda x: F.elu_(x.clone()),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 0.7),
    "glu": lambda x: F.glu(torch.cat([x, x.flip(1)], dim=1), dim=1),
}
CROPS = ((0, 57, 0, 63), (3, 50, 5, 61), (1, 2, 7, 8), (10, 13, 20, 33), (0, 57, 1, 2))


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_functions_give_equal_pixels_equal_bits(name: str) -> None:
    function = POINTWISE[name]
    x = torch.randn(1, 5, 57, 63, generator=torch.Generator().manual_seed(0)) * 4
    with steady("cpu"):
        whole = function(x)
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for top, bottom, left, right in CROPS:
                part = x[:, :, top:bottom, left:right]
                for layout in (torch.contiguous_format, torch.channels_last):
                    many = function(torch.cat([part] * 3).contiguous(memory_format=layout))
                    assert torch.equal(many[1:2], whole[:, :, top:bottom, left:right])
    torch.testing.assert_close(whole, function(x), rtol=2e-5, atol=1e-6)


def test_softmax_is_torchs_and_does_not_depend_on_a_pixels_place() -> None:
    x = torch.randn(5, 57, 63, generator=torch.Generator().manual_seed(0)) * 4
    whole = softmax(x)
    torch.testing.assert_close(whole, x.softmax(0))
    for top, bottom, left, right in CROPS:
        assert torch.equal(softmax(x[:, top:bottom, left:right]), whole[:, top:bottom, left:right])


@pytest.mark.parametrize("side", [4, 16, 96])
def test_convolutions_give_the_same_bits_in_any_batch_on_any_number_of_threads(side: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(6, 16, 3, padding=1), nn.Conv2d(16, 5, 1), nn.Conv2d(5, 8, 3, stride=2, padding=1),
        nn.ConvTranspose2d(8, 8, 2, stride=2), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 3, 1, bias=False),
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # fmt: skip
    x = torch.randn(3, 6, side, side).contiguous(memory_format=torch.channels_last)
    answers = []
    with torch.inference_mode(), steady("cpu"):
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            answers.append(net(x))
            answers.append(torch.cat([net(x[i : i + 1]) for i in range(3)]))
    assert all(torch.equal(answer, answers[0]) for answer in answers)
    with torch.inference_mode():
        torch.testing.assert_close(answers[0], net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("switch", ["allow_tf32", "fp32_precision", "fp32_precision of all"])
def test_on_a_gpu_fp32_is_not_cut_whichever_switch_a_program_has_set_and_the_switch_stays(switch: str) -> None:
    products: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    every: Any = torch.backends
    try:
        if switch == "allow_tf32":
            products.allow_tf32 = cudnn.allow_tf32 = True
        elif switch == "fp32_precision":
            products.fp32_precision = cudnn.conv.fp32_precision = "tf32"
        else:
            every.fp32_precision = "tf32"
        with steady("cuda"):
            assert [part.fp32_precision for part in (products, cudnn.conv, cudnn.rnn)] == ["ieee"] * 3
            assert not products.allow_tf32, "cuBLAS asks for this one"
            assert torch.are_deterministic_algorithms_enabled()
        assert [part.fp32_precision for part in (products, cudnn.conv)] == ["tf32"] * 2
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        every.fp32_precision = "none"
        products.allow_tf32, cudnn.allow_tf32 = False, True
        products.fp32_precision = "none"
