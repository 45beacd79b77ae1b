"""Learning from another network's probabilities: the published formula, other normalisations, and a student that learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from earthloom.models.cards.card import ModelCard
from earthloom.models.training.augment import IGNORE
from earthloom.models.training.fit import Fit
from earthloom.models.training.loss import Loss
from earthloom.models.training.schedule import Schedule
from earthloom.models.training.teacher import Teacher
from earthloom.tiling.errors import ConfigError
from tests.models.nets import TinyNet, card_of

pytestmark = pytest.mark.usefixtures("one_thread")
CARD = card_of("tiny", 3, 4, 2)


def network(seed: int = 0, channels: int = 3) -> TinyNet:
    torch.manual_seed(seed)
    return TinyNet(in_channels=channels, classes=4)


def batch(number: int, size: int = 3) -> tuple[Tensor, Tensor]:
    dice = torch.Generator().manual_seed(number)
    labels = torch.randint(0, 4, (size, 16, 16), generator=dice)
    labels[:, :4] = IGNORE
    return torch.randn(size, 3, 16, 16, generator=dice), labels


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_term_is_the_divergence_from_the_softened_teacher(temperature: float) -> None:
    crops, labels = batch(0)
    logits = network(1)(crops)
    found = Teacher(network(), CARD, CARD, temperature=temperature, weight=0.5)(crops, logits, labels)
    soft = torch.softmax(network()(crops) / temperature, dim=1)
    each = nn.functional.kl_div(torch.log_softmax(logits / temperature, dim=1), soft, reduction="none").sum(dim=1)
    expected = 0.5 * temperature**2 * each[labels != IGNORE].mean()
    torch.testing.assert_close(found, expected)
    found.backward()  # type: ignore[no-untyped-call]  # torch's own
    agreeing = Teacher(network(), CARD, CARD)(crops, network()(crops), labels)
    assert float(agreeing.detach()) == pytest.approx(0, abs=1e-6)


def test_probabilities_and_a_single_logit_say_the_same_as_logits() -> None:
    class Single(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :1]

    class Both(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.softmax(torch.cat([torch.zeros_like(x[:, :1]), x[:, :1]], dim=1), dim=1)

    card = card_of("tiny", 3, 2, 2)
    crops, labels = batch(0)
    logits = torch.randn(3, 2, 16, 16)
    one = Teacher(Single(), card, card)(crops, logits, labels)
    torch.testing.assert_close(one, Teacher(Both(), replace(card, activation="none"), card)(crops, logits, labels))


def test_a_teacher_sees_its_own_bands_in_its_own_normalisation() -> None:
    """What the student sees of the world is other numbers; what has no data is 0 for both."""
    student = replace(
        CARD, bands=("band2", "more", "band0", "band1"), mean=(0.3, 0.0, 0.2, 0.1), std=(2.0, 1.0, 0.5, 1.0)
    )
    physical = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    there = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    there[:, :, 5:9, 5:9] = False

    def normalised(card: ModelCard) -> Tensor:
        chosen = physical[:, [student.bands.index(band) for band in card.bands]]
        mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (card.mean, card.std))
        return ((chosen - mean) / std).masked_fill(~there, 0.0)

    labels = torch.zeros(2, 16, 16, dtype=torch.int64)
    logits = torch.randn(2, 4, 16, 16)
    found = Teacher(network(), CARD, student)(normalised(student), logits, labels)
    expected = Teacher(network(), CARD, CARD)(normalised(CARD), logits, labels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": CARD.classes[:3]}, "a student learns the classes of its teacher"),
        ({"bands": ("band0", "band1", "nir")}, "let the student see band2 too"),
        ({"quantities": ("dn",)}, "wants reflectance, and the scenes have dn"),
    ],
)
def test_a_student_of_something_else_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Teacher(network(), CARD, replace(CARD, **changes))  # type: ignore[arg-type]  # test shorthand


def test_a_student_learns_from_the_teacher_alone() -> None:
    """The labels are noise, and weigh next to nothing."""
    teacher = network(5)
    schedule = Schedule(steps=80, batch=3, rate=2e-2, memory_steps=5, precision="fp32")
    fit = Fit(
        network(1), Loss(cross_entropy=1e-6, dice=0), schedule, teacher=Teacher(network(5), CARD, CARD, temperature=1.0)
    )
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    losses = [fit.advance(batch) for _ in range(schedule.steps)]
    crops, _ = batch(10_000)
    same = (fit.average(crops).argmax(dim=1) == teacher(crops).argmax(dim=1)).float().mean()
    assert float(same) > 0.7, "a quarter would be chance"
    assert losses[-1] < 0.2 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
