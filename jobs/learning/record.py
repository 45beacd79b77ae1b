"""The training record beside a card: data and its digests, split, seeds and scores.

The record is a function of the job: a training that was interrupted leaves the same bytes. Opens nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.corpus import Corpus
from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.fitting import Fitted
from earthloom.jobs.learning.judging import Judgement
from earthloom.jobs.learning.scores import accuracy, averages, class_scores

_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Quantile 0.975 of Student's t distribution with 1, 2, … 15 degrees of freedom; 1.96 beyond."""


def scores(counts: NDArray[np.int64], classes: Sequence[str]) -> dict[str, float]:
    """IoU, precision, recall and F1 of each class that is labelled, mean IoU of those that are there, accuracy; 4 digits."""
    each = class_scores(counts)
    found = {"iou": averages(counts)["macro"]["iou"], "accuracy": accuracy(counts)}
    for name in ("iou", "precision", "recall", "f1"):
        values = zip(classes, getattr(each, name), each.support, strict=True)
        found |= {f"{name}_{known}": float(value) for known, value, labelled in values if labelled}
    return {name: round(value, 4) for name, value in found.items()}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation and the half width of the 95 % interval of the mean, by Student's t; of one value, itself."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return {"mean": round(mean, 4)}
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    t = _T95[len(values) - 2] if len(values) - 2 < len(_T95) else 1.96
    return {
        "mean": round(mean, 4), "sd": round(deviation, 4), "ci95": round(t * deviation / math.sqrt(len(values)), 4)
    }  # fmt: skip


def seed_record(fitted: Fitted, test: Mapping[str, Any] | None) -> dict[str, Any]:
    """The training with one seed, and its scores on the test part."""
    return {
        "seed": fitted.seed,
        "steps": fitted.steps,
        "kept_step": fitted.step,
        "validation": {
            "score": None if fitted.score is None else round(fitted.score, 6),
            "looks": [{name: look[name] for name in ("step", "loss", "score")} for look in fitted.looks],
        },
        "test": test,
    }


def judgement_record(test: Judgement, classes: Sequence[str]) -> dict[str, Any]:
    """Counts and scores of the test part."""
    return {
        "pixels": int(test.counts.sum()),
        **test.distance.record(int(test.counts.sum())),
        "confusion": test.counts.tolist(),
        "scores": scores(test.counts, classes) if test.counts.any() else {},
        "by_scene": {name: scores(counts, classes)["iou"] for name, counts in sorted(test.by_scene.items())},
    }


def data_record(corpus: Corpus, examples: Examples) -> dict[str, Any]:
    """Every scene by reference and digest, and how the pixels were split."""
    split = examples.split
    return {
        "scenes": [each.reference | {"pixels": _pixels(examples, number)} for number, each in enumerate(corpus.scenes)],
        "quantity": corpus.quantity,
        "split": split.table.model_dump(mode="json", exclude={"regions"})
        | {"regions": split.regions.identity if split.regions else None},
        "pixels": split.pixels(examples.index),
        "mean": list(examples.mean),
        "std": list(examples.std),
    }


def over_seeds(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and spread of every score of the test part, over seeds."""
    tested = [record["test"]["scores"] for record in records if record["test"] and record["test"]["scores"]]
    return {name: spread([each[name] for each in tested]) for name in tested[0]} if tested else {}


def _pixels(examples: Examples, number: int) -> dict[str, int]:
    here = examples.index.scene == number
    part, counts = examples.split.part, examples.index.counts
    return {
        name: int(counts[here & (part == value)].sum()) for value, name in enumerate(("train", "validation", "test"))
    }
