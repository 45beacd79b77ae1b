"""Takes the surveys that a scene's networks want, once, and keeps them in storage for all of its blocks.

`models.networks.survey` looks at all of a small scene and at a regular lattice of windows of a large one. The lattice is
anchored on the scene and read at full resolution, so whoever takes a survey again writes the same bytes.
"""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np

from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.records.canonical import FORMAT, canonical, read_document
from earthloom.jobs.records.names import SURVEY
from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.stack import Stack
from earthloom.models.networks.survey import Survey, survey
from earthloom.tiling.errors import MissingObjectError, PublishError
from earthloom.tiling.reading.read import Pixels, read_pixels
from earthloom.tiling.scene import Band, Scene
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window

MOST_PX = 1 << 21
"""Pixels that are looked at; with quantiles over two million a scene's tails are known to 0.01 %."""

_WINDOW_PX = 256


def stack_of(bands: tuple[Band, ...], window: Window, pixels: Pixels) -> Stack:
    """Pixels as they were read, with what they mean."""
    return Stack(
        window=window, names=tuple(band.name for band in bands), values=pixels.values, valid=pixels.valid,
        gain=np.array([band.scale for band in bands], np.float32),
        bias=np.array([band.offset for band in bands], np.float32),
    )  # fmt: skip


def needs_survey(plan: ScenePlan) -> bool:
    """Whether a block can be computed only after the scene was surveyed."""
    return any(stage.card.needs_survey for stage in plan.chain.stages)


def survey_scene(store: Store, plan: ScenePlan) -> None:
    """Take the surveys of all stages that want one and write them, unless they are there.

    Raises:
        SceneError: if a file cannot be decoded.
        StorageError: if they cannot be written.
    """
    with suppress(MissingObjectError, PublishError):  # a damaged document is written again
        read_surveys(store, plan)
        return
    stages = {
        str(number): take_survey(plan.scene, stage.card).to_json()
        for number, stage in enumerate(plan.chain.stages)
        if stage.card.needs_survey
    }
    store.put(f"{plan.prefix}/{SURVEY}", canonical({"format": FORMAT, "stages": stages}))


def read_surveys(store: Store, plan: ScenePlan) -> dict[int, Survey]:
    """The surveys of a scene, by number of the stage.

    Raises:
        MissingObjectError: if none was taken.
        PublishError: if the document is damaged or of another version.
    """
    key = f"{plan.prefix}/{SURVEY}"
    document = read_document(store.get(key), key)
    try:
        return {int(number): Survey.from_json(taken) for number, taken in document["stages"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PublishError(f"{key} is damaged ({type(error).__name__}: {error}); remove it and run again") from error


def take_survey(scene: Scene, card: ModelCard) -> Survey:
    """The survey that a card's network wants of a scene, in the values that the network sees.

    Raises:
        SceneError: if a file cannot be decoded.
    """
    bands = scene.select(card.bands)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (card.mean, card.std))
    parts = []
    for window in lattice(scene.grid.window):
        pixels = read_pixels(scene, bands, window, halo_px=0)
        physical = stack_of(bands, window, pixels).physical().numpy()
        parts.append(((physical - mean) / std, pixels.valid))
    return survey(parts)


def lattice(scene: Window) -> list[Window]:
    """Windows of 256 px that hold at most about MOST_PX pixels, spread evenly."""
    every = math.ceil(math.sqrt(max(1.0, scene.size_px / MOST_PX)))
    if every == 1:
        return list(scene.split(4 * _WINDOW_PX))
    rows, cols = (_spread(side, every) for side in scene.shape)
    return [Window(col, row, _WINDOW_PX, _WINDOW_PX) & scene for row in rows for col in cols]


def _spread(side_px: int, every: int) -> list[int]:
    """Offsets of every n-th window along a side, at least one."""
    offsets = list(range(0, side_px, _WINDOW_PX))
    return offsets[min(every, len(offsets)) // 2 :: every]
