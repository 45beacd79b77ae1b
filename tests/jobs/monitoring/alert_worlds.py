"""Small worlds of changing pixels for tests of alerts, and what they should give: slow, plain Python, one pixel at a time."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from earthloom.jobs.monitoring.alerts.components import join_pieces
from earthloom.jobs.monitoring.alerts.lives import Ledger, Naming, follow
from earthloom.jobs.monitoring.alerts.pieces import Pieces, area_unit_m2, describe, find, pixel_area_units
from earthloom.jobs.monitoring.alerts.pixels import AFTER, BEFORE, NOTHING, OTHER, Observation, PixelStates, advance
from earthloom.jobs.monitoring.alerts.rule import Rule
from earthloom.tiling.grid import Grid

NAMING = Naming(identity={"rule": "of a test"})
Pixel = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is seen on some days, and the rule that it is seen under."""

    seen: NDArray[np.uint8]
    """(T, h, w): codes of `alerts.pixels`."""
    confidence: NDArray[np.uint8]
    """(T, h, w), 0 to 250."""
    days: tuple[int, ...]
    rule: Rule

    @property
    def grid(self) -> Grid:
        height, width = self.seen.shape[1:]
        return Grid(crs="EPSG:32718", transform=(30.0, 0, 500_000.0, 0, -30.0, 9_100_000.0), width=width, height=height)


def rules() -> st.SearchStrategy[Rule]:
    return st.builds(
        Rule, name=st.just("test"), before=st.just("land"), after=st.just("water"), confirmations=st.integers(1, 3),
        closing=st.integers(0, 3), settling=st.sampled_from([0, 0, 3, 4]), min_area_m2=st.sampled_from([0.0, 1800.0, 4000.0]),
    )  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn, *, side_px: int = 18, most_days: int = 7) -> World:
    """Blobs that come, move and go, with specks and gaps: so that alerts grow, shrink, meet, fall apart and end."""
    height, width = draw(st.integers(1, side_px)), draw(st.integers(1, side_px))
    days = tuple(sorted(draw(st.sets(st.integers(-3000, 21_000), min_size=1, max_size=most_days))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    wet = draw(st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.7]), min_size=len(days), max_size=len(days)))
    lost, strange = draw(st.sampled_from([0.0, 0.1, 0.4])), draw(st.sampled_from([0.0, 0.05]))
    slow = draw(st.sampled_from([0.0, 0.5, 0.9]))
    seen = np.full((len(days), height, width), BEFORE, np.uint8)
    field = rng.random((height, width))
    for step in range(len(days)):
        field = np.where(rng.random(field.shape) < slow, field, rng.random(field.shape))
        smooth = field + np.roll(field, 1, 0) + np.roll(field, 1, 1) if draw(st.booleans()) else 3 * field
        if step or draw(st.booleans()):
            seen[step][smooth < 3 * wet[step]] = AFTER
        seen[step][rng.random(field.shape) < strange] = OTHER
        seen[step][rng.random(field.shape) < lost] = NOTHING
    confidence = rng.integers(0, 251, seen.shape).astype(np.uint8)
    return World(seen=seen, confidence=confidence, days=days, rule=draw(rules()))


@functools.cache
def _areas(grid: Grid) -> tuple[NDArray[np.int64], float]:
    """Areas of all pixels, and the unit that they are in."""
    return pixel_area_units(grid, grid.window), area_unit_m2(grid)


