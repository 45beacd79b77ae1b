"""Several scenes of one day become one layer: which scene a pixel is taken from. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.cube.sources import Source
from earthloom.tiling.writing.zarr_sink import Layer

S = TypeVar("S", bound=Source)


def in_order(sources: Iterable[S], overlap: str | Sequence[str]) -> tuple[S, ...]:
    """Scenes with the one that wins a tie first: by the list's patterns, then the latest, then by prefix.

    Args:
        overlap: `confident`, `latest`, or patterns of scene ids by priority (`LC09*`); ids that fit none come last.
    """
    patterns = () if isinstance(overlap, str) else tuple(overlap)

    def rank(source: S) -> int:
        fits = (number for number, pattern in enumerate(patterns) if fnmatchcase(source.scene_id, pattern))
        return next(fits, len(patterns))

    by_prefix = sorted(sources, key=lambda source: source.prefix)
    latest = sorted(by_prefix, key=lambda source: source.taken, reverse=True)  # sorting is stable, also in reverse
    return tuple(sorted(latest, key=rank))


def merge(
    scenes: Iterable[tuple[Mapping[str, NDArray[Any]], NDArray[np.bool_]]], layers: Sequence[Layer],
    shape: tuple[int, int], *, by: str | None,
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """One value per pixel and layer, all layers of a pixel from one scene.

    Args:
        scenes: (h, w) by layer, and where they are valid, in the order in which ties are decided. One is held at a time.
        layers: layers of the result.
        shape: (h, w).
        by: layer whose largest value decides; None: the first valid scene.

    Returns:
        (h, w) by layer in the layer's dtype, nodata where no scene is valid.
    """
    merged: dict[str, NDArray[Any]] = {
        layer.name: np.full(shape, np.dtype(layer.dtype).type(layer.nodata)) for layer in layers
    }
    taken = np.zeros(shape, np.bool_)
    for values, valid in scenes:
        take = valid & ~taken
        if by is not None:
            take |= valid & taken & (values[by] > merged[by])
        for layer in layers:
            np.copyto(merged[layer.name], values[layer.name], where=take)
        taken |= valid
    return merged
