"""Recipes whose data may not be passed on as weights: trained here by their files, judged by their test part, thrown away."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import earthloom
from earthloom.models.cards import weights
from earthloom.models.networks import registry
from earthloom.tiling.errors import MissingObjectError
from infra.recipes.__main__ import lay_out
from infra.recipes.pictures import labels_of
from tests.scenes import DATA


def laid_out(name: str, folder: Path) -> Path:
    """A recipe's file, its data beside it.

    Raises:
        FileNotFoundError: naming the data that is absent.
    """
    try:
        return lay_out(name, DATA, folder)
    except MissingObjectError as error:
        raise FileNotFoundError(str(error)) from error


def confusion_of(file: Path) -> NDArray[np.int64]:
    """Train by a recipe's file, once, and count on its test part: rows are the truth, columns what was found."""
    record: dict[str, Any] = earthloom.train(file, out=file.parent / "model").record
    (seed,) = record["seeds"]
    return np.array(seed["test"]["confusion"], np.int64)


def mapper_of(file: Path, *, seed: int, held_back: Sequence[str]) -> Callable[[NDArray[np.generic]], NDArray[np.uint8]]:
    """Train by a recipe's file on all of its scenes but those held back, by id; maps values (C, H, W) to classes (H, W)."""
    config: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
    for scene in config["scenes"]:
        scene |= {key: str(file.parent / scene[key]) for key in ("scene", "labels")}
    split = config["split"] | {"test": list(held_back)}
    out = file.parent / f"model-{seed}-{held_back[0]}"
    trained = earthloom.train(config | {"split": split, "seed": seed, "seeds": 1}, out=out)
    module = registry.build(trained.card).eval()
    weights.load_into(module, out / weights.FILE, trained.card.weights or "")
    return lambda values: labels_of(module, values, 1.0, trained.card)


def accuracy(counts: NDArray[np.int64]) -> float:
    """Share of the counted that is right."""
    return float(np.trace(counts) / counts.sum())


def f1(counts: NDArray[np.int64], value: int) -> float:
    """Of one class: 2 true / (found + there)."""
    return float(2 * counts[value, value] / (counts[value].sum() + counts[:, value].sum()))
