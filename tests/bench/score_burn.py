"""Burn scars of Californian fires (2024 and 2025) against their mapped perimeters: with an earlier scene, and without.

The truth is CAL FIRE's perimeter of each fire, unburnt islands included. dNBR comes as a picture of its own, as the
earlier scenes are not there; burn-severity's own rules and classes are applied to it. The thresholds of both models were
chosen on these fires, so each is also scored with those that the seven other fires would have chosen.

The compilation has no licence, so what the recipe `burn` learns from it is thrown away: its four fires judge the network
that learned from the four others, and the other way round, so that each fire is judged once by one that never saw it.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
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
from tests.bench.recipe import laid_out, mapper_of
from tests.bench.scores import Score
from tests.scenes import DATA

_FOLDER = DATA / "burnscar_california"
_LOW = next(c.value for c in BURN_SEVERITY[1].classes if c.name == "low")
_NIR, _SWIR22 = 4, 5
_PLAIN: dict[str, dict[str, float]] = {
    "burn-severity, low severity or worse": {"burned_above": 0.099, "most_nbr": 1.0, "radius_px": 0},
    "burn-nbr": {"burned_above": 0.1, "radius_px": 0},
}
"""The baselines: the published thresholds on single pixels."""
_TWO_DATES: list[dict[str, float]] = [
    {"burned_above": fall, "most_nbr": nbr} for fall in (0.1, 0.15, 0.2) for nbr in (-0.1, -0.05, 0.0, 0.05, 0.1, 0.2)
]
_ONE_DATE: list[dict[str, float]] = [{"burned_above": -nbr} for nbr in (-0.25, -0.2, -0.15, -0.1, -0.05)]
_SEEDS = (0, 1, 2)


def scores() -> list[Score]:
    """Mean IoU of burnt ground, each fire counting once; of the recipe over three seeds, with their standard deviation.

    Raises:
        FileNotFoundError: naming the folder that is absent.
    """
    fires = sorted(path.name for path in (_FOLDER / "masks").glob("*.tif"))
    if not fires:
        raise FileNotFoundError(f"{_FOLDER} is not here; point EARTHLOOM_DATA at the folder of real scenes")
    truths = [_read("masks", fire, 1)[0] == 1 for fire in fires]
    found: list[Score] = []
    for card, burned, what, method, goal, choices in (
        (BURN_SEVERITY[1], by_severity, "dNBR of two dates", "burn-severity, low severity or worse", 0.78, _TWO_DATES),
        (BURN_NBR[1], by_nbr, "one date", "burn-nbr", 0.74, _ONE_DATE),
    ):
        plain = _mean(
            [_iou(burned(_with(card, _PLAIN[method]), fire), t) for fire, t in zip(fires, truths, strict=True)]
        )
        tried = [
            [_iou(burned(_with(card, rules), fire), truth) for fire, truth in zip(fires, truths, strict=True)]
            for rules in choices
        ]
        shipped = [_iou(burned(card, fire), truth) for fire, truth in zip(fires, truths, strict=True)]
        for name, values in ((method, shipped), (f"{method}, thresholds of the other fires", _left_out(tried))):
            found.append(
                Score(
                    task="burn", data=f"{len(fires)} fires in California, {what}", method=name, goal=goal,
                    metric="mean IoU per fire", value=_mean(values), baseline=plain,
                )
            )  # fmt: skip
    of_seeds = _learned(dict(zip(fires, truths, strict=True)))
    data = f"{len(fires)} fires in California, each held back with its half of them"
    method = f"recipe burn, trained here, {len(_SEEDS)} seeds"
    spread = "standard deviation of mean IoU per fire, lower is better"
    found.append(
        Score(
            task="burn", data=data, method=method, metric="mean IoU per fire", value=_mean(of_seeds),
            baseline=found[0].baseline,  # the published thresholds of dNBR
        )
    )  # fmt: skip
    found.append(Score(task="burn", data=data, method=method, metric=spread, value=float(np.std(of_seeds, ddof=1))))
    return found


def _learned(truths: dict[str, NDArray[np.bool_]]) -> list[float]:
    """Of each seed, the IoU over all fires by the recipe's networks, each of which judges the half that it never saw."""
    with TemporaryDirectory(prefix="earthloom-score-") as place:
        file = laid_out("burn", Path(place))
        stated = tomllib.loads(file.read_text("utf-8"))["split"]["test"]
        halves = [[fire for fire in truths if (Path(fire).stem in stated) == is_stated] for is_stated in (True, False)]
        return [_mean([each for half in halves for each in _judged(file, seed, half, truths)]) for seed in _SEEDS]


def _judged(file: Path, seed: int, fires: list[str], truths: dict[str, NDArray[np.bool_]]) -> list[float]:
    """IoU of each of these fires by a network that was trained without them."""
    mapped = mapper_of(file, seed=seed, held_back=[Path(fire).stem for fire in fires])
    found = []
    for fire in fires:
        with rasterio.open(file.parent / "scenes" / fire) as scene:
            found.append(_iou(mapped(scene.read()) == 1, truths[fire]))
    return found


def by_severity(card: ModelCard, fire: str) -> NDArray[np.bool_]:
    """Where `card` sees at least low severity. (H, W)"""
    index = torch.from_numpy(_read("dnbr", fire, 1))
    nir, swir22 = torch.from_numpy(_read("post_fire", fire, _NIR, _SWIR22)[:, None])
    network = cast(BurnIndex, build(card))
    after = (nir - swir22) / (nir + swir22).clamp(min=1)
    return np.asarray(network.classify(index, after, torch.isfinite(index)).argmax(dim=1)[0].numpy() >= _LOW)


def by_nbr(card: ModelCard, fire: str) -> NDArray[np.bool_]:
    """Where `card` sees burnt ground. (H, W)"""
    return np.asarray(
        build(card)(torch.from_numpy(_read("post_fire", fire, _NIR, _SWIR22))[None]).argmax(dim=1)[0] == 1
    )


def _with(card: ModelCard, rules: dict[str, float]) -> ModelCard:
    return replace(card, arguments=canonical(card.kwargs | rules))


def _left_out(tried: list[list[float]]) -> list[float]:
    """Each fire's IoU by the rules that were best on all the others. `tried` is rules x fires."""
    table = np.array(tried)
    return [float(table[np.delete(table, fire, axis=1).mean(axis=1).argmax(), fire]) for fire in range(table.shape[1])]


def _iou(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def _read(kind: str, fire: str, *bands: int) -> NDArray[np.float32]:
    """(len(bands), H, W)"""
    with rasterio.open(Path(_FOLDER, kind, fire)) as dataset:
        return np.asarray(dataset.read(list(bands)), np.float32)
