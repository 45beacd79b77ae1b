"""Takes what a scene's networks want to know of the whole of it, once, and keeps it in storage for all of its blocks.

A network says at which windows it wants to look (`models.networks.survey`); it sees there what its stage will see, so
after a mask without what that hides, and after an image the image. The windows depend on the scene alone and are read at
full resolution, so whoever takes a survey again writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress

import numpy as np

from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.records.canonical import FORMAT, canonical, read_document
from earthloom.jobs.records.names import SURVEY
from earthloom.models.inference.chain import Context, Stage, run_chain, windows
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.stack import Stack
from earthloom.models.networks.survey import Look, Part
from earthloom.tiling.errors import MissingObjectError, PublishError, SceneError
from earthloom.tiling.reading.read import Pixels, read_pixels
from earthloom.tiling.scene import Band
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window


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


def survey_scene(
    store: Store, plan: ScenePlan, members: Callable[[Stage], Sequence[Predictor]],
    computing: AbstractContextManager[object],
) -> tuple[str, ...]:  # fmt: skip
    """Take the surveys of all stages that want one and write them, unless they are there; what they say to the user.

    Args:
        members: the networks of a stage.
        computing: entered while a stage computes, so that no more is done at once than was planned.

    Raises:
        SceneError: if a file cannot be decoded, or a network cannot use the scene.
        StorageError: if they cannot be written.
    """
    with suppress(MissingObjectError, PublishError):  # a damaged document is written again
        return _notes(read_surveys(store, plan))
    stages = plan.chain.stages
    predictors = [members(stage) for stage in stages]
    looks: dict[int, Look] = {}
    contexts: list[Context] = [None] * len(stages)
    for number, stage in enumerate(stages):
        if stage.card.needs_survey:
            looks[number] = take_survey(plan, number, predictors, contexts, computing)
            contexts[number] = predictors[number][0].context_of(looks[number])
    taken = {str(number): look.to_json() for number, look in looks.items()}
    store.put(f"{plan.prefix}/{SURVEY}", canonical({"format": FORMAT, "stages": taken}))
    return _notes(looks)


def read_surveys(store: Store, plan: ScenePlan) -> dict[int, Look]:
    """The surveys of a scene, by number of the stage.

    Raises:
        MissingObjectError: if none was taken.
        PublishError: if the document is damaged or of another version.
    """
    key = f"{plan.prefix}/{SURVEY}"
    document = read_document(store.get(key), key)
    try:
        return {int(number): Look.from_json(taken) for number, taken in document["stages"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise PublishError(f"{key} is damaged ({type(error).__name__}: {error}); remove it and run again") from error


def take_survey(
    plan: ScenePlan, number: int, predictors: Sequence[Sequence[Predictor]], contexts: Sequence[Context],
    computing: AbstractContextManager[object],
) -> Look:  # fmt: skip
    """The survey that a stage's network wants of a scene, in the values that it sees.

    Args:
        number: number of the stage.
        predictors: predictors of all stages.
        contexts: contexts of those before it.

    Raises:
        SceneError: if a file cannot be decoded, or the network cannot use the scene.
    """
    stage, earlier = plan.chain.stages[number], plan.chain.stages[:number]
    predictor, card = predictors[number][0], stage.card
    bands = plan.chain.bands if earlier else plan.scene.select(card.bands)

    def seen(window: Window) -> Stack:
        own, read = windows(earlier, window)[0] if earlier else (window, window)
        pixels = read_pixels(plan.scene, bands, read, earlier[0].reach_px if earlier else 0, decide=own)
        source = stack_of(bands, read, pixels)
        if not earlier:
            return source
        wanted = frozenset(card.bands)
        with computing:
            return run_chain(earlier, predictors, contexts, window, source, frozenset(), onward=wanted).goes_on

    def parts() -> Iterator[Part]:
        for window in predictor.surveying.windows(stage.chips.scene):
            stack = seen(window)
            yield Part(window, predictor.normalise(stack.select(card.bands)).cpu().numpy(), stack.valid)

    try:
        return predictor.surveying.look(stage.chips.scene, parts())
    except SceneError as error:
        raise SceneError(f"{plan.scene.id}: {str(error).removeprefix(f'{plan.scene.id}: ')}") from error


def _notes(looks: dict[int, Look]) -> tuple[str, ...]:
    return tuple(note for look in looks.values() for note in look.notes)
