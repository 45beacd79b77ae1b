"""Floods in the grey radar pictures of OMBRIA by `water-sar` and `flood-sar`, against Otsu's threshold on single pixels.

The pictures are no calibrated backscatter, and each is a scene of its own of which a fifth is flooded.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from earthloom.models.cards.card import ModelCard
from earthloom.models.networks.registry import build
from earthloom.models.networks.segment.sar_water import SarWater, otsu
from earthloom.models.networks.survey import N_QUANTILES, survey
from earthloom.models.zoo.radar import FLOOD_SAR, WATER_SAR
from tests.bench.score_flood import Samples, load, mean_iou
from tests.bench.scores import Score

_GREY = 2  # of both models, the variant without a unit


def scores() -> list[Score]:
    """Mean IoU of what is flooded, each picture counting once.

    Raises:
        FileNotFoundError: naming the folder that is absent.
    """
    parts = [load(("S1",), held_back=held_back) for held_back in (False, True)]
    both = Samples(np.concatenate([part.bands for part in parts]), np.concatenate([part.flooded for part in parts]))
    before, after = both.bands[:, 0], both.bands[:, 1]
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
            task="radar", data=f"OMBRIA, Sentinel-1, all {len(both.flooded)} samples", method=method,
            metric="mean IoU per sample", value=mean_iou(water, both.flooded), baseline=mean_iou(baseline, both.flooded),
        )
        for method, water, baseline in found
    ]  # fmt: skip


def _classes(card: ModelCard, bands: NDArray[np.float32]) -> NDArray[np.int64]:
    """(H, W) of a scene (C, H, W), 0 to 1."""
    network = build(card)
    assert isinstance(network, SarWater)
    x = bands + np.float32(1)  # the grey variants move 0 away from nodata: mean -1
    context = network.context(survey([(x, np.ones(x.shape[1:], np.bool_))]))
    return np.asarray(network(torch.from_numpy(x)[None], context[None])[0].argmax(dim=0).numpy())


def _otsu(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    threshold, _, _ = otsu(np.quantile(grey.astype(np.float64), np.linspace(0, 1, N_QUANTILES)))
    return np.asarray(grey < threshold)
