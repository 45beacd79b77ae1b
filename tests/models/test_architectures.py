from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from earthloom.models.cards.card import ModelCard
from earthloom.models.networks.registry import build
from earthloom.models.zoo.landwater import LANDWATER
from earthloom.models.zoo.rules import WATER_INDEX
from earthloom.tiling.errors import CardError
from tests.models.nets import card_of

SMP = '{"arch":"unet","encoder_depth":3,"encoder_name":"%s","decoder_channels":[32,16,8]%s}'


@pytest.mark.parametrize("card", LANDWATER, ids=lambda card: card.label)
def test_the_ukis_network_gives_one_logit_for_each_class_and_pixel(card: ModelCard) -> None:
    assert build(card).eval()(torch.zeros(2, len(card.bands), 32, 48)).shape == (2, 5, 32, 48)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-mobilenetv3_small_100"])
def test_smp_networks_are_built_with_their_own_and_timm_encoders_offline(
    encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    module = build(card_of("smp", 4, 3, 8, SMP % (encoder, ""))).eval()
    assert module(torch.zeros(1, 4, 64, 64)).shape == (1, 3, 64, 64)


@pytest.mark.parametrize(
    ("architecture", "arguments", "message"),
    [
        ("torch.nn.Identity", "{}", "unknown architecture"),
        ("smp", SMP % ("tu-hf-hub:someone/model", ""), "unknown encoder"),
        ("smp", SMP % ("tu-local-dir:/tmp/model", ""), "unknown encoder"),
        ("smp", SMP % ("resnet18", ',"encoder_weights":"imagenet"'), "not taken from a card"),
        ("smp", SMP % ("tu-resnet18", ',"checkpoint_path":"/tmp/evil.pt"'), "not taken from a card"),
        ("smp", SMP % ("resnet18", ',"in_channels":3'), "takes 3 channels but the card names 4"),
        ("smp", '{"arch":"os.system","encoder_name":"resnet18"}', "unknown arch"),
        ("ukis-unet", '{"base":1000000000}', "beyond 8192"),
        ("ukis-unet", '{"depth":5}', "cannot be built"),
    ],
)
def test_arguments_that_a_card_must_not_give_are_refused(architecture: str, arguments: str, message: str) -> None:
    with pytest.raises(CardError, match=message):
        build(card_of(architecture, 4, 3, 8, arguments))


def test_a_threshold_is_the_published_formula_and_safe_where_it_is_undefined() -> None:
    a, b = np.array([[0.3, 0.1, 0.0, -0.02]]), np.array([[0.1, 0.3, 0.0, 0.05]])
    module = build(WATER_INDEX[0])
    pixels = torch.from_numpy(np.stack([a, b])[None].astype(np.float32))
    probability = module(pixels).softmax(1)[0, 1, 0].numpy()
    expected = 1 / (1 + np.exp(-20 * np.array([0.5, -0.5, 0.0, -1.0])))
    np.testing.assert_allclose(probability, expected, rtol=1e-5)


def test_a_threshold_refuses_other_bands_than_its_expression_has() -> None:
    with pytest.raises(CardError, match="but the network gets 1 channels"):
        build(replace(WATER_INDEX[0], bands=("green",), mean=(0.0,), std=(1.0,)))
