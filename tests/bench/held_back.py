"""A shipped model and a classifier of single pixels on the part of a recipe's data that neither has seen."""

from __future__ import annotations

import numpy as np

from models import architectures, weights
from models.training.recipes import RECIPES
from models.training.score import confusion, counted, iou
from models.zoo.entry import shipped_weights
from tests.bench.pixel_baseline import PixelBaseline
from tests.bench.scores import Score
from tests.scenes import DATA


def held_back_scores(name: str, data: str, goal: float) -> list[Score]:
    """IoU of the class that the recipe is judged by, and of the others, pooled over all that is held back.

    Raises:
        FileNotFoundError: naming the data that is absent.
    """
    recipe = RECIPES[name]
    split = recipe.read(DATA)
    path = shipped_weights(recipe.card)
    assert path, "the recipe's weights are part of the project"
    module = architectures.build(recipe.card).eval()
    weights.load_into(module, path, recipe.card.weights or "")
    ours = counted(module, split.held_back, recipe.gain, recipe.card)
    baseline = PixelBaseline(split.train)
    n_classes = len(recipe.card.classes)
    theirs = sum(
        (confusion(baseline.labels_of(pair.values), pair.labels, n_classes) for pair in split.held_back),
        np.zeros((n_classes, n_classes), np.int64),
    )
    return [
        Score(
            task=name,
            data=data,
            method=f"{recipe.card.label} {recipe.card.version}",
            metric=f"IoU of {known.name}, pooled",
            value=iou(ours, known.value),
            goal=goal if known.value == recipe.judged else None,
            baseline=iou(theirs, known.value),
        )
        for known in recipe.card.classes
    ]
