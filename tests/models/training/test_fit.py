from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from earthloom.models.cards import weights
from earthloom.models.training.augment import IGNORE, Variety
from earthloom.models.training.export import save_weights
from earthloom.models.training.fit import Fit
from earthloom.models.training.loss import Loss
from earthloom.models.training.schedule import Schedule
from earthloom.models.training.score import confusion, iou
from earthloom.tiling.errors import CardError, ConfigError, EngineError
from infra.recipes.pictures import Crops, Pair, counted, fit, labels_of, names_under
from tests.models.nets import TinyNet, card_of

pytestmark = pytest.mark.usefixtures("one_thread")
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
SCHEDULE = Schedule(steps=40, batch=4, rate=1e-2, memory_steps=5, precision="fp32")
CARD = replace(card_of("tiny", 3, 2, 2), mean=MEAN, std=STD)


def meadows(seed: int = 0, side: int = 96) -> Pair:
    """Bright squares on dark ground: class 1 is what is bright in green."""
    rng = np.random.default_rng(seed)
    values = rng.integers(20, 90, (3, side, side)).astype(np.uint8)
    labels = np.zeros((side, side), np.uint8)
    for row, col in rng.integers(0, side - 20, (6, 2)):
        labels[row : row + 20, col : col + 20] = 1
    values[1][labels == 1] += 120
    return Pair(values, labels)


def crops(*pairs: Pair, variety: Variety = Variety(), side_px: int = 32, seed: int = 0) -> Crops:  # noqa: B008  # frozen
    return Crops(pairs=pairs, gain=1 / 255, mean=MEAN, std=STD, side_px=side_px, variety=variety, seed=seed)


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return TinyNet(in_channels=3, classes=2)


@pytest.mark.slow
def test_a_network_learns_what_is_bright_and_maps_a_picture_it_has_not_seen() -> None:
    trained = fit(tiny(), crops(meadows()).batch, SCHEDULE)
    counts = counted(trained, [meadows(seed=1)], 1 / 255, CARD)
    assert iou(counts, 1) > 0.9
    assert iou(counted(tiny().eval(), [meadows(seed=1)], 1 / 255, CARD), 1) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, precision: str) -> None:
    variety = Variety(zoom=1.3, gain=0.2, tint=0.1, offset=0.05, gamma=0.1, noise=0.02, blur=0.5, mixed=0.5)
    schedule = replace(SCHEDULE, steps=6, precision=precision)

    def made(seed: int, name: str) -> str:
        fitted = fit(tiny(), crops(meadows(), variety=variety, seed=seed).batch, schedule)
        return save_weights(fitted.state_dict(), tmp_path / name, "fp16")

    first, again, other = made(0, "first"), made(0, "again"), made(1, "other")
    assert first == again == weights.sha256_of(tmp_path / "again")
    assert other != first


def test_fitting_leaves_the_network_that_it_was_given_alone() -> None:
    module = tiny()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    fit(module, crops(meadows()).batch, replace(SCHEDULE, steps=2), pretrained=names_under(module, module))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_share_of_the_first_weights_stays() -> None:
    module, source = tiny(), crops(meadows()).batch
    schedule = replace(SCHEDULE, steps=3)
    learned = fit(module, source, schedule, pretrained=names_under(module, module)).state_dict()
    kept = fit(module, source, replace(schedule, stay=0.25), pretrained=names_under(module, module)).state_dict()
    for name, first in module.state_dict().items():
        wanted = 0.25 * first + 0.75 * learned[name] if first.is_floating_point() else learned[name]
        torch.testing.assert_close(kept[name], wanted)
    known = {
        name for name in names_under(module, module) if not name.startswith(new := next(iter(learned)).split(".")[0])
    }
    partly = replace(schedule, stay=0.25)
    learned, kept = (fit(module, source, each, pretrained=known).state_dict() for each in (schedule, partly))
    for name in (each for each in learned if each.startswith(new)):
        torch.testing.assert_close(kept[name], learned[name], msg="what began at random is not drawn back to chance")
    assert any(not torch.equal(kept[name], learned[name]) for name in known)
    with pytest.raises(
        ConfigError, match="'stay' keeps a share of the first weights, but this network starts from nothing"
    ):
        fit(module, source, replace(schedule, stay=0.25))
    with pytest.raises(ConfigError, match="a share from 0 to below 1 can stay, got stay 1"):
        replace(schedule, stay=1.0)


