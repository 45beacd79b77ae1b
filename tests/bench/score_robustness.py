"""How far `deforestation` and `buildings` fall on the places held back when the picture is another day's or another sensor's.

The same pixels and labels as their own tasks: GSD by 1.4 and 2 both ways, gamma, haze (a share of white laid over), light, and
the tint of another season. Real other places may differ in all of these at once.

Version 1.1.0 of both learned from crops that were changed in such ways, by other draws and shapes (`[augment]` of
infra/recipes); what 1.0.0 lost here was known when they were chosen, and `stay` was set after one look. Their training has
nothing of JPEG, of bands that lie beside each other, of haze as steep as that of clean air (Rayleigh: the wavelength to
the power of -4), or of a gain that drifts across the picture.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import shift
from torch.nn.functional import interpolate

from earthloom.models.cards import weights
from earthloom.models.networks import registry
from earthloom.models.training.score import confusion, iou
from earthloom.models.zoo.entry import shipped_weights
from infra.recipes.pictures import Pair, labels_of
from infra.recipes.shipped import RECIPES
from tests.bench.scores import Score
from tests.scenes import DATA

Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_RAYLEIGH = 0.25 * (0.49 / np.array([0.665, 0.56, 0.49], np.float32)[:, None, None]) ** 4
"""Share of haze in red, green and blue, where it is 25 % in blue; Sentinel-2's central wavelengths in micrometres."""


def _jpeg(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """As it comes back from a JPEG of quality 30."""
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * values).astype(np.uint8).transpose(1, 2, 0)).save(file, "JPEG", quality=30)
    return np.asarray(Image.open(file), np.float32).transpose(2, 0, 1) / np.float32(255)


def _misregistered(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Red half a pixel up and to the left of green, blue half a pixel down and to the right, by cubic splines."""
    moved = [shift(band, by, mode="nearest") for band, by in zip(values, (-0.5, 0.0, 0.5), strict=True)]
    return np.stack(moved).astype(np.float32)


def _drifting(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The gain of red rises from 0.9 to 1.1 from left to right, that of blue falls."""
    ramp = np.linspace(-0.1, 0.1, values.shape[2], dtype=np.float32)
    return values * (1 + np.stack([ramp, 0 * ramp, -ramp])[:, None])


_CHANGES: dict[str, Change] = {
    "gamma 0.7": lambda x: x**0.7,
    "gamma 1.4": lambda x: x**1.4,
    "haze of 10 %": lambda x: 0.9 * x + 0.1,
    "haze of 20 %": lambda x: 0.8 * x + 0.2,
    "light x 0.7": lambda x: 0.7 * x,
    "light x 1.3": lambda x: 1.3 * x,
    "dry season": lambda x: x * np.array([1.25, 1.0, 0.9], np.float32)[:, None, None],
    "wet season": lambda x: x * np.array([0.8, 1.05, 1.0], np.float32)[:, None, None],
    "JPEG of quality 30": _jpeg,
    "bands 0.5 px apart": _misregistered,
    "Rayleigh haze, 25 % in blue": lambda x: x * (1 - _RAYLEIGH) + _RAYLEIGH,
    "gain drift of 10 %": _drifting,
}
"""Of values from 0 to 1, (C, H, W)."""
_ZOOMS = (0.5, 1 / 1.4, 1.4, 2.0)
_SIDE_PX = 750
"""Side of the squares of Kitsap that are looked at: every other one."""


def scores() -> list[Score]:
    """IoU of the class that each model is judged by, beside its IoU on the same pixels as they are.

    Raises:
        FileNotFoundError: naming the data that is absent.
    """
    return [score for name in ("deforestation", "buildings") for score in _of(name)]


def _of(name: str) -> Iterator[Score]:
    recipe = RECIPES[name]
    card, path = recipe.card, shipped_weights(recipe.card)
    assert path, "the recipe's weights are part of the project"
    module = registry.build(card).eval()
    weights.load_into(module, path, card.weights or "")
    pairs = [part for pair in recipe.read(DATA).held_back for part in _parts(pair)]

    def judged(changed: list[Pair]) -> float:
        counts = [
            confusion(labels_of(module, each.values, recipe.gain, card), each.labels, len(card.classes))
            for each in changed
        ]
        return iou(np.asarray(np.sum(counts, axis=0)), recipe.judged)

    plain = judged(pairs)
    judged_class = next(one.name for one in card.classes if one.value == recipe.judged)
    cases = {what: [recoloured(pair, change) for pair in pairs] for what, change in _CHANGES.items()}
    cases |= {f"GSD x {zoom:.3g}": [zoomed(pair, zoom) for pair in pairs] for zoom in _ZOOMS}
    for what, changed in cases.items():
        yield Score(
            task="robustness", data=f"{name}, held back, {what}", method=f"{card.label} {card.version}",
            metric=f"IoU of {judged_class}, pooled", value=judged(changed), baseline=plain,
        )  # fmt: skip


def _parts(pair: Pair) -> list[Pair]:
    """All of a small picture; of a large one, squares."""
    height, width = pair.labels.shape
    if max(height, width) <= _SIDE_PX:
        return [pair]
    corners = [(row, col) for row in range(0, height, _SIDE_PX) for col in range(0, width, _SIDE_PX)]
    squares = [(slice(row, row + _SIDE_PX), slice(col, col + _SIDE_PX)) for row, col in corners[::2]]
    return [Pair(pair.values[:, rows, cols], pair.labels[rows, cols]) for rows, cols in squares]


def recoloured(pair: Pair, change: Change) -> Pair:
    """The same place in 8-bit values that a change has been made to."""
    values = change(pair.values.astype(np.float32) / np.float32(255))
    return Pair(np.clip(np.rint(values * 255), 0, 255).astype(np.uint8), pair.labels)


def zoomed(pair: Pair, zoom: float) -> Pair:
    """The same place in pixels `zoom` times as wide, averaged or interpolated; labels by nearest neighbour."""
    size = tuple(max(16, round(side / zoom) // 16 * 16) for side in pair.labels.shape)
    values = torch.from_numpy(pair.values.astype(np.float32))[None]
    labels = torch.from_numpy(pair.labels.astype(np.float32))[None, None]
    return Pair(
        np.rint(interpolate(values, size, mode="bilinear", antialias=True)[0].numpy()).astype(np.uint8),
        interpolate(labels, size, mode="nearest-exact")[0, 0].numpy().astype(np.uint8),
    )
