"""Open water by landwater and by indices, on 60 chips of lakes and rivers; the baseline is NDWI above 0 on single pixels.

The masks are of another date than the pictures, so no method can reach 1.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from PIL import Image

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.networks.registry import build
from earthloom.models.zoo import variants
from tests.bench.scores import Score
from tests.scenes import DATA

_FOLDER = DATA / "water_multispectral"
_BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
_BASELINE = "water-index-ndwi"


def scores() -> list[Score]:
    """Mean IoU of water, each chip with water counting once.

    Raises:
        FileNotFoundError: naming the folder that is absent.
        CardError: if the weights of landwater are not in the cache.
    """
    images = sorted((_FOLDER / "images").glob("*.tif"))
    if not images:
        raise FileNotFoundError(f"{_FOLDER} is not here; point EARTHLOOM_DATA at the folder of real scenes")
    chips = [(_reflectance(path), _mask(path.stem)) for path in images]
    wet = [(bands, truth) for bands, truth in chips if truth.any()]
    cards = [pair for name in ("landwater", "water-index", "water-indices") for pair in variants(name)]
    found = {
        card.label: _mean_iou(card, None if card.weights is None else folder.path / weights.FILE, wet)
        for card, folder in cards
    }
    return [
        Score(
            task="water", data=f"{len(wet)} chips of lakes and rivers, masks of another date", method=label,
            metric="mean IoU of water per chip", value=value, baseline=found[_BASELINE],
        )
        for label, value in found.items()
    ]  # fmt: skip


def _mean_iou(card: ModelCard, path: Path | None, chips: list[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> float:
    network = build(card).eval()
    if path is not None:
        weights.load_into(network, path, card.weights or "")
    at = [_BANDS.index(name) for name in card.bands]
    mean, std = (torch.tensor(values)[:, None, None] for values in (card.mean, card.std))
    water = next(entry.value for entry in card.classes if entry.name == "water")
    each = []
    with torch.inference_mode():
        for bands, truth in chips:
            found = network((torch.from_numpy(bands[at]) - mean)[None] / std).argmax(dim=1)[0].numpy() == water
            each.append((found & truth).sum() / (found | truth).sum())
    return float(np.mean(each))


def _reflectance(path: Path) -> NDArray[np.float32]:
    """(6, H, W)"""
    with warnings.catch_warnings(), rasterio.open(path) as dataset:
        warnings.simplefilter("ignore")
        return np.asarray(dataset.read(), np.float32) * np.float32(1e-4)


def _mask(stem: str) -> NDArray[np.bool_]:
    with Image.open(_FOLDER / "masks" / f"{stem}.png") as mask:
        return np.asarray(mask.convert("L")) > 127
