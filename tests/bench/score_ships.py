"""Ships on Sentinel-2: the shipped detector on Durban and Port Hedland, which it was not trained on, as they were published.

What counts is what a run publishes, so precision and recall are at the card's own score. Small boats and some vessels at
quays are not marked; where they are found, that counts as wrong.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import earthloom
from earthloom.models.zoo.trained import SHIPS
from infra.recipes.shipped import LAY_OUTS
from tests.bench.scores import Score
from tests.scenes import DATA

_HELD_BACK = ("durban", "hedland")
_GOALS = {"recall": 0.8, "precision": 0.7}
_IOU = "0.3"


def scores() -> list[Score]:
    """AP50, and precision and recall of published boxes that overlap a marked one by 0.3 or more.

    Raises:
        FileNotFoundError: naming the data that is absent.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        LAY_OUTS["ships"](DATA, folder)
        found = []
        for flips in (False, True):
            report = earthloom.evaluate(
                [folder / "ports" / f"{name}.tif" for name in _HELD_BACK], model="ships", labels=folder / "ports.json",
                bands={name: place for place, name in enumerate(SHIPS.bands, 1)}, scale=1e-4, quantity="boa_reflectance",
                worst=0, out=folder / "out", executor="local", flips=flips,
            ).report  # fmt: skip
            method = f"{SHIPS.label} {SHIPS.version}" + ", --flips" * flips
            ports = {"both ports": report["scores"]} | ({} if flips else report["scenes"])
            found += [each for data, of in ports.items() for each in _of(of["ship"], data, method)]
    return found


def _of(scores: dict[str, Any], data: str, method: str) -> list[Score]:
    values = {"AP50": scores["ap50"], **{name: scores["published"][_IOU][name] for name in _GOALS}}
    return [
        Score(
            task="ships", data=f"sen2ships, {data}, held back", method=method,
            metric=name if name == "AP50" else f"{name} at an intersection over union of {_IOU}", value=value,
            goal=_GOALS.get(name),
        )
        for name, value in values.items()
    ]  # fmt: skip
