"""Water in radar images: the scene's own threshold, its bounds, speckle, floods between two dates, and the presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray

import earthloom
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import from_item, to_item
from earthloom.models.networks.registry import build
from earthloom.models.networks.segment.sar_water import SarWater, otsu
from earthloom.models.networks.survey import N_QUANTILES, survey
from earthloom.models.zoo.radar import FLOOD_SAR, WATER_SAR
from earthloom.tiling.errors import CardError

LAND_DB, WATER_DB = -8.0, -20.0
SHAPE = (96, 160)


def image(water: NDArray[np.bool_], looks: int = 4) -> NDArray[np.float32]:
    """Backscatter as power, with the speckle of so many looks (gamma distributed, Ulaby et al. 1986)."""
    mean = 10 ** (np.where(water, WATER_DB, LAND_DB) / 10)
    return (mean * np.random.default_rng(0).gamma(looks, 1 / looks, water.shape)).astype(np.float32)


def lake(side: int = 40, left: int = 20) -> NDArray[np.bool_]:
    water = np.zeros(SHAPE, bool)
    water[20 : 20 + side, left : left + side] = True
    return water


def classes(card: ModelCard, *dates: NDArray[np.float32]) -> NDArray[np.int64]:
    x = torch.from_numpy(np.stack(dates) - np.float32(card.mean[0]))[None]
    module: Any = build(card).eval()
    context = module.context(survey([(x[0].numpy(), np.ones(SHAPE, bool))]))
    answer = module(x, context)
    torch.testing.assert_close(answer.sum(dim=1), torch.ones(1, *SHAPE))
    return np.asarray(answer.argmax(dim=1)[0])


def iou(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def test_water_is_found_in_power_and_decibels_alike_and_in_grey_pictures() -> None:
    power = image(lake())
    decibels = (10 * np.log10(power)).astype(np.float32)
    grey = np.clip((decibels + 30) * 7, 1, 255).round().astype(np.float32)
    found = [classes(card, values) for card, values in zip(WATER_SAR, (power, decibels, grey), strict=True)]
    assert all(iou(one == 1, lake()) > 0.93 for one in found)
    assert (found[0] != found[1]).mean() < 0.001


def test_a_scene_without_water_stays_dry() -> None:
    for card in WATER_SAR:
        dry = image(np.zeros(SHAPE, bool))
        values = dry if card.variant == "linear" else (10 * np.log10(dry)).astype(np.float32)
        values = np.clip((values + 30) * 7, 1, 255) if card.variant == "grey" else values
        assert (classes(card, values) == 1).mean() < 0.002


def test_a_scene_of_water_alone_is_water_where_values_are_calibrated() -> None:
    assert (classes(WATER_SAR[0], image(np.ones(SHAPE, bool))) == 1).mean() > 0.999


def test_a_flood_is_water_on_the_later_date_only() -> None:
    before, after = lake(side=30), lake(side=30) | lake(side=40, left=90)
    before[20:40, 60:80] = True  # dries up
    found = classes(FLOOD_SAR[0], image(after), image(before))
    for value, truth in enumerate((~after & ~before, after & ~before, after & before, before & ~after)):
        assert iou(found == value, truth) > 0.85


def test_otsus_threshold_parts_two_populations_and_tells_one_from_two() -> None:
    draw = np.random.default_rng(1)
    shares = np.linspace(0, 1, N_QUANTILES)
    two = np.quantile(np.concatenate([draw.normal(-20, 1.5, 30_000), draw.normal(-8, 2, 70_000)]), shares)
    threshold, width, apart = otsu(two)
    assert apart
    assert threshold == pytest.approx(-14, abs=1)
    assert width == pytest.approx(12, abs=0.3)
    assert not otsu(np.quantile(draw.normal(-8, 2, 100_000), shares))[2]
    assert not otsu(np.full(N_QUANTILES, 3.0))[2]


@pytest.mark.parametrize("card", [*WATER_SAR, *FLOOD_SAR], ids=lambda card: card.label)
def test_cards_are_written_without_loss_and_their_halo_is_what_they_see(card: ModelCard) -> None:
    assert from_item(to_item(card, weights_name="weights.safetensors", n_parameters=0)) == card
    module: Any = build(card).eval()
    x = torch.rand(1, len(card.bands), 41, 41) + 1
    context = module.context(survey([(x[0].numpy(), np.ones((41, 41), bool))]))
    before = module(x, context)
    x[..., 20, 20] = torch.nan
    rows, _ = torch.where((module(x, context) != before).any(dim=1)[0])
    assert int((rows - 20).abs().max()) == card.halo_px == card.support_px


@pytest.mark.parametrize(
    "change",
    [{"in_channels": 3}, {"classes": 4}, {"smooth_px": 4}, {"lowest": -20.0}],
    ids=str,
)
def test_arguments_that_contradict_each_other_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(CardError):
        SarWater(**({"in_channels": 1, "classes": 2, "decibels": True} | change))  # type: ignore[arg-type]


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
