"""Reads areas from GeoJSON (RFC 7946): its Feature, and rings in longitude and latitude. Knows nothing of grids."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.errors import ConfigError

_POINTS_PER_EDGE = 64
_STEP_DEG = 0.25
"""Most degrees between points of an edge: on a polar map the parallel of 60 degrees then strays 8 m from its chords."""


def feature_of(data: bytes, name: str) -> Mapping[str, Any]:
    """The Feature of a GeoJSON file, which may be the only one of a FeatureCollection.

    Args:
        data: the file.
        name: name of the file, for messages.

    Raises:
        ConfigError: if it is no such file.
    """
    document = _json(data, name)
    kind = document.get("type") if isinstance(document, Mapping) else None
    if isinstance(document, Mapping) and kind == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list) or len(features) != 1:
            n = len(features) if isinstance(features, list) else 0
            raise ConfigError(
                f"{name} holds {n} areas; a run has one grid: leave one in it, or make a MultiPolygon of them"
            )
        document = features[0]
        kind = document.get("type") if isinstance(document, Mapping) else None
    if not isinstance(document, Mapping) or kind != "Feature":
        raise ConfigError(
            f"{name} holds a GeoJSON {str(kind)[:40]!r}, not a Feature; an area is a Feature with a polygon and the "
            "properties crs and gsd"
        )
    return document


def outer_rings(coordinates: object, kind: str) -> Iterator[NDArray[np.float64]]:
    """Outer rings (n, 2) of the coordinates of a geometry whose type, `kind`, is Polygon or MultiPolygon.

    Raises:
        ConfigError: if they are not made of closed rings of pairs of finite numbers.
    """
    polygons = coordinates if kind == "MultiPolygon" else [coordinates]
    for polygon in polygons if isinstance(polygons, list) else []:
        try:
            ring = np.array([[float(x), float(y)] for x, y, *_ in polygon[0]])
        except (TypeError, ValueError, IndexError, KeyError):
            raise ConfigError("its polygon is not made of rings of (longitude, latitude) pairs") from None
        if len(ring) < 4 or not np.isfinite(ring).all():
            raise ConfigError(
                f"a ring of its polygon has {len(ring)} points; a closed ring has 4 or more, all of them finite"
            )
        yield ring


def densified(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (m, 2) along the edges of a ring (n, 2) of longitudes and latitudes, so close that the edges, which are straight
    in these, may become curves. The last point, which is the first, is left out; a ring that was left open is closed."""
    if (ring[0] != ring[-1]).any():
        ring = np.vstack([ring, ring[:1]])
    start, end = ring[:-1], ring[1:]
    steps = np.maximum(_POINTS_PER_EDGE, np.ceil(np.abs(end - start).max(axis=1) / _STEP_DEG).astype(int))
    edge = np.repeat(np.arange(len(steps)), steps)
    share = (np.arange(len(edge)) - np.repeat(np.cumsum(steps) - steps, steps)) / steps[edge]
    return np.asarray(start[edge] * (1 - share[:, None]) + end[edge] * share[:, None])


def _json(data: bytes, name: str) -> object:
    try:
        document: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not JSON: {str(error)[:80]}") from None
    return document
