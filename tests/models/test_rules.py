"""Water, snow and hot spots by thresholds, and thresholds of one's own."""

from __future__ import annotations

import pytest
import torch

from earthloom.models import zoo
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import from_item, to_item
from earthloom.models.networks.registry import build
from earthloom.models.zoo.indices import PREFIX, card_of_word
from earthloom.models.zoo.rules import ENTRIES, HOT_SPOTS, SNOW, WATER_INDEX, WATER_INDICES
from earthloom.tiling.errors import CardError


def classes(card: ModelCard, **bands: list[float]) -> list[int]:
    """What a card makes of a row of pixels, each band by name."""
    x = torch.stack([torch.tensor(bands[name]) for name in card.bands])[None, :, None]
    found: list[int] = build(card)(x).argmax(dim=1).flatten().tolist()
    return found


def test_the_sum_of_both_indices_settles_what_they_disagree_on() -> None:
    green, nir, swir16 = [0.1, 0.1, 0.1], [0.12, 0.12, 0.05], [0.02, 0.09, 0.3]
    assert classes(WATER_INDEX[0], green=green, swir16=swir16) == [1, 1, 0]
    assert classes(WATER_INDEX[1], green=green, nir=nir) == [0, 0, 1]
    assert classes(WATER_INDICES, green=green, nir=nir, swir16=swir16) == [1, 0, 0]


def test_snow_is_bright_in_green_and_dark_in_the_infrared() -> None:
    # snow, water, cloud, dark wet ground, snow in shade
    found = classes(
        SNOW, green=[0.8, 0.06, 0.7, 0.08, 0.3], swir16=[0.1, 0.01, 0.5, 0.02, 0.05], nir=[0.7, 0.02, 0.7, 0.2, 0.25]
    )
    assert found == [1, 0, 0, 0, 1]


def test_hot_spots_glow_in_the_short_wave_infrared() -> None:
    # flames, lava that saturates swir16, bare soil, burn scar, water
    found = classes(
        HOT_SPOTS,
        nir=[0.1, 0.2, 0.3, 0.08, 0.02],
        swir16=[0.3, 0.9, 0.4, 0.15, 0.01],
        swir22=[0.8, 1.0, 0.35, 0.2, 0.01],
    )
    assert found == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("card", [card for entry in ENTRIES for card in entry.cards], ids=lambda card: card.label)
def test_cards_are_written_without_loss_and_name_their_source(card: ModelCard) -> None:
    assert from_item(to_item(card, weights_name="weights.safetensors", n_parameters=0)) == card
    assert card.citation
    assert zoo.ZOO[card.name]


def test_a_threshold_of_ones_own_makes_a_map_of_two_classes() -> None:
    above = card_of_word(f"{PREFIX}wet=(green-nir)/(green+nir) > 0.1")
    assert [(c.value, c.name) for c in above.classes] == [(0, "not_wet"), (1, "wet")]
    assert (above.kind, above.bands, above.name) == ("class-map", ("green", "nir"), "wet")
    green, nir = [0.3, 0.24, 0.1], [0.1, 0.2, 0.3]  # 0.5, 0.09, -0.5
    assert classes(above, green=green, nir=nir) == [1, 0, 0]
    below = card_of_word(f"{PREFIX}(green-nir)/(green+nir) < -2e-1")
    assert classes(below, green=green, nir=nir) == [0, 0, 1]
    assert below.name.startswith("index-")
    assert below.name != card_of_word(f"{PREFIX}(green-nir)/(green+nir) < -0.1").name
    assert from_item(to_item(above, weights_name="weights.safetensors", n_parameters=0)) == above


@pytest.mark.parametrize("word", ["nir > 0.1 > 0", "0.1 < nir", "nir > red", "nir >", "> 1", "nir >= 0.1", "nir > nan"])
def test_any_other_comparison_is_refused_with_an_example(word: str) -> None:
    with pytest.raises(CardError, match=r"> 0\.1|cannot read"):
        card_of_word(PREFIX + word)
