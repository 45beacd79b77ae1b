"""Makes a card folder of trained weights: measures the halo, proves that tiles give what the whole scene gives, and judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from earthloom.jobs.learning.config import TrainConfig
from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.fitting import Fitted
from earthloom.jobs.learning.judging import judge
from earthloom.jobs.learning.measure import measure_on
from earthloom.jobs.learning.object_judging import judge_objects, lenient
from earthloom.jobs.learning.record import judgement_record, over_seeds, seed_record
from earthloom.jobs.learning.seeds import margin_of
from earthloom.jobs.learning.split import Part
from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.device.resolve import resolve
from earthloom.models.inference.predictor import Predictor
from earthloom.models.measuring.measure import Measurement
from earthloom.models.training.augment import stacked
from earthloom.models.training.export import save_weights
from earthloom.models.training.network import build, load
from earthloom.models.training.temperature import Calibration
from earthloom.tiling.background import ordered
from earthloom.tiling.window import Window

_CORES_PX = (1024, 512, 256)
_ROOM_BYTES = 2 << 30
"""What one chip may take: the card names the largest core with which a worker stays near that."""


def make_card(
    config: TrainConfig, card: ModelCard, examples: Examples, fitted: Sequence[Fitted], folder: Path,
    on_stage: Callable[[str], None],
) -> tuple[ModelCard, dict[str, Any]]:  # fmt: skip
    """The card with its weights, halo and scores, and what the record says of them.

    Of several seeds that with the best score on the validation part is kept. Weights are written into `folder`.

    Raises:
        CardError: if the weights are no numbers, or the network cannot be measured.
        SceneError, StorageError: if the data cannot be read.
    """
    best = max(fitted, key=lambda each: (each.score or 0.0, -each.seed))
    path = folder / weights.FILE
    card = replace(card, weights=save_weights(best.weights, path, config.model.stored))
    on_stage("measuring the halo, and comparing the tiled map with one pass over the whole scene")
    measurement = _measured(config, card, path, examples)
    card = measurement.card
    tests: list[dict[str, Any] | None] = [None] * len(fitted)
    if (examples.split.part == Part.TEST).any():
        for place, each in enumerate(fitted):
            on_stage(f"testing seed {each.seed} on the test part" if len(fitted) > 1 else "testing on the test part")
            tests[place] = _judged(config, card, each, examples, folder)
    records = [seed_record(each, test) for each, test in zip(fitted, tests, strict=True)]
    own = records[[each.seed for each in fitted].index(best.seed)]["test"]
    card = replace(card, scores=tuple(sorted(own["scores"].items())) if own else ())
    calibration = _calibrated(config, card, best, examples)
    tiling = {
        "halo_px": card.halo_px, "support_px": card.support_px, "stride_px": card.stride_px, "core_px": card.core_px,
        "overlap": card.overlap, "tiled_is_whole": _agreement(measurement),
    }  # fmt: skip
    return card, {
        "seeds": records, "kept_seed": best.seed, "test": over_seeds(records), "calibration": calibration, "tiling": tiling,
    }  # fmt: skip


def _calibrated(config: TrainConfig, card: ModelCard, kept: Fitted, examples: Examples) -> dict[str, Any] | None:
    """Calibration of the kept network on the validation part; None of objects, or where there is no such part."""
    if card.objects is not None or not (windows := examples.windows(Part.VALIDATION)):
        return None
    found, network, margin_px = Calibration(), load(build(card, kept.seed), kept.weights), margin_of(examples, card)

    def window_of(item: tuple[int, Window]) -> Any:
        return examples.judged(*item, margin_px, Part.VALIDATION, config.split.gap_px)

    for made in ordered(window_of, windows, threads=2, ahead=2):
        found.add(network, *stacked([made]))
    return found.to_dict()


def _measured(config: TrainConfig, card: ModelCard, path: Path, examples: Examples) -> Measurement:
    """Measure on a part of the scene with most labels that judge, and choose the core by the memory that was found."""
    index, split_of = examples.index, examples.split
    part = next(part for part in (Part.TEST, Part.VALIDATION, Part.TRAIN) if (split_of.part == part).any())
    chosen = split_of.part == part
    labelled = np.bincount(index.scene[chosen], weights=index.counts[chosen].sum(axis=1))
    number = int(np.argmax(labelled))
    each = examples.scenes[number]
    box = index.box[chosen & (index.scene == number)]
    grid, side = each.scene.grid, config.compute.window_px
    width, height = min(side, grid.width), min(side, grid.height)
    col, row = (
        int(min(max((box[:, axis].min() + box[:, axis + 2].max()) // 2 - length // 2, 0), most - length))
        for axis, length, most in ((0, width, grid.width), (1, height, grid.height))
    )
    if card.labels:
        side = card.core_px
        col, row, width, height = (
            *(offset // side * side for offset in (col, row)), max(width, 2 * side), max(height, 2 * side)
        )  # fmt: skip
    found = measure_on(card, path, each.scene, Window(col, row, width, height) & grid.window)
    if card.labels:
        return found
    known = [size for _, size in found.card.memory] or [0.0]
    halo = found.card.halo_px or 0
    fits = [core for core in _CORES_PX if max(known) * (core + 2 * halo) ** 2 <= _ROOM_BYTES] or list(_CORES_PX[-1:])
    core_px = fits[0]
    if found.card.overlap == "blend":
        halo = max(1, core_px // 8 // card.stride_px) * card.stride_px
    return replace(found, card=replace(found.card, core_px=core_px, halo_px=halo))


def _agreement(found: Measurement) -> dict[str, Any] | None:
    """The agreement at the halo that was chosen; None for a network whose chips are cross-faded."""
    if found.agreement is None:
        return None
    return {
        "identical": found.agreement.identical, "flips": found.agreement.flips,
        "class_flips": found.agreement.class_flips,
    }  # fmt: skip


def _judged(config: TrainConfig, card: ModelCard, fitted: Fitted, examples: Examples, folder: Path) -> dict[str, Any]:
    """Scores on the test part, as they go into the record."""
    path = folder / f"seed-{fitted.seed}.safetensors"
    own = replace(card, weights=save_weights(fitted.weights, path, config.model.stored))
    device = resolve(config.compute.device)
    if own.objects is not None:
        predictor = Predictor(lenient(own), path, device)
        return judge_objects(predictor, own, examples, Part.TEST, config.split.gap_px).record(own)
    judged = judge(Predictor(own, path, device), own, examples, Part.TEST, config.split.gap_px)
    return judgement_record(judged, examples.classes)
