"""The temperature of several classes against scipy's minimum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from earthloom.models.training.augment import IGNORE
from earthloom.models.training.temperature import GRID, Calibration


def drawn(truth: float, n_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a network that is `truth` times too sure, and labels drawn from what it should say."""
    generator = torch.Generator().manual_seed(n_classes)
    honest = 2 * torch.randn(2, n_classes, 40, 40, generator=generator)
    chances = honest.softmax(dim=1).movedim(1, -1).reshape(-1, n_classes)
    labels = torch.multinomial(chances, 1, generator=generator).reshape(2, 40, 40)
    labels[:, :4] = IGNORE
    return honest * truth, labels


@pytest.mark.parametrize(("truth", "n_classes"), [(0.5, 2), (1.0, 5), (3.0, 7)])
def test_the_temperature_is_that_of_the_highest_likelihood(truth: float, n_classes: int) -> None:
    logits, labels = drawn(truth, n_classes)
    found = Calibration()
    for part in range(2):
        found.add(torch.nn.Identity(), logits[part, None], labels[part, None])
    assert found.pixels == int((labels != IGNORE).sum())

    def loss(temperature: float) -> float:
        return torch.nn.functional.cross_entropy(logits.double() / temperature, labels, ignore_index=IGNORE).item()

    wanted = minimize_scalar(loss, bounds=(0.1, 20), method="bounded").x
    assert found.temperature == pytest.approx(wanted, rel=0.01)
    assert found.temperature == pytest.approx(truth, rel=0.15)
    np.testing.assert_allclose(found.losses / found.pixels, [loss(each) for each in GRID])


def test_a_network_beyond_the_grid_gets_its_end() -> None:
    found = Calibration()
    found.losses += torch.arange(len(GRID))
    assert found.temperature == GRID[0]
