"""Water in radar images: the scene's own threshold, its bounds, speckle, floods between two dates, and the presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

import earthloom
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import from_item, to_item
from earthloom.models.networks.registry import build
from earthloom.models.networks.segment.sar_water import SarWater, otsu
from earthloom.models.networks.survey import N_QUANTILES
from earthloom.models.zoo.radar import FLOOD_SAR, FLOOD_SAR_REFERENCE, WATER_SAR
from earthloom.tiling.errors import CardError
from tests.models.enhancing import look_at

LAND_DB, WATER_DB = -8.0, -20.0
SHAPE = (96, 160)


def image(water: NDArray[np.bool_], looks: int = 4) -> NDArray[np.float32]:
    """Backscatter as power, with the speckle of so many looks (gamma distributed, Ulaby et al. 1986)."""
    return speckled(np.where(water, WATER_DB, LAND_DB), looks)


def speckled(levels_db: NDArray[np.float64], looks: int = 4) -> NDArray[np.float32]:
    mean = 10 ** (levels_db / 10)
    return (mean * np.random.default_rng(0).gamma(looks, 1 / looks, mean.shape)).astype(np.float32)


def grey_of(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """As pictures of radar images are: decibels, stretched."""
    return np.asarray(np.clip((10 * np.log10(power) + 30) * 7, 1, 255).round(), np.float32)


def lake(side: int = 40, left: int = 20) -> NDArray[np.bool_]:
    water = np.zeros(SHAPE, bool)
    water[20 : 20 + side, left : left + side] = True
    return water


def classes(card: ModelCard, *dates: NDArray[np.float32]) -> NDArray[np.int64]:
    mean = np.array(card.mean, np.float32)[:, None, None]
    x = torch.from_numpy(np.stack(dates) - mean)[None]
    module: Any = build(card).eval()
    answer = module(x, look_at(module, x).context)
    torch.testing.assert_close(answer.sum(dim=1), torch.ones(1, *dates[0].shape))
    return np.asarray(answer.argmax(dim=1)[0])


def iou(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def test_water_is_found_in_power_and_decibels_alike_and_in_grey_pictures() -> None:
    power = image(lake())
    decibels = (10 * np.log10(power)).astype(np.float32)
    found = [classes(card, values) for card, values in zip(WATER_SAR, (power, decibels, grey_of(power)), strict=True)]
    assert all(iou(one == 1, lake()) > 0.93 for one in found)
    assert (found[0] != found[1]).mean() < 0.001


@pytest.mark.parametrize("looks", [1, 4])
def test_a_scene_without_water_stays_dry(looks: int) -> None:
    dry = image(np.zeros((640, 640), bool), looks)
    for card, values in zip(WATER_SAR, (dry, 10 * np.log10(dry), grey_of(dry)), strict=True):
        assert (classes(card, values) == 1).mean() < 0.003


def test_a_pond_in_a_wide_land_is_found_by_the_part_that_it_lies_in() -> None:
    pond = np.zeros((512, 512), bool)
    pond[200:230, 330:365] = True
    found = classes(WATER_SAR[2], grey_of(image(pond)))
    assert not otsu(np.quantile(grey_of(image(pond)), np.linspace(0, 1, N_QUANTILES))).is_apart
    assert iou(found == 1, pond) > 0.85


def test_what_is_not_valid_is_no_population() -> None:
    module: Any = build(WATER_SAR[2]).eval()
    grey = torch.from_numpy(grey_of(image(lake())) + 1)[None, None]
    wide = torch.zeros(1, 1, SHAPE[0], 3 * SHAPE[1])
    wide[..., : SHAPE[1]] = grey
    assert torch.equal(look_at(module, wide).context, look_at(module, grey).context)
    assert look_at(module, torch.zeros_like(grey)).context.tolist() == [0, 1]


def test_a_scene_of_water_alone_is_water_where_values_are_calibrated() -> None:
    assert (classes(WATER_SAR[0], image(np.ones(SHAPE, bool))) == 1).mean() > 0.999


def test_a_flood_is_water_on_the_later_date_only() -> None:
    before, after = lake(side=30), lake(side=30) | lake(side=40, left=90)
    before[20:40, 60:80] = True  # dries up
    found = classes(FLOOD_SAR[0], image(after), image(before))
    for value, truth in enumerate((~after & ~before, after & ~before, after & before, before & ~after)):
        assert iou(found == value, truth) > 0.85


@pytest.mark.parametrize("number", [2, 1])
def test_a_dark_field_that_became_darker_is_flooded_and_a_river_is_not(number: int) -> None:
    river, field = lake(side=60), lake(side=60, left=90)
    before = np.where(field, -16.0, np.where(river, WATER_DB, LAND_DB))
    dates = [speckled(np.where(river | field, WATER_DB, LAND_DB).astype(float)), speckled(before)]
    changed = [dates, [10 * np.log10(date) for date in dates], [grey_of(date) for date in dates]]
    found = classes(FLOOD_SAR[number], *changed[number])
    alone = classes(WATER_SAR[number], changed[number][1])
    assert (alone[field] == 1).mean() > 0.9, "by itself the field is dark enough for water"
    assert iou(found == 1, field) > 0.85
    assert iou(found == 2, river) > 0.85


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_map_of_permanent_water_stands_for_the_earlier_date(number: int) -> None:
    power = image(lake() | lake(left=90))
    values = (power, 10 * np.log10(power), grey_of(power))[number]
    always = (lake(side=30) | lake(side=20, left=65)).astype(np.float32)
    there = always > 0
    truth = np.select([(lake() | lake(left=90)) & ~there, (lake() | lake(left=90)) & there, there], [1, 2, 3], 0)
    for water in (1, 80):
        found = classes(FLOOD_SAR_REFERENCE[number], values.astype(np.float32), always * np.float32(water))
        assert (found == truth).mean() > 0.97
        assert np.array_equal(np.isin(found, (2, 3)), there)


def test_otsus_threshold_parts_two_populations_and_tells_one_from_two() -> None:
    draw = np.random.default_rng(1)
    shares = np.linspace(0, 1, N_QUANTILES)
    two = np.quantile(np.concatenate([draw.normal(-20, 1.5, 30_000), draw.normal(-8, 2, 70_000)]), shares)
    found = otsu(two)
    assert found.is_apart
    assert found.threshold == pytest.approx(-14, abs=1)
    assert found.width == pytest.approx(12, abs=0.3)
    assert not otsu(np.quantile(draw.normal(-8, 2, 100_000), shares)).is_apart
    assert not otsu(np.full(N_QUANTILES, 3.0)).is_apart


@pytest.mark.parametrize("card", [*WATER_SAR, *FLOOD_SAR, *FLOOD_SAR_REFERENCE], ids=lambda card: card.label)
def test_cards_are_written_without_loss_and_their_halo_is_what_they_see(card: ModelCard) -> None:
    assert from_item(to_item(card, weights_name="weights.safetensors", n_parameters=0)) == card
    module: Any = build(card).eval()
    x = torch.rand(1, len(card.bands), 41, 41) + 1
    context = look_at(module, x).context
    before = module(x, context)
    x[..., 20, 20] = torch.nan
    rows, _ = torch.where((module(x, context) != before).any(dim=1)[0])
    assert int((rows - 20).abs().max()) == card.halo_px == card.support_px


@pytest.mark.parametrize(
    "change", [{"in_channels": 3}, {"classes": 4}, {"smooth_px": 4}, {"lowest": -20.0}, {"reference": True}], ids=str
)
def test_arguments_that_contradict_each_other_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(CardError):
        SarWater(**({"in_channels": 1, "classes": 2, "decibels": True} | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gain_db", "said"),
    [(0.0, ""), (1.5, ""), (-1.5, ""), (6.0, "darker on the later one by 5"), (-6.0, "brighter on the later one by 5")],
)
def test_two_dates_of_unlike_calibration_are_noted(gain_db: float, said: str) -> None:
    before, after = image(lake()), image(lake() | lake(left=90))
    other = before * np.float32(10 ** (gain_db / 10))
    for card, earlier, later in (
        (FLOOD_SAR[0], other, after), (FLOOD_SAR[1], 10 * np.log10(other), 10 * np.log10(after)),
    ):  # fmt: skip
        x = np.stack([later, earlier]) - np.array(card.mean, np.float32)[:, None, None]
        notes = look_at(build(card).eval(), torch.from_numpy(x)[None]).notes
        assert [said in note for note in notes] == [True] * bool(said)
    assert not look_at(build(WATER_SAR[0]).eval(), torch.from_numpy(x[:1])[None]).notes


def test_pictures_of_two_stretches_are_noted_and_those_of_two_filters_or_without_water_are_not() -> None:
    card = FLOOD_SAR[2]
    after, before = grey_of(image(lake() | lake(left=90))), grey_of(image(lake()))
    smooth = uniform_filter(before, 3)
    dry = grey_of(image(np.zeros(SHAPE, bool)))

    def notes(earlier: NDArray[np.float32], later: NDArray[np.float32] = after) -> tuple[str, ...]:
        x = np.stack([later, earlier]) - np.array(card.mean, np.float32)[:, None, None]
        return look_at(build(card).eval(), torch.from_numpy(x.astype(np.float32))[None]).notes

    assert notes(before) == notes(smooth) == ()
    assert "brighter" in notes(before * 0.6)[0]
    assert "darker" in notes(np.asarray(255 * (before / 255) ** 0.3, np.float32))[0]
    assert notes(dry * 0.6, dry) == ()


def test_a_flood_is_mapped_from_files_by_the_preset_whatever_the_cut(tmp_path: Path) -> None:
    for name, water in (("after", lake() | lake(left=90)), ("before", lake())):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", driver="GTiff", width=SHAPE[1], height=SHAPE[0], count=2, dtype="float32",
            crs="EPSG:32633", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6),
        ) as dataset:  # fmt: skip
            dataset.write(np.stack([image(water), image(water) / 4]))
            dataset.update_tags(TIFFTAG_DATETIME="2024:06:02 05:00:00" if name == "after" else "2024:05:02 05:00:00")
    maps = []
    for number, options in enumerate(({"core": 1024}, {"core": 32})):
        out = tmp_path / f"out{number}"
        result = earthloom.run(
            tmp_path / "after.tif", before=(str(tmp_path / "before.tif"),), model="flood-sar", sensor="sentinel1-grd", out=out,
            executor="local", **options,
        )  # fmt: skip
        with rasterio.open(out / result.results["after"].prefix / "flood-sar.tif") as dataset:
            maps.append(dataset.read(1))
    assert np.array_equal(*maps)
    assert iou(maps[0] == 1, lake(left=90)) > 0.9
    assert iou(maps[0] == 2, lake()) > 0.9
