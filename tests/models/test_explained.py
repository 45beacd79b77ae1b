"""A network that explains itself: against captum, against plain formulas, and tiled as in one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, IntegratedGradients
from torch import Tensor, nn

from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import canonical, from_item, to_item
from earthloom.models.inference.sliding import predict_block, predict_whole
from earthloom.models.measuring.measure import framed
from earthloom.models.networks import registry
from earthloom.models.networks.explained import Explained, Method
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.errors import CardError
from tests.models.nets import Case, TinyNet, card_of, seeded, stack_of
from tests.scenes import landscape

pytestmark = pytest.mark.usefixtures("one_thread")
CHIP = torch.randn(2, 3, 32, 24, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def base() -> nn.Module:
    torch.manual_seed(1)
    module = TinyNet(in_channels=3, classes=4).eval().requires_grad_(False)
    module.head.weight *= 4
    return module


def asked(base: nn.Module, method: Method, **options: Any) -> Tensor:
    with torch.inference_mode():
        found: Tensor = Explained(base, method=method, classes=4, **options)(CHIP)
    return found.clone()


def test_entropy_is_that_of_the_softmax(base: nn.Module) -> None:
    p = torch.softmax(base(CHIP).double(), dim=1)
    expected = torch.special.entr(p).sum(dim=1) / np.log(4)
    torch.testing.assert_close(asked(base, "entropy")[:, 0].double(), expected, atol=1e-6, rtol=1e-5)


def test_entropy_is_0_where_the_network_is_sure_and_1_where_it_knows_nothing() -> None:
    class Says(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x * 1000, -x * 1000], dim=1)

    x = torch.tensor([1.0, 0.0, -1.0]).reshape(1, 1, 1, 3)
    assert Explained(Says(), method="entropy", classes=2)(x).flatten().tolist() == [0.0, 1.0, 0.0]


def test_spread_is_the_deviation_over_four_mirror_images(base: nn.Module) -> None:
    every = [
        torch.softmax(base(CHIP.flip(axes)).flip(axes).double(), dim=1).numpy() for axes in ((), (3,), (2,), (2, 3))
    ]
    expected = np.std(every, axis=0).max(axis=1)
    np.testing.assert_allclose(asked(base, "spread")[:, 0], expected, atol=1e-6)
    assert expected.max() > 0.05


def chosen(base: nn.Module, target: int | None) -> Callable[[Tensor], Tensor]:
    """The sum of the class's probabilities over the chip, with the class fixed at what the chip itself gives."""
    fixed = base(CHIP).argmax(dim=1, keepdim=True)
    if target is not None:
        fixed = torch.full_like(fixed, target)

    def total(x: Tensor, of: Tensor) -> Tensor:
        found: Tensor = torch.softmax(base(x), dim=1).gather(1, of).sum(dim=(1, 2, 3))
        return found

    return lambda x: total(x, fixed[: len(x)] if len(x) <= len(fixed) else fixed.repeat(len(x) // len(fixed), 1, 1, 1))


@pytest.mark.parametrize("target", [None, 2])
def test_integrated_gradients_are_those_of_captum(base: nn.Module, target: int | None) -> None:
    integrated = IntegratedGradients(chosen(base, target))
    expected = integrated.attribute(CHIP, n_steps=12, method="gausslegendre", internal_batch_size=2)
    torch.testing.assert_close(
        asked(base, "gradients", steps=12, target=target), expected.float(), atol=2e-6, rtol=1e-4
    )


def test_gradients_sum_up_to_the_difference_from_the_means(base: nn.Module) -> None:
    total = chosen(base, None)
    with torch.no_grad():
        difference = total(CHIP) - total(torch.zeros_like(CHIP))
    errors = [(asked(base, "gradients", steps=steps).sum(dim=(1, 2, 3)) - difference).abs().max() for steps in (2, 60)]
    assert errors[1] < 0.02 * difference.abs().max() < errors[0]


@pytest.mark.parametrize("target", [None, 1])
def test_occlusion_is_the_ablation_of_captum_for_each_pixel(base: nn.Module, target: int | None) -> None:
    of = base(CHIP).argmax(dim=1, keepdim=True)
    if target is not None:
        of = torch.full_like(of, target)
    found = asked(base, "occlusion", target=target)
    whole = torch.softmax(base(CHIP), dim=1).gather(1, of)
    for channel in range(3):
        without = CHIP.clone()
        without[:, channel] = 0
        expected = whole - torch.softmax(base(without), dim=1).gather(1, of)
        torch.testing.assert_close(found[:, channel : channel + 1], expected, atol=1e-6, rtol=1e-5)
    groups = torch.arange(3).reshape(1, 3, 1, 1).expand_as(CHIP[:1])
    ablated = FeatureAblation(chosen(base, target)).attribute(CHIP, feature_mask=groups)
    torch.testing.assert_close(found.sum(dim=(2, 3)), ablated.mean(dim=(2, 3)), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("method", ["entropy", "spread", "occlusion", "gradients"])
def test_a_batch_changes_no_bit(base: nn.Module, method: Method) -> None:
    with torch.inference_mode():
        network = Explained(base, method=method, classes=4, steps=3)
        together, alone = network(CHIP), [network(CHIP[n : n + 1]) for n in (0, 1)]
    assert torch.equal(together, torch.cat(alone))


def test_gradients_leave_the_network_as_it_was(base: nn.Module) -> None:
    before = {name: value.clone() for name, value in base.state_dict().items()}
    asked(base, "gradients", steps=2)
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())
    assert all(parameter.grad is None for parameter in base.parameters())


def explained(case: Case, method: Method, halo_px: int, **options: Any) -> Case:
    arguments = {"base": case.card.architecture, "arguments": {}, "classes": 3, "method": method} | options
    of_bands = method in ("occlusion", "gradients")
    card = replace(
        case.card, architecture="explained", arguments=canonical(arguments), classes=(), halo_px=halo_px,
        outputs=tuple(f"of_{band}" for band in case.card.bands) if of_bands else (method,),
        output_dtype="float32" if of_bands else "uint8",
    )  # fmt: skip
    return Case(card, case.path)


@pytest.mark.parametrize(("method", "halo_px"), [("entropy", 4), ("spread", 4), ("occlusion", 4), ("gradients", 8)])
@pytest.mark.usefixtures("tiny_registry")
def test_an_explanation_is_tiled_as_in_one_pass(tmp_path: Path, method: Method, halo_px: int) -> None:
    """The network sees 4 px; a value's gradients come from outputs as far away, which see as far again."""
    steps: dict[str, Any] = {"steps": 3} if method == "gradients" else {}
    case = explained(seeded(card_of("tiny", 2, 3, 2), tmp_path), method, halo_px, **steps)
    predictor = case.predictor()
    scene = stack_of(landscape(70, 50, 2))
    chips = ChipGrid(scene=scene.window, core_px=16, halo_px=halo_px, stride_px=2)
    pixels = framed(scene, chips.extent, halo_px)
    tiled = predict_block(predictor, chips, scene.window, pixels).made
    whole = predict_whole(predictor, chips, pixels)
    assert float(whole.abs().max()) > 0.01
    torch.testing.assert_close(tiled, whole, atol=1e-6, rtol=1e-5)
    narrow = ChipGrid(scene=scene.window, core_px=16, halo_px=halo_px - 4, stride_px=2)
    seen = framed(scene, narrow.extent, halo_px - 4)
    worse = (predict_block(predictor, narrow, scene.window, seen).made - predict_whole(predictor, narrow, seen)).abs()
    assert float(worse.max()) > 1e-4, "with less of a halo there would be seams"


@pytest.mark.usefixtures("tiny_registry")
def test_norms_are_folded_as_in_the_network_itself(tmp_path: Path) -> None:
    case = seeded(replace(card_of("lite-unet", 2, 3, 16), halo_px=32), tmp_path)
    for method in ("entropy", "gradients"):
        assert explained(case, method, 32, steps=2).predictor().n_folded == case.predictor().n_folded > 0


@pytest.mark.usefixtures("tiny_registry")
def test_cards_of_explanations_are_written_and_read_and_strange_ones_refused(tmp_path: Path) -> None:
    case = explained(seeded(card_of("tiny", 2, 3, 2), tmp_path), "gradients", 8, steps=4, target=1)
    card: ModelCard = case.card
    assert from_item(to_item(card, weights_name="weights.safetensors", n_parameters=1)) == card

    def build(**changes: Any) -> nn.Module:
        return registry.build(replace(card, arguments=canonical(card.kwargs | changes)))

    assert isinstance(build(), Explained)
    for changes, message in (
        ({"base": "explained"}, "unknown architecture 'explained' to explain"),
        ({"base": "onnx"}, "is a file of its own"),
        ({"base": "paired"}, "has no gradients"),
        ({"method": "magic"}, "unknown explanation 'magic'"),
        ({"target": 3}, "the class is 0 to 2"),
        ({"steps": 5000}, "steps are 1 to 1000"),
    ):
        with pytest.raises(CardError, match=message):
            build(**changes)
    with pytest.raises(CardError, match="makes bands"):
        replace(card, outputs=("entropy",), output_dtype="")
