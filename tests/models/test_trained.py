from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.class_map import BlockMap
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_whole
from earthloom.models.inference.stack import Stack
from earthloom.models.measuring import receptive_field
from earthloom.models.measuring.measure import agreement_at, framed
from earthloom.models.networks import registry
from earthloom.models.training.score import iou
from earthloom.models.zoo.entry import shipped_weights
from earthloom.models.zoo.trained import BUILDING_CHANGE, BUILDINGS, DEFORESTATION, ENTRIES, SHIPS
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.window import Window
from infra.recipes.pictures import Pair, counted
from infra.recipes.shipped import RECIPES
from tests.models.nets import CPU, stack_of
from tests.scenes import DATA, landscape, real

SINGLE = (DEFORESTATION, BUILDINGS)
CARDS = [card for entry in ENTRIES for card in entry.cards]


def file_of(card: ModelCard) -> Path:
    path = shipped_weights(card)
    assert path is not None, f"{card.label}: its weights are part of the project"
    return path


def pixels(values: NDArray[np.generic]) -> Stack:
    """Of a photograph, 0 to 1."""
    return stack_of(values, gain=1 / 255)


def part_of(name: str, side_px: int) -> NDArray[np.generic]:
    """Real pixels that the model was not trained on, (3, side, side)."""
    real("deforestation_amazon" if name == "deforestation" else "buildings_kitsap")
    pair = RECIPES[name].read(DATA).held_back[3 if name == "deforestation" else 0]
    return pair.values[:, :side_px, -side_px:]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.label)
def test_the_weights_are_here_small_and_those_of_the_card(card: ModelCard) -> None:
    path = file_of(card)
    assert path.stat().st_size <= 6e6
    assert weights.sha256_of(path) == card.weights
    assert {tensor["dtype"] for tensor in weights.read_header(path).values()} == {"F16", "I64"}
    weights.load_into(registry.build(card), path, card.weights or "")


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.label)
def test_the_card_says_whose_data_it_learned_from_and_how_well(card: ModelCard) -> None:
    assert card.license in ("Apache-2.0", "CC-BY-4.0", "MIT")
    assert "ImageNet" in card.citation
    assert "Apache-2.0" in card.citation, "the licence of the first weights"
    if card is not BUILDING_CHANGE:
        assert f"python -m infra.recipes {card.name}" in card.description
        judged = {"ap50", "precision", "recall"} if card is SHIPS else {f"iou_{known.name}" for known in card.classes}
        assert set(dict(card.scores)) == judged


@pytest.mark.parametrize("card", [BUILDINGS, SHIPS], ids=lambda card: card.label)
def test_the_card_names_the_reach_of_its_network(card: ModelCard) -> None:
    module, n_bands = Predictor(card, file_of(card), CPU).module, len(card.bands)
    assert receptive_field.total_stride(module, n_bands, card.stride_px) == card.stride_px
    assert receptive_field.support(module, n_bands, card.stride_px) == card.support_px


def test_chips_that_cover_the_reach_give_the_bytes_of_one_pass() -> None:
    values = (landscape(320, 304, 3) // 40).astype(np.uint8)
    predictor = Predictor(BUILDINGS, file_of(BUILDINGS), CPU, 1)
    found = agreement_at(predictor, 208, 160, pixels(values))
    assert found.identical


def test_the_halo_of_a_detector_covers_its_reach_and_its_rivals_and_gives_the_objects_of_one_pass() -> None:
    assert SHIPS.objects is not None
    assert SHIPS.support_px is not None
    assert SHIPS.halo_px is not None
    assert SHIPS.halo_px >= SHIPS.support_px + SHIPS.objects.radius_px
    predictor = Predictor(SHIPS, file_of(SHIPS), CPU, 1)
    found = agreement_at(predictor, SHIPS.halo_px, 160, stack_of(landscape(320, 304, 5)))
    assert found.identical


@pytest.mark.slow
@pytest.mark.parametrize("card", SINGLE, ids=lambda card: card.label)
def test_at_the_halo_of_the_card_no_seam_shows_on_a_real_scene(card: ModelCard) -> None:
    values = part_of(card.name, 512)
    predictor = Predictor(card, file_of(card), CPU, 1)
    assert card.halo_px is not None
    assert agreement_at(predictor, card.halo_px, 256, pixels(values)).is_seamless


@pytest.mark.slow
def test_forest_is_found_on_chips_that_were_held_back() -> None:
    real("deforestation_amazon")
    recipe = RECIPES["deforestation"]
    held_back = recipe.read(DATA).held_back
    assert len(held_back) == 8
    module = Predictor(DEFORESTATION, file_of(DEFORESTATION), CPU).module
    assert iou(counted(module, held_back, recipe.gain, DEFORESTATION), 0) >= 0.88


@pytest.mark.slow
def test_buildings_are_found_on_rows_that_were_held_back() -> None:
    real("buildings_kitsap")
    recipe = RECIPES["buildings"]
    (rows,) = recipe.read(DATA).held_back
    part = Pair(rows.values[:, :, 2200:3400], rows.labels[:, 2200:3400])
    module = Predictor(BUILDINGS, file_of(BUILDINGS), CPU).module
    assert iou(counted(module, [part], recipe.gain, BUILDINGS), 1) >= 0.60


@pytest.mark.long
def test_the_same_photograph_twice_shows_no_change_and_woods_in_its_place_show_demolition() -> None:
    values = part_of("buildings", 512)
    woods = RECIPES["buildings"].read(DATA).held_back[0].values[:, -512:, 1350:1862]
    single = Predictor(BUILDINGS, file_of(BUILDINGS), CPU, 1)
    pair = Predictor(BUILDING_CHANGE, file_of(BUILDING_CHANGE), CPU, 1)

    def classes_of(predictor: Predictor, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        chips = ChipGrid(scene=Window(0, 0, 512, 512), core_px=512, halo_px=208, stride_px=16)
        made: BlockMap = predict_whole(predictor, chips, framed(pixels(values), chips.extent, 208))
        return made.classes

    buildings = classes_of(single, values) == 1
    assert 0.01 < buildings.mean() < 0.6
    same = classes_of(pair, np.concatenate([values, values]))
    sure = np.isin(same, (0, 1))
    assert sure.mean() > 0.97, "where the network is in doubt two dates may differ"
    assert np.array_equal(same[sure] == 1, buildings[sure])
    lost, built = classes_of(pair, np.concatenate([woods, values])), classes_of(pair, np.concatenate([values, woods]))
    assert (lost[buildings] == 3).mean() > 0.9
    assert (built[buildings] == 2).mean() > 0.9
    assert max((lost == 2).mean(), (built == 3).mean()) < 0.02


def test_the_recipes_hold_back_what_lies_apart() -> None:
    real("deforestation_amazon")
    paths = sorted((DATA / "deforestation_amazon" / "images").glob("*.tif"))
    centres = []
    for path in paths:
        with rasterio.open(path) as dataset:
            centres.append(dataset.lnglat())
    lon, lat = np.array(centres).T
    km = 111.2 * np.hypot((lon[:, None] - lon) * np.cos(np.radians(lat[:, None])), lat[:, None] - lat)
    held = np.arange(30) % 4 == 1
    assert km[held][:, ~held].min() > 100


def test_a_missing_folder_of_data_is_named(tmp_path: Path) -> None:
    for name, recipe in RECIPES.items():
        with pytest.raises(FileNotFoundError, match=f"{name.split('-')[0]}"):
            recipe.read(tmp_path)
