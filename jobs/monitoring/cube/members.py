"""Which committed results make which step of a cube: a pure function of the catalogue, the grid and the AOI file's rules.

Reads the table of a product's items; opens no raster. What is left out is said, with the reason.
"""

from __future__ import annotations

import datetime
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from earthloom.jobs.intake.deliveries import delivered_again
from earthloom.jobs.monitoring.cube.cube import ClassInfo, Step
from earthloom.jobs.monitoring.cube.sources import Source, check_alike, cube_layers, source_of
from earthloom.jobs.products.item_table import read_items
from earthloom.jobs.records.result import committed_s
from earthloom.tiling.errors import ConfigError, MissingObjectError
from earthloom.tiling.footprint import footprint
from earthloom.tiling.grid import Grid
from earthloom.tiling.resampling import PIECE_BYTES, PIECE_PX
from earthloom.tiling.storage.store import Store
from earthloom.tiling.writing.zarr_sink import Layer

_NAMED = 5
_AS_MUCH = 0.99  # of the area that the result shows which shows most of it; footprints are drawn to a metre


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a cube should hold."""

    steps: tuple[Step, ...]
    layers: tuple[Layer, ...] = ()
    classes: tuple[ClassInfo, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    """By prefix, masks too."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Another product whose classes take pixels away."""

    product: str
    classes: tuple[str, ...]


def wanted(
    store: Store, product: str, grid: Grid, *, mask: Mask | None = None, until: datetime.date | None = None,
    preferred: Collection[str] = (), outline: str | None = None,
) -> Wanted:  # fmt: skip
    """The steps that the committed results of a product make on a grid.

    A result is a member if it is in the product's table, dated, not later than `until` and on the grid's ground; with a
    mask, if its scene has a result of that product too. Of several results of one scene the preferred one counts, else, of
    those that show most of the ground, the one that was committed last.

    Args:
        store: on OUT.
        product: as `collections/` has it.
        until: last day.
        preferred: prefixes of results that the product's own run stands for.
        outline: GeoJSON of the area, if it is less than the grid.

    Raises:
        PublishError: if the members do not have the same layers and classes, or an item is not one of ours.
    """
    notes: list[str] = []
    ground = _ground(grid, outline)
    found = _once(_members(store, product, ground, grid, until=until, preferred=preferred, notes=notes), notes)
    masks: dict[str, Source] = {}
    if mask is not None:
        masks = {
            source.scene_id: source
            for source in _members(store, mask.product, ground, grid, until=until, preferred=preferred, notes=[])
        }
        mask_values(masks.values(), mask)
        if without := [source.scene_id for source in found if source.scene_id not in masks]:
            notes.append(
                f"{_named(without)} left out, which {mask.product} has not mapped: nothing says where clouds are"
            )
        found = [source for source in found if source.scene_id in masks]
    if not found:
        return Wanted(steps=(), notes=tuple(notes))
    check_alike(product, found)
    notes += _several_models(product, found)
    days: dict[datetime.date, list[Source]] = {}
    for source in found:
        days.setdefault(source.date, []).append(source)
    steps = tuple(
        Step(
            date=day, scenes=tuple(sorted(source.prefix for source in members)),
            masks=tuple(sorted(masks[source.scene_id].prefix for source in members)) if mask else (),
        )
        for day, members in sorted(days.items())
    )  # fmt: skip
    last = max(found, key=lambda source: (source.moment, source.prefix))
    sources = {source.prefix: source for source in (*found, *masks.values())}
    return Wanted(
        steps=steps, layers=cube_layers(product, last), classes=last.classes, sources=sources, notes=tuple(notes)
    )


def mask_values(masks: Iterable[Source], mask: Mask) -> tuple[int, ...]:
    """Class values that take pixels away.

    Raises:
        ConfigError: if the masks have no such class.
    """
    values: tuple[int, ...] = ()
    for source in masks:
        by_name = {entry.name: entry.value for entry in source.classes}
        if unknown := [name for name in mask.classes if name not in by_name]:
            raise ConfigError(
                f"mask: {mask.product} has no class {unknown[0]!r}; it has {', '.join(by_name) or 'no classes'}"
            )
        values = tuple(sorted(by_name[name] for name in mask.classes))
    return values


