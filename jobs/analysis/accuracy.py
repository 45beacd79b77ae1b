"""How right a map is and how large its classes really are, from points that a person has interpreted.

The estimators are those of Olofsson et al. (2014), `jobs.learning.scores.area_estimates`; here points become its matrix.
Knows nothing of files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from earthloom.jobs.analysis.sample import REFERENCE
from earthloom.jobs.learning.scores import Z_95, area_estimates
from earthloom.tiling.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 5
_FEW_POINTS = 30  # below, the normal distribution, on which the intervals rest, is a poor approximation


def accuracy(points: pd.DataFrame, strata: pd.DataFrame, *, reference: str = REFERENCE) -> dict[str, Any]:
    """Accuracies and areas with 95 % intervals from interpreted points.

    Args:
        points: of `draw_sample`, with the column `reference` filled in: names of classes, or their values. Where it is empty
            the point counts as not interpreted.
        strata: of `draw_sample`.
        reference: the column.

    Returns:
        `points`, `interpreted` · `overall`: value and half of its interval · `classes`: by name `points`, `mapped_m2`,
        `area_m2`, `users` and `producers`, each value and half of its interval (user's accuracy: of what is mapped as the
        class, the share that is it; producer's: of what is the class, the share that is mapped as it) · `confusion`: by
        reference and map, numbers of points.

    Raises:
        ConfigError: if there is no such column, a value is no class, or a mapped class has fewer than two points.
    """
    if reference not in points.columns:
        raise ConfigError(f"the points have no column {reference!r}; they have {', '.join(map(str, points.columns))}")
    names = [str(name) for name in strata["class"]]
    values = [int(value) for value in strata["value"]]
    said = [_class_of(cell, names, values) for cell in points[reference]]
    if unknown := sorted({str(cell) for cell, found in zip(points[reference], said, strict=True) if found == -2}):
        raise ConfigError(
            f"{reference} holds {', '.join(unknown[:_SHOWN])}, which is no class of the map; classes are {', '.join(names)}"
        )
    mapped = [values.index(int(value)) for value in points["map_value"]]
    confusion = np.zeros((len(names), len(names)), np.int64)
    for true, shown in zip(said, mapped, strict=True):
        if true >= 0:
            confusion[true, shown] += 1
    mapped_m2 = strata["mapped_m2"].to_numpy(np.float64)
    found = area_estimates(confusion, mapped_m2)
    if found is None:
        few = [name for name, area, n in zip(names, mapped_m2, confusion.sum(axis=0), strict=True) if area and n < 2]
        raise ConfigError(
            f"{', '.join(few)}: fewer than two points of each have a reference class, too few for an interval; fill in the "
            f"column {reference!r} of more points that are mapped so"
        )

    def pair(value: float, se: float) -> list[float]:
        return [float(value), float(Z_95 * se)]

    return {
        "points": len(points), "interpreted": int(confusion.sum()),
        "overall": pair(found.overall, found.overall_se),
        "classes": {
            name: {
                "points": int(confusion[:, i].sum()), "mapped_m2": float(mapped_m2[i]),
                "area_m2": pair(found.area_m2[i], found.area_se_m2[i]), "users": pair(found.users[i], found.users_se[i]),
                "producers": pair(found.producers[i], found.producers_se[i]),
            }
            for i, name in enumerate(names)
        },
        "confusion": {
            true: {shown: int(confusion[i, j]) for j, shown in enumerate(names)} for i, true in enumerate(names)
        },
    }  # fmt: skip


def doubts(found: dict[str, Any]) -> list[str]:
    """Where the intervals of `accuracy` are too narrow: classes of few points, and such whose points all agree.

    Of the latter the estimated variance is 0, which says nothing of the map. By the rule of three (Hanley, J. A.,
    Lippman-Hand, A. (1983): If nothing goes wrong, is everything all right? JAMA 249, 1743-1745) n of n right points are
    compatible, at 95 %, with a share of errors up to 3 / n.
    """
    texts = []
    for name, row in found["classes"].items():
        n = row["points"]
        if n and found["confusion"][name][name] == n:
            most = min(100.0, 300 / n)
            texts.append(
                f"{name}: all {n} points agree, so ± is 0; still up to {most:.0f} % of it may be wrong (3 / {n})"
            )
        elif 0 < n < _FEW_POINTS:
            texts.append(f"{name}: {n} points are few, and ± is too narrow; interpret at least {_FEW_POINTS}")
    return texts


def _class_of(cell: Any, names: list[str], values: list[int]) -> int:
    """Position of the class that a cell names; -1 of an empty cell, -2 of any other word."""
    text = "" if cell is None or cell != cell else str(cell).strip()
    if not text:
        return -1
    if text in names:
        return names.index(text)
    try:
        number = float(text)
    except ValueError:
        return -2
    return values.index(int(number)) if number in values else -2
