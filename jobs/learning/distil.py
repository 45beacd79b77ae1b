"""`earthloom distil`: a small network learns what a large one says of scenes that nobody labelled.

The teacher maps the scenes by the ordinary run; its maps say where crops are drawn from, and its probabilities are what is
learned, crop by crop (`models.training.teacher`). The student is a card folder like every trained model, judged by how far
it agrees with its teacher on a part of the scenes that it has not seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from earthloom.jobs.config import RunConfig
from earthloom.jobs.execution.driver import run
from earthloom.jobs.execution.event import Event
from earthloom.jobs.intake.scenes import assign_ids, expand
from earthloom.jobs.learning.config import check_training
from earthloom.jobs.learning.fitting import Progress
from earthloom.jobs.learning.ground import Ground
from earthloom.jobs.learning.options import DistilConfig
from earthloom.jobs.learning.train import Trained, train
from earthloom.jobs.planning.plan import RunPlan
from earthloom.models.cards.card import BEFORE, ModelCard
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.redact import redact
from earthloom.tiling.rounding import ceil_div

MAPS = "teacher"
"""Folder below OUT of what the teacher says."""
_LEAST_BLOCKS = 16
_MOST_CROPS = 16
"""Sides of a crop in that of a square, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distilled:
    """A student and its teacher."""

    trained: Trained
    teacher: ModelCard

    @property
    def student(self) -> ModelCard:
        return self.trained.card

    def to_dict(self) -> dict[str, Any]:
        """The comparison of both: on how many pixels of the test part it says what the teacher says, how well it agrees on
        each class, and what each costs."""
        test = self.trained.record["test"]
        return {
            "out": self.trained.out, "student": self.student.label, "teacher": self.teacher.label,
            "same_pixels": test["accuracy"]["mean"] if test else None, "agreement": test,
            "flop_per_px": {"student": self.student.flop_per_px, "teacher": self.teacher.flop_per_px},
            "bytes_per_px": {"student": dict(self.student.memory), "teacher": dict(self.teacher.memory)},
            "halo_px": {"student": self.student.halo_px, "teacher": self.teacher.halo_px},
        }  # fmt: skip


def distil(
    config: DistilConfig, *, on_plan: Callable[[RunPlan], None] | None = None,
    on_event: Callable[[Event], None] | None = None, on_progress: Callable[[Progress], None] = lambda _: None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Distilled:  # fmt: skip
    """Map the scenes with the teacher, and train the student on what it says. Again: goes on where it was stopped.

    Args:
        on_plan, on_event: as of `jobs.execution.driver.run`.
        on_progress, on_stage: as of `jobs.learning.train.train`.

    Raises:
        ConfigError: if the teacher is no single segmentation, or the scenes need several variants of it.
        SceneError: if a scene cannot be mapped: without it something else would be learned.
        CardError, EngineError, StorageError: as `run` and `train` do.
    """
    plans: list[RunPlan] = []

    def planned(made: RunPlan) -> None:
        plans.append(made)
        if made.scenes:
            _teacher(made)
        if on_plan:
            on_plan(made)

    result = run(_run_config(config), on_plan=planned, on_event=on_event)
    if failed := [f"{name}: {state.error}" for name, state in result.scenes.items() if name not in result.results]:
        raise SceneError(f"the teacher cannot map all scenes; leave out what it cannot: {'; '.join(failed)[:1000]}")
    card = _teacher(plans[0])
    maps = {
        name: f"{result.out.rstrip('/')}/{summary.prefix}/{summary.model}.tif"
        for name, summary in result.results.items()
    }
    trained = train(
        check_training(_tables(config, plans[0], card, maps)),
        replaces=config.replace,
        on_progress=on_progress,
        on_stage=on_stage,
    )
    return Distilled(trained=trained, teacher=card)


def _run_config(config: DistilConfig) -> RunConfig:
    given = {name: getattr(config, name) for name in RunConfig.model_fields}
    return RunConfig.model_construct(**(given | {"out": f"{config.out.rstrip('/')}/{MAPS}"}))


def _teacher(made: RunPlan) -> ModelCard:
    """The one card that all scenes are mapped with."""
    cards = list(dict.fromkeys(scene.card for scene in made.scenes))
    if len(cards) > 1:
        raise ConfigError(f"the scenes need {', '.join(card.label for card in cards)}; distil one of them at a time")
    (card,) = cards
    if card.kind != "class-map":
        raise ConfigError(f"{card.label} makes {card.makes}; what is distilled is a segmentation")
    if any(len(stage.cards) > 1 for scene in made.scenes for stage in scene.chain.stages) or any(
        len(scene.chain.stages) > 1 for scene in made.scenes
    ):
        raise ConfigError("a student has one teacher, and no chain; name one model alone")
    if any(band.startswith(BEFORE) for band in card.bands):
        raise ConfigError(
            f"{card.label} compares two dates, and a student that is distilled sees one; write a training file, whose scenes "
            "have 'before' and whose table [teacher] names this model"
        )
    return card


def block_px(grids: Sequence[Grid], crop_px: int) -> int:
    """Side of the squares that one or two places are split into: as large as still gives `_LEAST_BLOCKS` of them.

    What judges lies farther than the halo from what was trained on, and of small squares nothing does.
    """
    sides = [times * crop_px for times in range(_MOST_CROPS, 1, -1)]
    enough = [
        side
        for side in sides
        if sum(ceil_div(grid.width, side) * ceil_div(grid.height, side) for grid in grids) >= _LEAST_BLOCKS
    ]
    return (enough or sides[-1:])[0]


def _tables(config: DistilConfig, made: RunPlan, card: ModelCard, maps: dict[str, str]) -> dict[str, Any]:
    """The training as its file would say it."""
    requests = assign_ids(expand(config.scenes, config.scene.alternate), config.scene.scene_id)
    options = config.scene.model_dump(exclude_none=True, exclude_defaults=True)
    grids = [plan.grid for plan in made.scenes]
    split: dict[str, Any] = {"by": "scene"}
    if len(Ground(grids).groups()) < 3:  # scenes of the same ground are not apart
        split = {"by": "block", "block_px": block_px(grids, config.crop)}
    return {
        "name": config.name or f"{card.name}-student", "out": config.out, "seed": config.seed,
        "scenes": [{"scene": request.reference, "labels": maps[request.id], **options} for request in requests],
        "labels": {"classes": [{"value": c.value, "name": c.name, "color": c.color} for c in card.classes]},
        "split": split | {"validation": 0},  # labels never run out, so nothing is gained by stopping early
        "model": {
            "architecture": config.student, "encoder": config.encoder, "arguments": _arguments(config.arguments),
            "bands": card.bands, "crop_px": config.crop, "start": config.start,
        },
        "loss": {"cross_entropy": 0.0, "dice": 0.5},
        "teacher": {"model": config.model[0], "temperature": config.temperature},
        "augment": {"zoom": 1.25, "gain": 0.1},
        "schedule": {"steps": config.steps, "batch": config.chips, "rate": config.rate},
        "card": {
            "title": f"A student of {card.label}", "license": card.license, "citation": card.citation,
            "description": f"It learned the probabilities of {redact(config.model[0])}; its scores are agreement with that.",
        },
    }  # fmt: skip


def _arguments(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"`arguments={text[:80]}` is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f'`arguments={text[:80]}` is no JSON object, such as {{"base":16}}')
    return found
