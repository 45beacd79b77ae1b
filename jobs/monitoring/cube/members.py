"""The committed results that make each step of a cube: a pure function of the catalogue, the grid and the AOI file's rules.

Reads the table of a product's items; opens no raster. What is left out is said, with the reason.
"""

from __future__ import annotations

import datetime
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from earthloom.jobs.config import parse_names
from earthloom.jobs.intake.deliveries import Delivery, delivery
from earthloom.jobs.monitoring.cube.cube import ClassInfo, Step
from earthloom.jobs.monitoring.cube.overlap import in_order
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
_AS_MUCH = 0.99  # share of what another result shows; footprints are drawn to a metre, and grids differ by a pixel
_EQUAL_AREA = "EPSG:6933"  # cylindrical, on the ellipsoid of WGS 84: parallels and meridians stay straight


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The content that a cube should have."""

    steps: tuple[Step, ...]
    layers: tuple[Layer, ...] = ()
    classes: tuple[ClassInfo, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    """Sources by prefix, masks too."""
    notes: tuple[str, ...] = ()
    """Results that were left out, with the reasons."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Result:
    """A result that may count."""

    source: Source
    outline: Any
    """Outline of its grid, in longitude and latitude (shapely)."""
    known_m2: float
    """Ground that has a class, nobody knows where within the outline; infinite where its item does not say."""
    way: str
    """Models and options by which it was made."""

    def shown_m2(self, ground: Any) -> float:
        """An upper bound of how much it shows of some ground, in m2."""
        return min(_area_m2(self.outline.intersection(ground)), self.known_m2)


class Mask(BaseModel):
    """`mask` of a product in an AOI file: where another product of the same scene has one of these classes there is no data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    product: str
    classes: Annotated[tuple[str, ...], BeforeValidator(parse_names), Field(min_length=1)]


def wanted(
    store: Store, product: str, grid: Grid, *, mask: Mask | None = None, until: datetime.date | None = None,
    preferred: Collection[str] = (), outline: str | None = None,
) -> Wanted:  # fmt: skip
    """The steps that the committed results of a product make on a grid.

    A result is a member if it is in the product's table, dated, not later than `until` and on the grid's ground; with a
    mask, if its scene has a result of that product too. Of several results of one scene the preferred one counts, else, of
    those that show most of the ground, one that was made by the same models and options as preferred ones, else the one that
    was committed last. Of several deliveries of one acquisition the latest
    processing counts, preferred ones before others, where it shows as much of the ground.

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
    found, masks = _members(store, product, ground, grid, mask=mask, until=until, preferred=preferred, notes=notes)
    if not found:
        return Wanted(steps=(), notes=tuple(notes))
    check_alike(product, found)
    notes += _several_models(product, found)
    days: dict[datetime.date, list[Source]] = {}
    for source in found:
        days.setdefault(source.date, []).append(source)
    steps = tuple(
        Step(
            date=day, scenes=tuple(source.prefix for source in in_order(members, "latest")),
            masks=tuple(sorted(masks[source.scene_id].prefix for source in members)) if mask else (),
        )
        for day, members in sorted(days.items())
    )  # fmt: skip
    last = max(found, key=lambda source: (source.taken, source.prefix))
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
    store: Store, product: str, ground: Any, grid: Grid, *, mask: Mask | None, until: datetime.date | None,
    preferred: Collection[str], notes: list[str],
) -> tuple[list[Source], dict[str, Source]]:  # fmt: skip
    """The results that count, in the order of their scenes, and the masks by scene.

    What cannot be used goes first, the result without a mask too, so that it takes the place of nothing that can be used.
    Results of a scene come before deliveries of an acquisition, for a delivery shows what the result that counts shows.
    """
    usable = _usable(store, product, ground, grid, until=until, notes=notes)
    masks: dict[str, Source] = {}
    if mask is not None:
        of_masks = _usable(store, mask.product, ground, grid, until=until, notes=[])
        masks = {result.source.scene_id: result.source for result in _one_of_scene(store, of_masks, preferred, ground)}
        mask_values(masks.values(), mask)
        if without := [result.source.scene_id for result in usable if result.source.scene_id not in masks]:
            notes.append(
                f"{_named(without)} left out, which {mask.product} has not mapped: nothing says where clouds are"
            )
        usable = [result for result in usable if result.source.scene_id in masks]
    of_scenes = _one_of_scene(store, usable, preferred, ground)
    of_acquisitions = _latest_deliveries(of_scenes, preferred, ground, notes)
    return [result.source for result in of_acquisitions], masks


