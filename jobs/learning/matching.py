"""Matches the classes of a model with those of the labels: by name, or as the user says. Never guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.labels import IGNORE
from earthloom.models.cards.card import ModelClass
from earthloom.tiling.errors import ConfigError

LEFT_OUT = "-"
"""Stands for no class: pixels that the model gives such a class are not scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """The classes that are scored, and how those of the model become them."""

    names: tuple[str, ...]
    """Names of the scored classes; those of the labels come first, in their order."""
    colors: tuple[str, ...]
    """`#rrggbb` of each."""
    of_model: tuple[int, ...]
    """For each class value of the model the position of a scored class, or IGNORE."""
    model_names: tuple[str, ...]

    def table(self) -> NDArray[np.uint8]:
        """(256,) scored class by stored value of the class map; IGNORE for nodata and for what is left out."""
        found = np.full(256, IGNORE, np.uint8)
        found[: len(self.of_model)] = self.of_model
        return found

    def to_dict(self) -> dict[str, str]:
        """Name of the scored class by name of the model's class."""
        return {
            name: LEFT_OUT if to == IGNORE else self.names[to]
            for name, to in zip(self.model_names, self.of_model, strict=True)
        }

    @property
    def merges(self) -> bool:
        """Whether several classes of the model are one here, whose probability is then not that of the merged class."""
        kept = [to for to in self.of_model if to != IGNORE]
        return len(set(kept)) < len(kept)


def match(
    model: Sequence[ModelClass], labels: Sequence[str], explicit: Mapping[str, str], colors: Mapping[str, str]
) -> Matching:
    """Match classes by name, after what the user says.

    Args:
        model: classes of the model.
        labels: names of the classes of the labels.
        explicit: name of the model's class to name of the label's class, or `-`. A name that is no class of the labels
            keeps the model's class as one of its own, which no label has.
        colors: colours of classes of the labels, where they are known.

    Raises:
        ConfigError: if a class of either side is left over; the message lists both sides.
    """
    own = {c.name: c.color for c in model}
    both = f"The model has {', '.join(own)}; the labels have {', '.join(labels)}"
    if strange := sorted(set(explicit) - set(own)):
        raise ConfigError(f"`match`: {strange[0]!r} is no class of the model. {both}")
    target = {name: explicit.get(name, name) for name in own}
    if strange := [to for name, to in target.items() if to not in (*labels, LEFT_OUT, name)]:
        raise ConfigError(f"`match`: {strange[0]!r} is no class of the labels. {both}")
    if left := [name for name, to in target.items() if to == name and name not in labels and name not in explicit]:
        first, other = left[0], labels[0]
        raise ConfigError(
            f"no class of the labels is called {', '.join(left)}. {both}. Say what becomes of them: `match={first}={other}` "
            f"takes {first} for {other}, `match={first}=-` does not score its pixels, `match={first}={first}` keeps it as a "
            "class of its own, so that it is wrong wherever there is a label"
        )
    if left := [name for name in labels if name not in target.values()]:
        raise ConfigError(
            f"no class of the model stands for {', '.join(left)}. {both}. Name the one that does: "
            f"`match=<class of the model>={left[0]}`, or leave its labels out: `label_ignore={left[0]}`"
        )
    names = tuple(dict.fromkeys((*labels, *(to for to in target.values() if to != LEFT_OUT))))
    first_of = {to: own[name] for name, to in reversed(target.items())}
    return Matching(
        names=names, colors=tuple(colors.get(name) or own.get(name) or first_of[name] for name in names),
        of_model=tuple(IGNORE if to == LEFT_OUT else names.index(to) for to in target.values()), model_names=tuple(own),
    )  # fmt: skip
