"""Reads the words of `model`: a name, an ensemble `a+b`, or a mask `name@class`. Opens nothing but cards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from earthloom.jobs.config import RunConfig
from earthloom.jobs.records.names import CARRIED
from earthloom.models.cards.card import PERMANENT_WATER, ModelCard
from earthloom.models.zoo import variants
from earthloom.models.zoo.indices import PREFIX as INDEX_PREFIX
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.suggest import did_you_mean

_MASK = "cloudmask"
_ONLY = "@"

Variants = list[tuple[ModelCard, ObjectRef]]


@dataclass(frozen=True, slots=True)
class ChainModel:
    """One word of `model`: a model, or several whose probabilities are averaged."""

    name: str
    members: tuple[Variants, ...]


def load_models(config: RunConfig) -> list[ChainModel]:
    """The cards behind `model`, in order; `mask_clouds` comes first.

    `a+b` is an ensemble, `index:a+b` is none. `name@class`, or `name@class+class`, is a mask: only where the map of `name`
    has one of these classes do the other stages count.

    Raises:
        CardError: if a model does not exist or is not complete.
        ConfigError: if a class is none of a model's, `keep` names no stage, or no model looks at `permanent_water`.
    """
    words = words_of(config)
    carried = ObjectRef.parse(config.out) / CARRIED
    models = [_beside(_model(word, carried), water=config.permanent_water is not None) for word in words]
    if unknown := sorted(set(config.keep) - {model.name for model in models}):
        near = did_you_mean(unknown[0], (model.name for model in models))
        raise ConfigError(
            f"`keep` {', '.join(unknown)}: no such stage{near}; this chain has {', '.join(model.name for model in models)}"
        )
    if config.permanent_water and not any(
        _knows_water(card) for one in models for some in one.members for card, _ in some
    ):
        raise ConfigError(
            f"`permanent_water` is for `model=flood` and `model=flood-sar`; {product_name(models)} does not look at it: "
            "leave it out"
        )
    return models


def words_of(config: RunConfig) -> list[str]:
    """The words of `model`; `mask_clouds` comes first."""
    words = list(config.model)
    return [_MASK, *words] if config.mask_clouds and _MASK not in words else words


def product_name(models: Sequence[ChainModel]) -> str:
    """`landwater`, `cloudmask-sr-x2-landwater`."""
    return "-".join(model.name for model in models)


def _beside(model: ChainModel, *, water: bool) -> ChainModel:
    """The model's variants for a run with a map of permanent water, or without; all of a model that knows of none."""
    members = tuple([pair for pair in cards if _knows_water(pair[0]) is water] or cards for cards in model.members)
    return replace(model, members=members)


def _knows_water(card: ModelCard) -> bool:
    return PERMANENT_WATER in card.bands


def _model(word: str, carried: ObjectRef) -> ChainModel:
    if Path(word).is_dir() or word.startswith(INDEX_PREFIX):
        return _together([word], carried)
    head, only, classes = word.rpartition(_ONLY)
    if only and "/" not in classes:  # an @ further left belongs to a URL
        return _masking(_together([head], carried), classes.split("+"))
    return _together(word.split("+"), carried)


def _together(parts: Sequence[str], carried: ObjectRef) -> ChainModel:
    """One model, or several averaged; `carried` is where the cards of zoo models lie that the cache may lack."""
    members = tuple(variants(part, carried) for part in parts)
    return ChainModel("-".join(cards[0][0].name for cards in members), members)


def _masking(model: ChainModel, only: Sequence[str]) -> ChainModel:
    """The model as a mask that leaves nothing but some of its classes."""
    (cards,) = model.members
    masked = [(_masked(card, only), folder) for card, folder in cards]
    named = "-".join(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") for name in only)
    return ChainModel(f"{model.name}-{named}", (masked,))


def _masked(card: ModelCard, only: Sequence[str]) -> ModelCard:
    """One variant of it.

    Raises:
        ConfigError: if it makes no map, or `only` are not some of its classes.
    """
    if card.kind != "class-map":
        raise ConfigError(f"{card.label} makes {card.makes}; only a map of classes says where other stages count")
    word = f"`model={card.name}{_ONLY}{'+'.join(only)}`"
    if strange := [name for name in only if name not in card.gives]:
        raise ConfigError(
            f"{word}: {strange[0]!r} is none of the classes of {card.label}{did_you_mean(strange[0], card.gives)}; it has "
            f"{', '.join(card.gives)}"
        )
    if set(card.gives) == set(only):
        raise ConfigError(f"{word} names all classes of {card.label}: it masks nothing")
    return replace(card, masks=tuple(each.value for each in card.classes if each.name not in only))