def test_a_batch_depends_on_its_step_alone() -> None:
    source = crops(meadows(), meadows(seed=1), variety=Variety(zoom=1.2, noise=0.1))
    source.batch(0, 3)
    late, labels = source.batch(7, 3)
    again, labels_again = crops(meadows(), meadows(seed=1), variety=Variety(zoom=1.2, noise=0.1)).batch(7, 3)
    assert torch.equal(late, again)
    assert torch.equal(labels, labels_again)
    assert not torch.equal(late, source.batch(8, 3)[0])


def test_values_and_labels_are_turned_and_zoomed_together() -> None:
    pair = meadows()
    values, labels = crops(pair, variety=Variety(zoom=1.5), side_px=48).batch(0, 16)
    bright = values[:, 1] * STD[1] + MEAN[1] > 0.45
    wrong = (bright != (labels == 1)).float().mean()
    assert float(wrong) < 0.02, "only pixels on the border between two classes may differ"


def test_a_mixed_crop_shows_a_rectangle_of_another_place() -> None:
    dark = Pair(np.zeros((3, 64, 64), np.uint8), np.zeros((64, 64), np.uint8))
    bright = Pair(np.full((3, 64, 64), 255, np.uint8), np.ones((64, 64), np.uint8))
    values, labels = crops(dark, bright, variety=Variety(mixed=1.0)).batch(0, 32)
    both = [crop for crop in labels if 0 < int(crop.sum()) < 32 * 32]
    assert 8 < len(both) < 24, "the other place is as often of the same kind"
    assert torch.equal(values[:, 0] > 0, labels == 1)


def test_without_variety_a_crop_is_the_picture_normalised() -> None:
    pair = meadows(side=32)
    values, labels = crops(pair).batch(0, 1)
    wanted = (pair.values.astype(np.float64) / 255 - 0.5) / 0.25
    assert sorted(values[0, 0].flatten().tolist()) == pytest.approx(sorted(wanted[0].flatten().tolist()), abs=1e-5)
    assert int((labels == 1).sum()) == int((pair.labels == 1).sum())


def test_of_two_places_the_one_with_more_of_the_rare_class_is_taken() -> None:
    pair = meadows(side=256)
    plain, seeking = crops(pair), replace(crops(pair), rare=1)
    shares = [float((source.batch(0, 64)[1] == 1).float().mean()) for source in (plain, seeking)]
    assert shares[1] > 1.3 * shares[0]


def test_a_picture_smaller_than_a_crop_is_refused() -> None:
    with pytest.raises(ConfigError, match="40 x 40 px is smaller than a crop of 48 px"):
        crops(meadows(side=40), variety=Variety(zoom=1.5))


def test_values_and_labels_of_other_pixels_are_refused() -> None:
    with pytest.raises(ConfigError, match="of the same pixels"):
        Pair(np.zeros((3, 8, 8), np.uint8), np.zeros((8, 9), np.uint8))


def test_what_is_ignored_changes_no_loss() -> None:
    logits = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(2, 8, 8, dtype=torch.long)
    labels[:, 4:] = IGNORE
    other = logits.clone()
    other[:, :, 4:] += 100 * torch.randn(2, 2, 4, 8, generator=torch.Generator().manual_seed(1))
    assert float(Loss()(logits, labels)) == pytest.approx(float(Loss()(other, labels)))
    assert float(Loss()(logits, torch.full_like(labels, IGNORE))) == pytest.approx(0.0)