def _members(
    store: Store, product: str, ground: Any, grid: Grid, *, until: datetime.date | None, preferred: Collection[str],
    notes: list[str],
) -> list[Source]:  # fmt: skip
    """One result of each scene, in the order of their scenes."""
    from shapely.geometry import shape

    try:
        items = read_items(store.get(f"collections/{product}/items.parquet"))
    except MissingObjectError:
        return []
    undated: list[str] = []
    too_fine: list[str] = []
    by_scene: dict[str, list[tuple[Source, Any]]] = {}
    gsd_m = grid.gsd_m()
    for item in items:
        here = shape(item["geometry"])
        if not ground.intersects(here) or ground.touches(here):
            continue
        prefix = _prefix(item)
        source = source_of(item, prefix)
        scene_id = str(item["properties"]["earthloom:scene"])
        if source is None:
            undated.append(scene_id)
        elif until is not None and source.date > until:
            pass
        elif piece_bytes(source, gsd_m / float(item["properties"]["gsd"])) > PIECE_BYTES:
            too_fine.append(scene_id)
        else:
            by_scene.setdefault(scene_id, []).append((source, here))
    if undated:
        notes.append(
            f"{_named(undated)} left out: nobody knows when they were taken; run them again with `datetime` or `date_pattern`"
        )
    if too_fine:
        notes.append(
            f"{_named(too_fine)} left out: their pixels are so much finer than the grid's {gsd_m:.3g} m that a worker "
            "could not hold those under a piece of it; give a finer gsd"
        )
    return [_chosen(store, results, preferred, ground) for _, results in sorted(by_scene.items())]


def _once(found: Sequence[Source], notes: list[str]) -> list[Source]:
    """Without scenes of which another one is a later processing."""
    again = delivered_again(source.scene_id for source in found)
    if again:
        later = next(iter(again.values()))
        notes.append(
            f"{_named(list(again))} left out, which a later delivery of the same acquisition replaces ({later})"
        )
    return [source for source in found if source.scene_id not in again]


def _chosen(store: Store, results: Sequence[tuple[Source, Any]], preferred: Collection[str], ground: Any) -> Source:
    """One of several results of a scene, each given with its footprint: a map of a part of it, as `onto` makes one, never takes
    the place of one that shows more of the area."""
    some = [one for one in results if one[0].prefix in preferred] or list(results)
    if len(some) == 1:
        return some[0][0]
    shown = [ground.intersection(here).area for _, here in some]
    whole = [source for (source, _), area in zip(some, shown, strict=True) if area >= _AS_MUCH * max(shown)]
    return max(whole, key=lambda one: (committed_s(store, one.prefix) or -math.inf, one.prefix))


def _several_models(product: str, found: Sequence[Source]) -> list[str]:
    """A note, where dates are by several models or versions of one: what changes between them may be theirs."""
    by = Counter(source.model for source in found)
    if len(by) < 2:
        return []
    named = ", ".join(f"{model} ({n})" for model, n in sorted(by.items()))
    return [
        f"the maps of {product} are by several models: {named}; where dates of two of them follow each other, a change may "
        "be the models'. Map the older scenes again to have one"
    ]


def _ground(grid: Grid, outline: str | None) -> Any:
    """The area in longitude and latitude, prepared for many comparisons; an outline that crosses itself is mended, by the same
    rule as `tiling.outline` has."""
    from shapely import make_valid, prepare
    from shapely.geometry import shape

    ground = make_valid(shape(json.loads(outline) if outline else footprint(grid)[0]))
    prepare(ground)
    return ground


def _prefix(item: Mapping[str, Any]) -> str:
    properties = item["properties"]
    return f"scenes/{properties['earthloom:scene']}/{properties['earthloom:key']}"


def piece_bytes(source: Source, ratio: float) -> float:
    """Of a result under one piece of a warp onto a grid whose pixels are `ratio` times as wide (`tiling.resampling`)."""
    per_px = max(sum(np.dtype(layer.dtype).itemsize for layer in raster.layers) for raster in source.rasters)
    return PIECE_PX * max(ratio, 1.0) ** 2 * per_px


def _named(names: Sequence[str]) -> str:
    given = sorted(set(names))
    more = f" and {len(given) - _NAMED} more" if len(given) > _NAMED else ""
    return f"{', '.join(given[:_NAMED])}{more} {'is' if len(given) == 1 else 'are'}"