def run(world: World, tile_px: int, *, stored: bool = False) -> Iterator[tuple[Ledger, tuple[int, ...]]]:
    """The ledger after each day and which alerts changed, with the grid cut into tiles.

    Args:
        stored: send all pieces through bytes.
    """
    whole, (areas, unit) = world.grid.window, _areas(world.grid)
    min_area = world.rule.min_area_m2 / unit
    tiles = {(tile.row_off // tile_px, tile.col_off // tile_px): tile for tile in whole.split(tile_px)}
    states = {shard: PixelStates.idle(tile.shape) for shard, tile in tiles.items()}
    tracked = {shard: np.zeros(tile.shape, np.bool_) for shard, tile in tiles.items()}
    ledger = Ledger()
    for step, day in enumerate(world.days):
        pieces: dict[tuple[int, int], Pieces] = {}
        for shard, tile in tiles.items():
            part = tile.slices(whole)
            seen = Observation(seen=world.seen[step][part], confidence=world.confidence[step][part])
            advance(states[shard], seen, day, world.rule)
            runs = find(states[shard], tracked[shard], areas[part], tile, whole, min_area)
            found, tracked[shard] = describe(runs, states[shard], tracked[shard], areas[part], tile, whole)
            pieces[shard] = Pieces.decode(found.encode(), "a test") if stored else found
        ledger, changed = follow(ledger, join_pieces(pieces, ledger.pieces), day, min_area, world.rule.settling, NAMING)
        yield ledger, changed


@dataclass(slots=True)
class SlowPixel:
    """A pixel's life, told one observation at a time."""

    last_seen: str = "nothing"
    to_days: tuple[tuple[int, int], ...] = ()
    """(day, confidence) of each observation of the change since it began."""
    confirmed: bool = False
    misses: int = 0

    def see(self, code: int, confidence: int, day: int, rule: Rule) -> None:
        if rule.settling and len(self.to_days) >= rule.settling:
            self.to_days, self.confirmed, self.misses = (), False, 0
        if code == NOTHING:
            return
        if code == AFTER:
            if self.to_days or self.last_seen == "before":
                self.to_days += ((day, confidence),)
                self.misses = 0
                self.confirmed = self.confirmed or len(self.to_days) >= rule.confirmations
        elif self.to_days:
            self.misses += 1
            if not self.confirmed or self.misses == rule.closing:
                self.to_days, self.confirmed, self.misses = (), False, 0
        self.last_seen = {BEFORE: "before", AFTER: "after", OTHER: "other"}[code]


def slow_pixels(world: World) -> Iterator[dict[Pixel, SlowPixel]]:
    """All pixels after each day; the same objects each time."""
    height, width = world.grid.shape
    pixels = {(row, col): SlowPixel() for row in range(height) for col in range(width)}
    for step, day in enumerate(world.days):
        for (row, col), pixel in pixels.items():
            pixel.see(int(world.seen[step, row, col]), int(world.confidence[step, row, col]), day, world.rule)
        yield pixels


def slow_components(active: set[Pixel]) -> list[set[Pixel]]:
    """Sets of pixels that are connected to their eight neighbours, by flooding, in the order of their first pixels."""
    left, found = set(active), []
    for seed in sorted(active):
        if seed not in left:
            continue
        part, front = {seed}, [seed]
        left.discard(seed)
        while front:
            row, col = front.pop()
            for near in ((row + i, col + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
                if near in left:
                    left.discard(near)
                    part.add(near)
                    front.append(near)
        found.append(part)
    return found


def slow_alerts(world: World) -> Iterator[dict[str, dict[str, Any]]]:
    """What `run` should say after each day: alerts by id, told with sets of pixels on the whole grid."""
    areas, unit = _areas(world.grid)
    least = world.rule.min_area_m2 / unit
    alerts: dict[str, dict[str, Any]] = {}
    for day, pixels in zip(world.days, slow_pixels(world), strict=True):
        parts = slow_components({place for place, pixel in pixels.items() if pixel.to_days})
        size = [sum(int(areas[place]) for place in part) for part in parts]
        living = sorted((one for one in alerts.values() if not one["over"]), key=_seniority)
        taken: dict[int, str] = {}
        for alert in living:
            shared = {number: len(part & alert["pixels"]) for number, part in enumerate(parts)}
            best = max(shared, key=lambda number: (shared[number], size[number], -number), default=None)
            if best is None or not shared[best]:
                alert["over"] = day
            elif best in taken:
                alert["over"], alert["merged_into"] = day, taken[best]
            else:
                taken[best] = alert["id"]
        for number, part in enumerate(parts):
            if number not in taken and size[number] >= least:
                parent = next((alert for alert in living if part & alert["pixels"]), None)
                name = NAMING.id(day, *min(part))
                alerts[name] = {
                    "id": name, "born": day, "first_pixel": min(part), "split_from": parent and parent["id"],
                    "confirmed": None, "parent_confirmed": parent and parent["confirmed"], "over": None,
                    "merged_into": None, "first": day, "last": day, "grown": day, "count": 0, "largest": 0,
                }  # fmt: skip
                taken[number] = name
        for number, name in taken.items():
            _measure(alerts[name], parts[number], size[number], pixels, areas, least, day)
        yield {name: dict(alert) for name, alert in alerts.items()}


def _seniority(alert: dict[str, Any]) -> tuple[int, int, Pixel]:
    return alert["born"], -alert["area"], alert["first_pixel"]


def _measure(
    alert: dict[str, Any], part: set[Pixel], size: int, pixels: dict[Pixel, SlowPixel], areas: NDArray[np.int64],
    least: float, day: int,
) -> None:  # fmt: skip
    seen = [pixels[place].to_days for place in part]
    confirmed = sum(int(areas[place]) for place in part if pixels[place].confirmed)
    alert["pixels"], alert["area"] = part, size
    alert["first"] = min([alert["first"], *(days[0][0] for days in seen)])
    alert["last"] = max([alert["last"] if alert["count"] else seen[0][-1][0], *(days[-1][0] for days in seen)])
    if confirmed >= max(least, 1) and alert["confirmed"] is None:
        alert["confirmed"] = day
        if alert["born"] == day and alert["parent_confirmed"] is not None:
            alert["confirmed"] = sorted([alert["first"], alert["parent_confirmed"], alert["last"]])[1]
    alert["grown"] = max([alert["grown"] if alert["count"] else seen[0][0][0], *(days[0][0] for days in seen)])
    alert["count"] = max([alert["count"], *map(len, seen)])
    alert["observations"] = sum(map(len, seen))
    alert["confidence"] = sum(confidence for days in seen for _, confidence in days)
    if size >= alert["largest"]:
        alert["largest"], alert["largest_pixels"] = size, part
        alert["largest_observations"], alert["largest_confidence"] = alert["observations"], alert["confidence"]