def test_a_loss_that_is_no_number_ends_the_fit() -> None:
    def broken(step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((size, 3, 8, 8), torch.nan), torch.zeros(size, 8, 8, dtype=torch.long)

    with pytest.raises(EngineError, match="the loss is nan at step 0"):
        fit(tiny(), broken, SCHEDULE)


def test_the_rate_rises_and_falls_to_nothing() -> None:
    schedule = Schedule(steps=100, warm_up=0.1)
    rates = [schedule.rate_at(step) for step in range(100)]
    assert max(rates) == rates[10] == 1.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001


def test_a_schedule_without_steps_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one step"):
        Schedule(steps=0)


def test_weights_too_large_for_half_precision_are_not_written(tmp_path: Path) -> None:
    module = nn.Conv2d(1, 1, 1)
    nn.init.constant_(module.weight, 1e6)
    with pytest.raises(CardError, match="weight: not finite in fp16"):
        save_weights(module.state_dict(), tmp_path / "weights.safetensors", "fp16")
    assert not (tmp_path / "weights.safetensors").exists()


def test_half_precision_weights_load_into_a_network_of_single_precision(tmp_path: Path) -> None:
    sha256 = save_weights(tiny().state_dict(), tmp_path / weights.FILE, "fp16")
    module = TinyNet(in_channels=3, classes=2)
    weights.load_into(module, tmp_path / weights.FILE, sha256)
    assert module.head.weight.dtype == torch.float32
    torch.testing.assert_close(module.state_dict(), tiny().state_dict(), rtol=1e-3, atol=1e-4)


def test_iou_is_pooled_and_knows_what_to_leave_out() -> None:
    wanted = np.array([[0, 0, 1, 1, IGNORE]], np.uint8)
    found = np.array([[0, 1, 1, 1, 0]], np.uint8)
    counts = confusion(found, wanted, 2)
    assert counts.tolist() == [[1, 1], [0, 2]]
    assert iou(counts, 0) == pytest.approx(1 / 2)
    assert iou(counts, 1) == pytest.approx(2 / 3)


def test_a_picture_of_any_size_is_mapped() -> None:
    assert labels_of(tiny().eval(), meadows(side=33).values, 1 / 255, CARD).shape == (33, 33)


class Dropping(TinyNet):
    """Draws random numbers in every step."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.dropout(x, 0.2, self.training))


def dropping() -> nn.Module:
    torch.manual_seed(0)
    return Dropping(in_channels=3, classes=2)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_fit_that_goes_on_from_its_state_ends_with_the_bytes_of_an_undisturbed_one(stop: int) -> None:
    schedule, source = replace(SCHEDULE, steps=6), crops(meadows(), variety=Variety(noise=0.1)).batch
    whole = Fit(dropping(), Loss(), schedule)
    losses = [whole.advance(source) for _ in range(6)]
    first = Fit(dropping(), Loss(), schedule)
    for _ in range(stop):
        first.advance(source)
    torch.manual_seed(99)  # another process
    second = Fit(dropping(), Loss(), schedule)
    second.resume(first.state(), stop)
    assert [second.advance(source) for _ in range(stop, 6)] == losses[stop:]
    assert all(torch.equal(value, second.state()[name]) for name, value in whole.state().items())


def test_a_state_of_another_network_is_refused() -> None:
    going = Fit(tiny(), Loss(), SCHEDULE)
    state = going.state()
    other = Fit(TinyNet(in_channels=4, classes=2), Loss(), SCHEDULE)
    with pytest.raises(EngineError, match="of another network"):
        other.resume(state, 1)


def test_two_batches_whose_gradients_are_averaged_are_one_of_twice_the_size() -> None:
    source = crops(meadows())
    whole = source.batch(0, 8)

    def halves(number: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        return whole[0][number * size :][:size], whole[1][number * size :][:size]

    loss = Loss(dice=0)  # a mean over pixels; Dice is pooled over its batch
    one = Fit(tiny(), loss, replace(SCHEDULE, steps=1, batch=8))
    two = Fit(tiny(), loss, replace(SCHEDULE, steps=1, batch=4, accumulate=2))
    assert one.advance(lambda *_: whole) == pytest.approx(two.advance(halves), rel=1e-5)
    for name, value in one.network.state_dict().items():
        torch.testing.assert_close(value, two.network.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_what_is_frozen_stays_and_then_moves_its_batch_statistics_too() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    pretrained = names_under(module, module[0]) | names_under(module, module[1])
    going = Fit(module, Loss(), replace(SCHEDULE, freeze_steps=2), pretrained=pretrained, held=pretrained)
    before = {name: value.clone() for name, value in going.network.state_dict().items()}
    for _ in range(2):
        going.advance(crops(meadows()).batch)
    frozen = {name for name, value in going.network.state_dict().items() if torch.equal(value, before[name])}
    assert frozen == pretrained
    going.advance(crops(meadows()).batch)
    assert not any(torch.equal(value, before[name]) for name, value in going.network.state_dict().items())


def test_what_was_learned_before_moves_more_slowly_the_deeper_it_lies() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1))
    pretrained = names_under(module, module[0]) | names_under(module, module[1])
    schedule = replace(SCHEDULE, pretrained_rate=0.5, layer_decay=0.1, rate=1.0)
    groups = Fit(module, Loss(), schedule, pretrained=pretrained)._optimiser.param_groups
    rates = sorted({round(group["lr"], 6) for group in groups})
    assert rates == [0.05, 0.5, 1.0]


def test_freezing_a_network_that_starts_from_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="starts from nothing"):
        Fit(tiny(), Loss(), replace(SCHEDULE, freeze_steps=1))


def test_a_batch_too_small_for_batch_statistics_is_explained() -> None:
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    with pytest.raises(ConfigError, match="`batch` of 2 or more"):
        Fit(module, Loss(), replace(SCHEDULE, batch=1)).advance(crops(meadows()).batch)
