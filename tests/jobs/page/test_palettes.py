"""Whether the classes of shipped models can be told apart by those who see red and green alike.

Colours are seen through the matrices of Machado, Oliveira and Fernandes (2009), "A Physiologically-based Model for
Simulation of Color Vision Deficiency", severity 1.0, and compared in CIELAB (CIE 1976), where a difference of 2.3 is just
noticeable (Mahy, Van Eycken and Oosterlinck 1994) between fields side by side. Classes on a map lie apart.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from earthloom.models.cards.card import ModelCard
from earthloom.models.zoo import ZOO

DIFFERENCE = 4 * 2.3
SEEN = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # sRGB, D65
CARDS = sorted({card.label: card for entry in ZOO.values() for card in entry.cards if card.classes}.items())


def lab(color: str, seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """A colour `#rrggbb` in CIELAB, as it is seen."""
    encoded = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(TO_XYZ @ np.clip(seen @ linear, 0, 1) / TO_XYZ.sum(axis=1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(one: str, other: str, seen: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(lab(one, seen) - lab(other, seen)))


@pytest.mark.parametrize(("label", "card"), CARDS, ids=[label for label, _ in CARDS])
def test_classes_of_a_shipped_model_can_be_told_apart_by_colour_blind_eyes(label: str, card: ModelCard) -> None:
    close = {
        f"{a.name} and {b.name} by {name}": round(difference(a.color, b.color, seen), 1)
        for name, seen in SEEN.items()
        for a, b in combinations(card.classes, 2)
        if difference(a.color, b.color, seen) < DIFFERENCE
    }
    assert close == {}


def test_red_and_green_of_one_lightness_would_be_found() -> None:
    assert difference("#dc3c3c", "#28b43c", SEEN["normal"]) > 100
    assert difference("#dc3c3c", "#28b43c", SEEN["deuteranopia"]) < DIFFERENCE
