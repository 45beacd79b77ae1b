"""The kinds of answers that a network can give: each is a value that knows all that depends on it, and nobody else asks.

A kind is an `AnswerKind` (`models.inference.answer_kind`): `models.inference.class_map`, `.image`, `.labels`, `.footprints`
and `.objects`. Another one is a module beside these and a line in `_KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.answer_kind import AnswerKind
from earthloom.models.inference.class_map import ClassMap
from earthloom.models.inference.footprints import Footprints
from earthloom.models.inference.image import Image
from earthloom.models.inference.labels import Labels
from earthloom.models.inference.objects import Objects
from earthloom.tiling.errors import CardError

_KINDS: dict[str, Callable[[ModelCard], AnswerKind[Any]]] = {
    "class-map": ClassMap.of,
    "image": Image.of,
    "labels": Labels.of,
    "footprints": Footprints.of,
    "objects": Objects.of,
}


def answer_of(card: ModelCard) -> AnswerKind[Any]:
    """What a model's network says.

    Raises:
        CardError: if no such kind is known.
    """
    if card.kind not in _KINDS:
        raise CardError(f"{card.label}: its network gives a {card.kind}, but only {', '.join(_KINDS)} are known")
    return _KINDS[card.kind](card)
