"""Burn scars of Californian fires (2024 and 2025) against their mapped perimeters: with an earlier scene, and without.

The truth is CAL FIRE's perimeter of each fire, unburnt islands included. dNBR comes as a picture of its own, as the
earlier scenes are not there; burn-severity's own smoothing and classes are applied to it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import canonical
from earthloom.models.networks.registry import build
from earthloom.models.networks.segment.burn import BurnIndex
from earthloom.models.zoo.disaster import BURN_NBR, BURN_SEVERITY
from tests.bench.scores import Score
from tests.scenes import DATA

_FOLDER = DATA / "burnscar_california"
_LOW = next(c.value for c in BURN_SEVERITY.classes if c.name == "low")
_NIR, _SWIR22 = 4, 5


def scores() -> list[Score]:
    """Mean IoU of burnt ground, each fire counting once; the baselines are the same thresholds on single pixels.

    Raises:
        FileNotFoundError: naming the folder that is absent.
    """
    fires = sorted(path.name for path in (_FOLDER / "masks").glob("*.tif"))
    if not fires:
        raise FileNotFoundError(f"{_FOLDER} is not here; point EARTHLOOM_DATA at the folder of real scenes")
    truths = [_read("masks", fire, 1)[0] == 1 for fire in fires]
    return [
        Score(
            task="burn", data=f"{len(fires)} fires in California, {what}", method=method, metric="mean IoU per fire",
            goal=goal, value=_mean_iou([found(card, fire) for fire in fires], truths),
            baseline=_mean_iou([found(_unsmoothed(card), fire) for fire in fires], truths),
        )
        for card, found, what, method, goal in (
            (BURN_SEVERITY, by_severity, "dNBR of two dates", "burn-severity, low severity or worse", 0.70),
            (BURN_NBR, by_nbr, "one date", "burn-nbr", 0.60),
        )
    ]  # fmt: skip


def by_severity(card: ModelCard, fire: str) -> NDArray[np.bool_]:
    """Where `card` sees at least low severity. (H, W)"""
    index = torch.from_numpy(_read("dnbr", fire, 1))
    network = cast(BurnIndex, build(card))
    return np.asarray(network.classify(index, torch.isfinite(index)).argmax(dim=1)[0].numpy() >= _LOW)


def by_nbr(card: ModelCard, fire: str) -> NDArray[np.bool_]:
    """Where `card` sees burnt ground. (H, W)"""
    return np.asarray(
        build(card)(torch.from_numpy(_read("post_fire", fire, _NIR, _SWIR22))[None]).argmax(dim=1)[0] == 1
    )


def _unsmoothed(card: ModelCard) -> ModelCard:
    return replace(card, arguments=canonical(card.kwargs | {"smooth_px": 1}))


def _read(kind: str, fire: str, *bands: int) -> NDArray[np.float32]:
    """(len(bands), H, W)"""
    with rasterio.open(Path(_FOLDER, kind, fire)) as dataset:
        return np.asarray(dataset.read(list(bands)), np.float32)


def _mean_iou(found: list[NDArray[np.bool_]], truths: list[NDArray[np.bool_]]) -> float:
    return float(np.mean([(f & t).sum() / (f | t).sum() for f, t in zip(found, truths, strict=True)]))
