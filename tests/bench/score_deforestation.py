"""Forest and cleared land in the Amazon: the shipped U-Net against logistic regression on colour, on 8 of 30 chips.

The truth is itself the work of a classifier and of human hands, and calls rivers and wet meadows deforested.
Data: Bragagnolo, L., da Silva, R. V., Grzybowski, J. M. V. (2019), Amazon Rainforest dataset for semantic segmentation,
Zenodo, 10.5281/zenodo.3233081, CC BY 4.0.
"""

from __future__ import annotations

from infra.recipes.shipped import deforestation
from tests.bench.held_back import held_back_scores
from tests.bench.scores import Score
from tests.scenes import DATA

_TOLD = "Amazon chips, 8 of 30 held back"


def scores() -> list[Score]:
    """IoU of forest and of cleared land on the chips held back.

    Raises:
        FileNotFoundError: naming the data that is absent.
    """
    split = deforestation(DATA)
    truths = {_TOLD: [pair.labels for pair in split.held_back]}
    return held_back_scores("deforestation", split, truths, {_TOLD: 0.88})
