from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from earthloom.models.measuring.receptive_field import support, total_stride
from tests.models.nets import TinyNet, landwater


@pytest.mark.parametrize(
    ("net", "stride", "radius"),
    [
        (nn.Conv2d(2, 3, 1), 1, 0),
        (nn.Conv2d(2, 3, 3, padding=1), 1, 1),
        (nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 5, padding=2)), 1, 3),
        (nn.Sequential(nn.Conv2d(2, 2, 4, stride=4), nn.ConvTranspose2d(2, 2, 4, stride=4)), 4, 3),
        (nn.Conv2d(2, 3, 3, padding=8, dilation=8), 1, 8),
    ],
)
def test_small_networks_have_the_support_that_arithmetic_gives(net: nn.Module, stride: int, radius: int) -> None:
    assert total_stride(net.eval(), 2, 8) == stride
    assert support(net, 2, stride) == radius


def test_support_counts_what_zero_weights_and_closed_gates_would_hide_from_a_gradient() -> None:
    net = TinyNet(in_channels=2, classes=3).eval()
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    assert support(net, 2, 2) == 4


class Gated(nn.Module):
    """Squeeze and excite: every pixel sees the mean of all."""

    def forward(self, x: Tensor) -> Tensor:
        return x * nn.functional.adaptive_avg_pool2d(x, 1).sigmoid()


class Grid(nn.Module):
    """Pools to a fixed 4 x 4 grid, whose reduction is not a stride."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(x, 4)
        return x + nn.functional.interpolate(pooled, size=x.shape[2:])


@pytest.mark.parametrize("net", [Gated(), Grid()])
def test_global_context_has_no_finite_support(net: nn.Module) -> None:
    assert support(net, 2, 1) is None
    assert total_stride(nn.Sequential(net, nn.Conv2d(2, 2, 2, stride=2), nn.Upsample(scale_factor=2)), 2, 8) == 2


def test_landwater_sees_94_px_to_each_side() -> None:
    module = landwater().predictor().module
    assert total_stride(module, 6, 16) == 16
    assert support(module, 6, 16) == 94


def test_the_gradient_lies_inside_the_support() -> None:
    torch.manual_seed(0)
    net = TinyNet(in_channels=2, classes=3)
    x = torch.randn(1, 2, 40, 40, requires_grad=True)
    net(x)[0, :, 20, 20].sum().backward()
    assert x.grad is not None
    reached = x.grad.abs().sum((0, 1)).nonzero() - 20
    assert 0 < reached.abs().max() <= 4
