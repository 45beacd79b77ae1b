"""Recipes whose data may not be passed on as weights: trained here by their files, judged by their test part, thrown away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import earthloom
from earthloom.tiling.errors import MissingObjectError
from infra.recipes.__main__ import lay_out
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


def accuracy(counts: NDArray[np.int64]) -> float:
    """Share of the counted that is right."""
    return float(np.trace(counts) / counts.sum())


def f1(counts: NDArray[np.int64], value: int) -> float:
    """Of one class: 2 true / (found + there)."""
    return float(2 * counts[value, value] / (counts[value].sum() + counts[:, value].sum()))
