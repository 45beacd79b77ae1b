from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from earthloom.models.device.batchnorm_folding import fold
from earthloom.models.inference.predictor import Predictor
from earthloom.models.networks import registry
from earthloom.models.networks.segment.ukis_unet import UkisUnet
from tests.models.nets import CPU, card_of, seeded

SMP = '{"arch":"unet","decoder_channels":[64,32,32,16,16],"encoder_depth":5,"encoder_name":"resnet18"}'


def restless(module: nn.Module) -> nn.Module:
    """Statistics as after training: no norm is the identity."""
    torch.manual_seed(3)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for part in (layer.running_mean, layer.bias):
                if part is not None:
                    nn.init.normal_(part, std=0.3)
            for part in (layer.running_var, layer.weight):
                if part is not None:
                    nn.init.uniform_(part, 0.5, 2.0)
    return module.eval().requires_grad_(False)


def norms(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


def check_fold(module: nn.Module, x: Tensor, expected: int) -> None:
    """`expected` norms go, and what the network says of other pixels stays: in float64, where rounding hides nothing."""
    module, x = module.double(), x.double()
    folded, before = copy.deepcopy(module), norms(module)
    assert fold(folded, torch.zeros_like(x)) == expected
    assert norms(folded) == before - expected
    torch.testing.assert_close(folded(x), module(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "convolution",
    [
        lambda: nn.Conv2d(4, 6, 3, padding=1),
        lambda: nn.Conv2d(4, 6, 3, stride=2, bias=False),
        lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2, padding_mode="reflect"),
        lambda: nn.ConvTranspose2d(4, 6, 2, stride=2),
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, bias=False),
    ],
    ids=["plain", "strided", "grouped", "transposed", "transposed_grouped"],
)
@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_after_its_convolution_becomes_part_of_it(convolution: Callable[[], nn.Module], affine: bool) -> None:
    module = restless(nn.Sequential(convolution(), nn.BatchNorm2d(6, affine=affine), nn.ReLU()))
    check_fold(module, torch.randn(2, 4, 12, 10), 1)


class Net(nn.Module):
    """Two convolutions and two norms, put together by `how`."""

    def __init__(self, how: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.norm, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self, x)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (lambda n, x: n.norm(torch.relu(n.first(x))), 0),
        (lambda n, x: n.norm(n.first(x).relu_()), 0),
        (lambda n, x: n.norm(x) + n.first(x), 0),
        (lambda n, x: (y := n.first(x)) + n.norm(y), 0),
        (lambda n, x: torch.cat([y := n.first(x), n.norm(y)], dim=1), 0),
        (lambda n, x: (n.norm(y := n.first(x)), y)[1], 0),
        (lambda n, x: n.norm(y := n.first(x)) + y.data, 0),
        (lambda n, x: n.norm(y := n.first(x)) + n.other(y), 0),
        (lambda n, x: n.norm(n.first(x)) + n.norm(n.second(x)), 0),
        (lambda n, x: n.norm(n.first(x)) + n.norm(torch.relu(n.first(x))), 0),
        (lambda n, x: n.norm(n.first(x)) + n.other(n.first(x)), 0),
        (lambda n, x: n.norm(n.first(x)) + n.first(x), 0),
        (lambda n, x: n.norm(n.first(x)) + n.norm(n.first(x.flip(3))), 1),
        (lambda n, x: n.other(n.second(n.norm(y := n.first(x)))) * y.shape[1], 2),
    ],
    ids=[
        "behind_relu", "behind_relu_in_place", "not_of_it", "skipped_over", "joined", "returned", "aliased", "two_norms",
        "two_convolutions", "once_behind_relu", "another_norm_later", "once_without", "called_twice", "in_a_row",
    ],
)  # fmt: skip
def test_only_a_norm_that_alone_takes_all_answers_of_one_convolution_is_folded(
    how: Callable[[Net, Tensor], Tensor], expected: int
) -> None:
    check_fold(restless(Net(how)), torch.randn(1, 3, 8, 8), expected)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (lambda n, x: n.norm(n.second(n.other(torch.relu(n.first(x))))), 1),
        (lambda n, x: n.norm(n.second(n.norm(torch.relu(n.first(x))))), 0),
    ],
    ids=["by_another_norm", "by_the_same_norm"],
)
def test_an_answer_at_the_address_of_something_that_a_norm_took_before_is_told_from_it(
    how: Callable[[Net, Tensor], Tensor], expected: int
) -> None:
    for _ in range(100):  # where Python puts an object is its own affair
        assert fold(restless(Net(how)), torch.zeros(1, 3, 8, 8)) == expected


def test_a_norm_in_training_mode_or_of_the_batch_stays() -> None:
    assert fold(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)).train(), torch.zeros(2, 2, 4, 4)) == 0
    batch = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    assert fold(batch, torch.zeros(2, 2, 4, 4)) == 0


def test_a_weight_that_two_convolutions_share_is_changed_in_one() -> None:
    module = Net(lambda n, x: n.norm(n.first(x)) + n.second(x))
    module.second.weight = module.first.weight
    check_fold(restless(module), torch.randn(1, 3, 8, 8), 1)


def test_the_published_order_of_convolution_relu_norm_is_untouched() -> None:
    module = restless(UkisUnet(in_channels=4, classes=3, base=4))
    check_fold(module, torch.randn(1, 4, 32, 32), 0)


@pytest.mark.parametrize(("architecture", "arguments", "n_norms"), [("smp", SMP, 30), ("lite-unet", "{}", 41)])
def test_every_norm_of_a_network_of_convolution_and_norm_is_folded(
    architecture: str, arguments: str, n_norms: int
) -> None:
    module = restless(registry.build(card_of(architecture, 4, 3, 32, arguments)))
    assert norms(module) == n_norms
    check_fold(module, torch.randn(1, 4, 96, 64), n_norms)


def test_a_predictor_folds_what_it_loads_and_no_class_flips(tmp_path: Path) -> None:
    case = seeded(card_of("smp", 4, 4, 32, SMP), tmp_path)
    predictor = Predictor(case.card, case.path, CPU, 1)
    assert (predictor.n_folded, norms(predictor.module)) == (30, 0)
    plain = restless(registry.build(case.card))
    assert case.path is not None
    plain.load_state_dict(load_file(case.path))
    x = torch.randn(1, 4, 128, 128, generator=torch.Generator().manual_seed(0))
    ours, theirs = predictor.module(x), plain(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert (ours.argmax(1) != theirs.argmax(1)).float().mean() < 1e-4
    assert len(theirs.argmax(1).unique()) > 1, "a chip of one class would prove little"
