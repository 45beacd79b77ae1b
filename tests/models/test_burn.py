"""Burnt ground: classes at the published thresholds, closed and opened, water apart, and the same however it is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor, nn

from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.predictor import Predictor
from earthloom.models.measuring import receptive_field
from earthloom.models.measuring.measure import agreement_at
from earthloom.models.networks.registry import build
from earthloom.models.networks.segment.burn import BurnIndex
from earthloom.models.networks.segment.morphology import close_and_open
from earthloom.models.zoo.disaster import BURN_NBR, BURN_SEVERITY, USGS_THRESHOLDS
from earthloom.tiling.errors import CardError
from tests.models.nets import CPU, stack_of
from tests.scenes import landscape, real


def burn_pixels(index: list[float], *, after: float = -0.1, light: float = 0.4) -> Tensor:
    """Reflectance (1, 4, 1, n) whose dNBR is `index`; NBR after is `after`."""
    late = torch.full((len(index),), after, dtype=torch.float64)
    early = late + torch.tensor(index, dtype=torch.float64)
    bands = [light * (1 + sign * nbr) for nbr in (late, early) for sign in (1, -1)]
    return torch.stack(bands)[None, :, None].float()


def classes_of(network: nn.Module, x: Tensor) -> list[int]:
    found: list[int] = network(x).argmax(dim=1).flatten().tolist()
    return found


PLAIN: dict[str, Any] = {"classes": 7, "thresholds": USGS_THRESHOLDS, "first_burned": 3, "burned_above": 0.099}
ONE_DATE: dict[str, Any] = {
    "in_channels": 2,
    "classes": 2,
    "thresholds": (0.1,),
    "first_burned": 1,
    "burned_above": 0.1,
}


def test_severity_changes_class_exactly_at_the_thresholds_of_the_usgs() -> None:
    network = BurnIndex(in_channels=4, **PLAIN)
    steps = [t + side for t in USGS_THRESHOLDS for side in (-1e-4, 1e-4)]
    assert classes_of(network, burn_pixels(steps)) == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert classes_of(network, burn_pixels([-0.7, 0.0, 1.1])) == [0, 2, 6]
    index = torch.tensor(USGS_THRESHOLDS).reshape(1, 1, -1)
    logits = network.classify(index, -index, torch.ones_like(index, dtype=torch.bool))
    assert logits.argmax(dim=1).flatten().tolist() == [0, 1, 2, 3, 4, 5]  # a value on a threshold is the lower class's


def test_confidence_grows_with_the_distance_to_the_thresholds() -> None:
    network = BurnIndex(in_channels=4, **PLAIN)
    best = network(burn_pixels([0.1, 0.13, 0.18, 0.7, 1.0])).softmax(dim=1).amax(dim=1).flatten()
    assert best[0] < best[1] < best[2]
    assert best[3] < best[4]
    assert best[0] == pytest.approx(0.645, abs=0.01)
    assert best[4] > 0.99


@pytest.mark.parametrize(("card", "green"), [(BURN_SEVERITY[1], False), (BURN_SEVERITY[0], True)])
def test_only_the_ratio_counts_so_any_scale_will_do(card: ModelCard, green: bool) -> None:
    network = build(card)
    steps = [-0.5, -0.2, 0.0, 0.2, 0.35, 0.5, 0.9]
    spread = burn_pixels(steps).repeat_interleave(9, dim=-1).repeat(1, 1, 9, 1)
    if green:
        spread = torch.cat([spread[:, :2], spread[:, :1] / 2, spread[:, 2:], spread[:, 2:3] / 2], dim=1)
    for factor in (1.0, 1e4, 255.0):
        assert network(spread * factor).argmax(dim=1)[0, 4, 4::9].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_what_is_still_green_did_not_burn() -> None:
    network = build(BURN_SEVERITY[1])
    field = {nbr: burn_pixels([0.5], after=nbr).expand(1, 4, 9, 9) for nbr in (-0.1, 0.1)}
    assert network(field[-0.1]).argmax(dim=1).unique().tolist() == [5]
    assert network(field[0.1]).argmax(dim=1).unique().tolist() == [2]


def test_one_date_is_burnt_where_its_ratio_is_low() -> None:
    network = build(BURN_NBR[1])
    nbr = torch.tensor([-0.5] * 6 + [0.3] * 6).expand(6, 12)
    found = network(torch.stack([0.2 * (1 + nbr), 0.2 * (1 - nbr)])[None]).argmax(dim=1)[0]
    assert torch.equal(found, (nbr < 0).long())


def test_water_and_snow_are_a_class_of_their_own_and_never_burnt() -> None:
    network = build(BURN_NBR[0])
    nir, swir22 = (
        torch.full((12, 20), 0.1),
        torch.full((12, 20), 0.2),
    )  # NBR -0.33: turbid water looks burnt by it alone
    green = torch.where(torch.arange(20) >= 10, 0.15, 0.06).expand(12, 20)
    found = network(torch.stack([nir, swir22, green])[None]).argmax(dim=1)[0]
    assert torch.equal(found, torch.where(torch.arange(20) >= 10, 2, 1).expand(12, 20))
    assert build(BURN_NBR[1])(torch.stack([nir, swir22])[None]).argmax(dim=1).unique().tolist() == [1]


@pytest.mark.parametrize("date", [0, 1])
def test_water_on_either_of_two_dates_is_water(date: int) -> None:
    x = burn_pixels([0.5]).expand(1, 4, 9, 9)
    green = [torch.full((1, 1, 9, 9), 0.9 if date == k else 0.05) for k in range(2)]
    found = build(BURN_SEVERITY[0])(torch.cat([x[:, :2], green[0], x[:, 2:], green[1]], dim=1))
    assert found.argmax(dim=1).unique().tolist() == [7]


@pytest.mark.parametrize("hole", [0.0, -0.01])
def test_a_pixel_without_light_moves_no_neighbour(hole: float) -> None:
    network = BurnIndex(**ONE_DATE, radius_px=2)
    x = torch.stack([torch.full((1, 15, 15), 0.1), torch.full((1, 15, 15), 0.3)], dim=1)
    whole = network(x)
    x[..., 7, 7] = hole
    holed = network(x)
    assert torch.isfinite(holed).all()
    beside = torch.ones(15, 15, dtype=torch.bool)
    beside[7, 7] = False
    assert torch.equal(holed[..., beside], whole[..., beside])
    assert holed[0, :, 7, 7].argmax() == 0


def test_specks_go_gaps_are_filled_and_an_edge_stays() -> None:
    nbr = torch.full((24, 30), 0.2)
    nbr[:, 15:] = -0.5
    clean = nbr.clone()
    nbr[10:13, 5:8] = -0.3  # a speck
    nbr[12, 22] = 0.4  # a gap
    found = BurnIndex(**ONE_DATE, radius_px=2)(torch.stack([1 + nbr, 1 - nbr])[None]).argmax(dim=1)[0]
    assert torch.equal(found, (clean < 0).long())


@settings(deadline=None, max_examples=60)
@given(data=st.data(), radius=st.integers(0, 3), height=st.integers(1, 14), width=st.integers(1, 14))
def test_closing_and_opening_are_those_of_scipy(data: st.DataObject, radius: int, height: int, width: int) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    marked = data.draw(arrays(bool, (height, width)))
    found = close_and_open(
        torch.from_numpy(marked)[None].float(), torch.ones(1, height, width, dtype=torch.bool), radius
    )
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = np.hypot(y, x) <= radius + 1 / 3

    def dilate(values: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.asarray(ndimage.binary_dilation(values, disc, border_value=0))

    def erode(values: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.asarray(ndimage.binary_erosion(values, disc, border_value=1))

    assert np.array_equal(found[0].numpy() == 1, dilate(erode(erode(dilate(marked)))))


@pytest.mark.parametrize("card", [*BURN_SEVERITY, *BURN_NBR], ids=lambda card: card.label)
def test_burn_tiles_equal_the_whole_and_the_card_tells_how_far_it_sees(card: ModelCard) -> None:
    predictor = Predictor(card, None, CPU)
    assert receptive_field.support(predictor.module, len(card.bands), 1) == card.support_px
    values, valid = landscape(75, 41, len(card.bands)), np.random.default_rng(1).random((41, 75)) > 0.2
    assert card.halo_px is not None
    assert agreement_at(predictor, card.halo_px, 13, stack_of(values, valid)).identical


@pytest.mark.parametrize(
    "change",
    [{"thresholds": [0.1, 0.1]}, {"thresholds": [0.3, 0.1]}, {"thresholds": []}, {"radius_px": -1}, {"radius_px": 32},
     {"sharpness": 0}, {"in_channels": 3}, {"classes": 3}, {"first_burned": 2}, {"water": True}],
    ids=str,
)  # fmt: skip
def test_arguments_that_contradict_each_other_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(CardError):
        BurnIndex(**(ONE_DATE | change))


def test_the_scar_of_a_real_fire_is_found() -> None:
    with rasterio.open(real("burnscar_california/post_fire/CODY_20240608.tif")) as dataset:
        x = torch.from_numpy(dataset.read([4, 5]))[None]
    with rasterio.open(real("burnscar_california/masks/CODY_20240608.tif")) as dataset:
        truth = dataset.read(1) == 1
    found = build(BURN_NBR[1])(x).argmax(dim=1)[0].numpy() == 1
    assert (found & truth).sum() / (found | truth).sum() > 0.8
