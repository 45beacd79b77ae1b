"""A shipped model and a classifier of single pixels on the part of a recipe's data that neither has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from earthloom.models.cards import weights
from earthloom.models.networks import registry
from earthloom.models.training.score import confusion, iou
from earthloom.models.zoo.entry import shipped_weights
from infra.recipes.pictures import labels_of
from infra.recipes.shipped import RECIPES, Split
from tests.bench.pixel_baseline import PixelBaseline
from tests.bench.scores import Score

Maps = Sequence[NDArray[np.uint8]]


def held_back_scores(name: str, split: Split, truths: Mapping[str, Maps], goals: Mapping[str, float]) -> list[Score]:
    """IoU of each class, pooled over all pictures that are held back.

    Args:
        name: of the recipe.
        split: its data.
        truths: labels of the pictures that are held back, by what the table shall say of them.
        goals: what the class that the recipe is judged by should reach, for some of these truths.
    """
    recipe = RECIPES[name]
    path = shipped_weights(recipe.card)
    assert path, "the recipe's weights are part of the project"
    module = registry.build(recipe.card).eval()
    weights.load_into(module, path, recipe.card.weights or "")
    baseline = PixelBaseline(split.train)
    ours = [labels_of(module, pair.values, recipe.gain, recipe.card) for pair in split.held_back]
    theirs = [baseline.labels_of(pair.values) for pair in split.held_back]
    found = []
    for result, truth in truths.items():
        for known in recipe.card.classes:
            value, other = (_pooled(maps, truth, len(recipe.card.classes), known.value) for maps in (ours, theirs))
            goal = goals.get(result) if known.value == recipe.judged else None
            method = f"{recipe.card.label} {recipe.card.version}"
            found.append(
                Score(
                    task=name, data=result, method=method, metric=f"IoU of {known.name}, pooled", value=value, goal=goal,
                    baseline=other,
                )
            )  # fmt: skip
    return found


def _pooled(found: Maps, truth: Maps, n_classes: int, value: int) -> float:
    counts = [confusion(each, wanted, n_classes) for each, wanted in zip(found, truth, strict=True)]
    return iou(np.asarray(np.sum(counts, axis=0)), value)
