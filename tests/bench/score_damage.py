"""Flooded buildings after Hurricane Harvey: the recipe `damage` against logistic regression on seven numbers of a chip.

The south of the data is held back. Chips of Cao and Choe (2018), arXiv:1807.01688; pixels are Maxar's under CC BY-NC, so
nothing trained on them is shipped.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earthloom.models.training.score import confusion
from tests.bench.recipe import accuracy, confusion_of, f1, laid_out
from tests.bench.scores import Score

_CLASSES = ("unharmed", "flooded")
_EXAMPLES = tuple[NDArray[np.float64], NDArray[np.uint8]]


def scores() -> list[Score]:
    """Accuracy, and F1 of both classes, on the buildings of the south.

    Raises:
        FileNotFoundError: naming the data that is absent.
        CardError: if the first weights cannot be fetched.
    """
    with TemporaryDirectory(prefix="earthloom-score-") as place:
        file = laid_out("damage", Path(place))
        north, (numbers, truth) = _examples(file.parent / "north"), _examples(file.parent / "south")
        theirs = confusion(_logistic(north, numbers), truth, 2)
        ours = confusion_of(file)
    assert ours.sum() == theirs.sum(), "both are judged by the same buildings"
    data = f"Harvey, {ours.sum()} buildings of the south held back"
    found = [("accuracy", accuracy(ours), accuracy(theirs))]
    found += [(f"F1 of {name}", f1(ours, value), f1(theirs, value)) for value, name in enumerate(_CLASSES)]
    return [
        Score(
            task="damage", data=data, method="recipe damage, trained here", metric=metric, value=value, baseline=baseline
        )
        for metric, value, baseline in found
    ]  # fmt: skip


def _examples(folder: Path) -> _EXAMPLES:
    """(n, 7) mean and deviation of each band and the mean gradient of a chip, and its class."""
    numbers, truth = [], []
    for value, name in enumerate(_CLASSES):
        for path in sorted((folder / name).iterdir()):
            with Image.open(path) as chip:
                bands = np.asarray(chip.convert("RGB"), np.float64).transpose(2, 0, 1) / 255
            down, right = np.gradient(bands.mean(axis=0))
            numbers.append([*bands.mean(axis=(1, 2)), *bands.std(axis=(1, 2)), np.hypot(down, right).mean()])
            truth.append(value)
    return np.array(numbers), np.array(truth, np.uint8)


def _logistic(learned_from: _EXAMPLES, numbers: NDArray[np.float64]) -> NDArray[np.uint8]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # as the recipe: north and south have unlike shares of both classes
    balanced = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    found: NDArray[np.uint8] = balanced.fit(*learned_from).predict(numbers)
    return found
