"""Checks that a scene's panchromatic band is as much finer than the others as a sharpening model was made for.

A model that sharpens by another ratio blurs by the wrong width: nothing in its picture says so. Pure arithmetic.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from earthloom.models.cards.card import ModelCard
from earthloom.models.zoo import ZOO
from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.resampling import pixel_ratio
from earthloom.tiling.scene import Scene

_PAN = "pan"
_OFF = 1.1  # Landsat 7's 14.25 and 28.5 m, 15 and 30 m are 2; a file's pixels are rounded
_ALIKE = 1.01


def check_pan(scene: Scene, grids: Sequence[Grid], cards: Sequence[ModelCard]) -> list[str]:
    """Notes on the ratio of pixel sizes on the scene's grid, for cards that sharpen.

    Args:
        grids: where each of the scene's files lies.
        cards: cards of all stages, with their bands bound.

    Raises:
        SceneError: if the other bands' pixels are not as many times as wide as the panchromatic band's as the card says,
            or the panchromatic band is not the finest.
    """
    notes = []
    for card in cards:
        ratio = _ratio_of(card)
        if ratio is None:
            continue
        bands = {band.name: grids[band.asset] for band in scene.select(card.bands)}
        pan = bands.pop(_PAN)
        coarse = pixel_ratio(scene.grid, pan)
        if coarse > _OFF:
            raise SceneError(
                f"{scene.id}: the panchromatic band has pixels of {pan.gsd_m():.3g} m and the scene of "
                f"{scene.grid.gsd_m():.3g} m, so it is not the finest: check which file is which in `bands`"
            )
        found = {name: pixel_ratio(scene.grid, grid) for name, grid in bands.items()}
        if all(value < _ALIKE for value in found.values()):
            notes.append(
                f"pan and {', '.join(bands)} have pixels of one size, so nothing shows by how much they were resampled; "
                f"{card.label} takes it to be {ratio} times"
            )
            continue
        for name, value in found.items():
            if not 1 / _OFF < value / ratio < _OFF:
                fine = "pan" if scene.grid == pan else "the grid that all are read onto"
                raise SceneError(
                    f"{scene.id}: {card.label} is for bands whose pixels are {ratio} times as wide as those of pan; those of "
                    f"{name} are {bands[name].gsd_m():.3g} m and those of {fine} {scene.grid.gsd_m():.3g} m, a ratio of "
                    f"{value:.3g}; {_remedy(value)}"
                )
    return notes


def _ratio_of(card: ModelCard) -> int | None:
    ratio = json.loads(card.arguments).get("ratio") if _PAN in card.bands else None
    return ratio if isinstance(ratio, int) else None


def _remedy(found: float) -> str:
    made = {card.label: ratio for entry in ZOO.values() for card in entry.cards if (ratio := _ratio_of(card))}
    fitting = [name for name, ratio in made.items() if 1 / _OFF < found / ratio < _OFF]
    if fitting:
        return f"`model={fitting[0]}` is for that"
    return f"there are models for {' and '.join(map(str, sorted(set(made.values()))))}; resample these bands to one of them"