def _usable(
    store: Store, product: str, ground: Any, grid: Grid, *, until: datetime.date | None, notes: list[str]
) -> list[_Result]:
    """Results on the ground that are dated, not too late and not too fine."""
    from shapely.geometry import shape

    try:
        items = read_items(store.get(f"collections/{product}/items.parquet"))
    except MissingObjectError:
        return []
    undated: list[str] = []
    too_fine: list[str] = []
    results: list[_Result] = []
    gsd_m = grid.gsd_m()
    for item in items:
        outline = shape(item["geometry"])
        if not _overlap(ground, outline):
            continue
        properties = item["properties"]
        source = source_of(item, _prefix(item))
        if source is None:
            undated.append(str(properties["earthloom:scene"]))
        elif until is not None and source.date > until:
            pass
        elif piece_bytes(source, gsd_m / float(properties["gsd"])) > PIECE_BYTES:
            too_fine.append(source.scene_id)
        else:
            areas = properties.get("earthloom:class_areas")
            known_m2 = math.fsum(float(area["area_m2"]) for area in areas) if areas else math.inf
            way = json.dumps(
                [properties.get("earthloom:card_sha256"), properties.get("earthloom:settings")], sort_keys=True
            )
            results.append(_Result(source=source, outline=outline, known_m2=known_m2, way=way))
    if undated:
        notes.append(
            f"{_named(undated)} left out: nobody knows when they were taken; run them again with `datetime` or `date_pattern`"
        )
    if too_fine:
        notes.append(
            f"{_named(too_fine)} left out: their pixels are so much finer than the grid's {gsd_m:.3g} m that a worker "
            "could not hold those under a piece of it; give a finer gsd"
        )
    return results


def _one_of_scene(store: Store, results: Iterable[_Result], preferred: Collection[str], ground: Any) -> list[_Result]:
    """One result of each scene, in the order of their names: a preferred one, else any. A map of a part of the area, as `onto`
    makes one, never takes the place of one that shows more of it. Of those that show as much, one that was made like
    preferred ones counts before others: a run need not name all scenes again."""
    by_scene: dict[str, list[_Result]] = {}
    ways: set[str] = set()
    for result in results:
        by_scene.setdefault(result.source.scene_id, []).append(result)
        if result.source.prefix in preferred:
            ways.add(result.way)
    chosen: list[_Result] = []
    for _, of_scene in sorted(by_scene.items()):
        some = [result for result in of_scene if result.source.prefix in preferred] or of_scene
        if len(some) > 1:
            shown = [result.shown_m2(ground) for result in some]
            some = [result for result, area in zip(some, shown, strict=True) if area >= _AS_MUCH * max(shown)]
            some = [result for result in some if result.way in ways] or some
            some.sort(key=lambda it: (committed_s(store, it.source.prefix) or -math.inf, it.source.prefix))
        chosen.append(some[-1])
    return chosen


