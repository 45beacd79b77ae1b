"""Forest and cleared land in the Amazon: the shipped U-Net against logistic regression on colour, on 8 of 30 chips.

The labels are themselves the work of a classifier and of human hands, and call rivers and wet meadows deforested.
Data: Bragagnolo, L., da Silva, R. V., Grzybowski, J. M. V. (2019), Amazon Rainforest dataset for semantic segmentation,
Zenodo, 10.5281/zenodo.3233081, CC BY 4.0.
"""

from __future__ import annotations

from tests.bench.held_back import held_back_scores
from tests.bench.scores import Score


def scores() -> list[Score]:
    """IoU of forest and of cleared land on the chips held back.

    Raises:
        FileNotFoundError: naming the data that is absent.
    """
    return held_back_scores("deforestation", "Amazon chips, 8 of 30 held back", goal=0.88)
