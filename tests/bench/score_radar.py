"""Floods in the grey radar pictures of OMBRIA by `water-sar` and `flood-sar`, against Otsu's threshold on single pixels.

The pictures are no calibrated backscatter, and each is a scene of its own of which a third is flooded. What `water-sar` finds
on the later date is held to the flood alone, as no map says where water was before: rivers and lakes count against it, as
they do against its baseline. Constants were chosen on other events than those reported (the split of
infra/recipes/flood-radar.toml).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from earthloom.models.cards.card import ModelCard
from earthloom.models.networks.registry import build
from earthloom.models.networks.segment.sar_water import otsu
from earthloom.models.networks.survey import N_QUANTILES, Part
from earthloom.models.zoo.radar import FLOOD_SAR, WATER_SAR
from earthloom.tiling.window import Window
from tests.bench.score_flood import mean_iou, names, read
from tests.bench.scores import Score

_GREY = 2  # of both models, the variant without a unit
_RECIPE = Path(__file__).resolve().parents[2] / "infra" / "recipes" / "flood-radar.toml"


def scores() -> list[Score]:
    """Mean IoU of what is flooded, each picture counting once.

    Raises:
        FileNotFoundError: naming the folder that is absent.
    """
    held_back = tomllib.loads(_RECIPE.read_text())["split"]["test"]
    everything = names()
    samples = read(("S1",), held_back)
    before, after = samples.bands[:, 0], samples.bands[:, 1]
    wet = {name: np.stack([_otsu(one) for one in date]) for name, date in (("before", before), ("after", after))}
    pairs = [np.stack(pair) for pair in zip(after, before, strict=True)]
    found = (
        ("water-sar", np.stack([_classes(WATER_SAR[_GREY], one[None]) == 1 for one in after]), wet["after"]),
        (
            "flood-sar",
            np.stack([_classes(FLOOD_SAR[_GREY], pair) == 1 for pair in pairs]),
            wet["after"] & ~wet["before"],
        ),
    )
    return [
        Score(
            task="radar", data=f"OMBRIA, Sentinel-1, {len(held_back)} of {len(everything)} samples, whole events held back",
            method=method, metric="mean IoU per sample, of the flood", value=mean_iou(water, samples.flooded),
            baseline=mean_iou(baseline, samples.flooded),
        )
        for method, water, baseline in found
    ]  # fmt: skip


def _classes(card: ModelCard, bands: NDArray[np.float32]) -> NDArray[np.int64]:
    """(H, W) of a scene (C, H, W), 0 to 1."""
    network: Any = build(card)
    x = bands + np.float32(1)  # the grey variants move 0 away from nodata: mean -1
    scene = Window(0, 0, x.shape[2], x.shape[1])
    found = network.look(scene, [Part(scene, x, np.ones(x.shape[1:], np.bool_))])
    return np.asarray(network(torch.from_numpy(x)[None], found.context[None])[0].argmax(dim=0).numpy())


def _otsu(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    quantiles = np.quantile(grey.astype(np.float64), np.linspace(0, 1, N_QUANTILES))
    return np.asarray(grey < otsu(quantiles).threshold)