def _latest_deliveries(
    results: Sequence[_Result], preferred: Collection[str], ground: Any, notes: list[str]
) -> list[_Result]:
    """Without deliveries of which later ones show as much; one of the file's own run gives way to none of another's."""
    by_acquisition: dict[str, list[tuple[Delivery, _Result]]] = {}
    for result in results:
        if parsed := delivery(result.source.scene_id):
            by_acquisition.setdefault(parsed.acquisition, []).append((parsed, result))

    def rank(parsed: Delivery, result: _Result) -> tuple[bool, tuple[str, ...]]:
        return result.source.prefix in preferred, parsed.processing

    left_out: dict[str, dict[str, str]] = {"a later delivery": {}, "the own run's delivery": {}}
    for several in by_acquisition.values():
        for parsed, result in several:
            others = [pair for pair in several if _overlap(pair[1].outline, result.outline)]
            alike = [pair for pair in others if pair[0].processing == parsed.processing]
            better = [
                pair
                for pair in others
                if pair[0].processing != parsed.processing and rank(*pair) > rank(parsed, result)
            ]
            if better and _show_as_much(better, result, alike, ground):
                best_parsed, best = max(better, key=lambda pair: (rank(*pair), pair[1].source.scene_id))
                why = "a later delivery" if best_parsed.processing > parsed.processing else "the own run's delivery"
                left_out[why][result.source.scene_id] = best.source.scene_id
    for why, names in left_out.items():
        if names:
            notes.append(
                f"{_named(list(names))} left out, which {why} of the same acquisition replaces ({next(iter(names.values()))})"
            )
    return [result for result in results if not any(result.source.scene_id in names for names in left_out.values())]


def _show_as_much(
    better: Sequence[tuple[Delivery, _Result]], result: _Result, alike: Sequence[tuple[Delivery, _Result]], ground: Any
) -> bool:
    """True if deliveries together show as much of the ground as one does.

    The pieces of a Sentinel-2 tile all have the outline of the tile. Nobody knows which of them shows the ground, so they
    (`alike`, with the one) are held against the others together and on all of the tile.
    """
    from shapely import union_all

    pieces = {parsed.piece for parsed, _ in alike}
    within = result.outline if len(pieces) > 1 else result.outline.intersection(ground)
    together = within.intersection(union_all([other.outline for _, other in better]))
    shown_m2 = min(_area_m2(within), _known_m2(alike))
    return min(_area_m2(together), _known_m2(better)) >= _AS_MUCH * shown_m2


def _known_m2(deliveries: Iterable[tuple[Delivery, _Result]]) -> float:
    """Ground with a class in deliveries of one acquisition: pieces add up, copies and processings show the same ground."""
    known: dict[tuple[str, ...], dict[str, float]] = {}
    for parsed, result in deliveries:
        pieces = known.setdefault(parsed.processing, {})
        pieces[parsed.piece] = max(result.known_m2, pieces.get(parsed.piece, 0.0))
    return max(math.fsum(pieces.values()) for pieces in known.values())


def _overlap(shape: Any, other: Any) -> bool:
    return bool(shape.intersects(other) and not shape.touches(other))


def _area_m2(shape: Any) -> float:
    """Area of a shape in longitude and latitude, on the ellipsoid."""
    import shapely
    from pyproj import Transformer

    onto = Transformer.from_crs("EPSG:4326", _EQUAL_AREA, always_xy=True)
    return float(shapely.transform(shape, lambda points: np.column_stack(onto.transform(*points.T))).area)


def _several_models(product: str, members: Sequence[Source]) -> list[str]:
    """A note, where dates are by several models or versions of one: what changes between them may be theirs."""
    by = Counter(source.model for source in members)
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
    """Bytes of a result under one piece of a warp (`tiling.resampling`) onto pixels `ratio` times as wide."""
    per_px = max(sum(np.dtype(layer.dtype).itemsize for layer in raster.layers) for raster in source.rasters)
    return PIECE_PX * max(ratio, 1.0) ** 2 * per_px


def _named(names: Sequence[str]) -> str:
    given = sorted(set(names))
    more = f" and {len(given) - _NAMED} more" if len(given) > _NAMED else ""
    return f"{', '.join(given[:_NAMED])}{more} {'is' if len(given) == 1 else 'are'}"
