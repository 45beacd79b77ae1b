"""Binds opened scenes to the run's models, on the grids on which these can map them.

A network that knows things by their size in pixels is run at the GSD that it was made for, and the earlier date of a pair is
read from where its ground lies. Both are decided here, once for a whole scene, so that no block depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import numpy as np

from earthloom.jobs.config import RunConfig
from earthloom.jobs.intake.inspectors import PRELOAD
from earthloom.jobs.intake.registered import register
from earthloom.jobs.intake.regrid import onto_grid
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, refused_scene
from earthloom.jobs.planning.chain import GSD_SLACK, ChainPlan, bind
from earthloom.jobs.planning.footprints import FootprintFile
from earthloom.jobs.planning.words import ChainModel
from earthloom.models.cards.card import BEFORE, ModelCard
from earthloom.models.device.resolve import Device
from earthloom.tiling.aoi import suggest_aoi
from earthloom.tiling.errors import SceneError, StorageError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.resampling import COARSER

Bound = tuple[OpenedScene, ChainPlan]
Binds = Callable[[OpenedScene], ChainPlan]

_NARROW = 3.0
"""Ratio of a card's largest GSD to its smallest, up to which its network knows things by their size: one that has seen more
sizes than that goes by colours, and finer pixels do it no harm."""
_COARSEST = 3.0
"""Times a card's largest GSD, beyond which interpolation shows a network nothing that it could know."""
_MOST_DENOMINATOR = 100
"""Largest denominator of the ratio of both grids: their pixels meet again and again, and 0.15 m become 0.2 m, for all
that a map's metre is not one of the ground. A ratio is changed by less than `GSD_SLACK` by that."""
_OFFERS = 4
"""Presets named in a refusal."""
_AT_ONCE = 4  # pairs that are measured, each in a process


def bind_all(
    opened: Sequence[OpenedScene | RefusedScene], models: Sequence[ChainModel], config: RunConfig, device: Device,
    footprints: FootprintFile | None = None,
) -> list[Bound | RefusedScene]:  # fmt: skip
    """Choose variants, bands, grid and chips for every scene, in order; what is wrong with one is told in its place.

    Args:
        footprints: what `config.footprints` names.

    Raises:
        CardError, ConfigError: if the stages do not make a chain, whatever the scene.
        EngineError: if no process to read pixels in could be started.
    """

    def binds(opened: OpenedScene) -> ChainPlan:
        return bind(opened.scene, models, config, device, footprints, opened.numbers)

    grid_is_given = config.onto is not None
    found = [one if isinstance(one, RefusedScene) else _bound(one, binds, grid_is_given) for one in opened]
    pairs = [place for place, one in enumerate(found) if isinstance(one, tuple) and _compares(one[1])]
    if not pairs:
        return found
    size = min(_AT_ONCE, len(pairs))
    with Disposables(size, preload=PRELOAD) as inspectors, ThreadPoolExecutor(size) as pool:

        def registered(place: int) -> Bound | RefusedScene:
            one = found[place]
            assert isinstance(one, tuple), "pairs are bound"
            try:
                there = register(one[0], inspectors)
            except (SceneError, StorageError) as error:
                return refused_scene(one[0].scene, error)
            return there, binds(there)

        for place, one in zip(pairs, pool.map(registered, pairs), strict=True):
            found[place] = one
    return found


def fitting_grid(grid: Grid, card: ModelCard, scale: int = 1) -> Grid | None:
    """The grid on which a network is to see a scene; None where that is its own.

    The nearest GSD that the card is for: of a finer scene the smallest, of a coarser one the largest. The map lies on that
    grid too, as its pixels are what was decided; on the scene's own it would show detail that nobody looked at.

    Args:
        grid: grid of the scene.
        card: card of the network that gives the result its classes.
        scale: pixels that the stages before it make of one of the scene, per side.

    Raises:
        SceneError: if the pixels are so coarse that the network could know nothing on them.
    """
    least, most = (bound * scale for bound in card.gsd_m)
    gsd_m = grid.gsd_m()
    if card.weights is None or card.kind == "image" or most > _NARROW * least:
        return None
    if least / GSD_SLACK <= gsd_m <= most * GSD_SLACK:
        return None
    if gsd_m > _COARSEST * most:
        own = suggest_aoi(grid)
        raise SceneError(
            f"pixels of {gsd_m:.3g} m are too coarse for {card.label}, which was made for {least:g} to {most:g} m: what it "
            f"looks for is not in them; give a finer scene"
            + (f", or have it mapped on its own grid all the same: `onto={own}`" if own else "")
        )
    factor = Fraction((least if gsd_m < least else most) / gsd_m).limit_denominator(_MOST_DENOMINATOR)
    return grid.rescale(float(factor))


def _bound(opened: OpenedScene, binds: Binds, grid_is_given: bool) -> Bound | RefusedScene:
    try:
        chain = binds(opened)
        if grid_is_given or any("pan" in card.bands for stage in chain.stages for card in stage.cards):
            return opened, chain  # the user has chosen; and a sharpened image is as fine as its panchromatic band
        there = _on_fitting_grid(opened, chain)
        return there, chain if there is opened else binds(there)
    except SceneError as error:
        return refused_scene(opened.scene, _explained(error, opened))


def _on_fitting_grid(opened: OpenedScene, chain: ChainPlan) -> OpenedScene:
    scene, card = opened.scene, chain.stages[chain.main].card
    scale = int(np.prod([stage.card.scale for stage in chain.stages[: chain.main]], initial=1))
    try:
        grid = fitting_grid(scene.grid, card, scale)
    except SceneError as error:
        raise SceneError(f"{scene.id}: {error}") from None
    if grid is None:
        return opened
    gsd_m, target_m = scene.grid.gsd_m(), grid.gsd_m()
    how = "averaged" if target_m / gsd_m > COARSER else "interpolated"
    note = (
        f"pixels of {gsd_m:.3g} m lie outside the {card.gsd_m[0] * scale:g}-{card.gsd_m[1] * scale:g} m that {card.label} is "
        f"for: they are {how} to {target_m:.3g} m, and the map has pixels of that size; `onto` names another grid"
    )
    return replace(onto_grid(opened, grid), notes=(*opened.notes, note))


def _compares(chain: ChainPlan) -> bool:
    return any(band.name.startswith(BEFORE) for band in chain.bands)


def _explained(error: SceneError, opened: OpenedScene) -> SceneError:
    """Why a model cannot use a scene, with what was left out of it, and with presets for values of unknown scale."""
    text = str(error)
    if opened.offers:
        first, *others = opened.offers[:_OFFERS]
        text += f". `sensor={first}` fits its bands and values" + f", and so do {', '.join(others)}" * bool(others)
    if opened.left_out:
        text += f". Of its files, {'; '.join(opened.left_out)}"
    return SceneError(text) if text != str(error) else error
