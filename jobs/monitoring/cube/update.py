"""Bringing one cube up to date: what is missing is claimed, computed by workers, committed, and shown to readers.

Any number of writers may do this at once, and any of them may be killed: each finishes what it finds claimed, and the
cube is the same in the end. It moves no pixel itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from earthloom.cluster.outcome import Failed
from earthloom.jobs.monitoring.cube.copies import CopyTask
from earthloom.jobs.monitoring.cube.cube import Cube, Step, grid_json
from earthloom.jobs.monitoring.cube.layers import LayerTask, Member
from earthloom.jobs.monitoring.cube.log import (
    Generation,
    advance_head,
    claim_steps,
    commit_steps,
    generation_prefix,
    newest_generation,
    read_generation,
    read_head,
)
from earthloom.jobs.monitoring.cube.marks import ShardMark, step_prefix, sum_document, sum_up, vouched
from earthloom.jobs.monitoring.cube.members import Mask, Wanted, mask_values, piece_bytes
from earthloom.jobs.monitoring.cube.overlap import in_order
from earthloom.jobs.monitoring.cube.sources import Source, source_at
from earthloom.jobs.monitoring.pool import Pool
from earthloom.jobs.monitoring.worker import MonitorTask
from earthloom.jobs.records.canonical import digest
from earthloom.tiling.errors import EarthloomError, StorageError
from earthloom.tiling.grid import Grid
from earthloom.tiling.resampling import pixel_ratio, reached
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window

CUBE_VERSION = 6
"""Raised whenever the same results would make other pixels, or other bytes of them."""

_TRIES = 30
_AT_ONCE = 8
_ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CubeRules:
    """Everything that decides what a cube holds, beside the committed results."""

    aoi: str
    product: str
    grid: Grid
    outline: str | None = None
    """GeoJSON of the area in longitude and latitude, outside of which a cube has no data; None: all of the grid."""
    shard_px: int
    overlap: str | tuple[str, ...]
    mask: Mask | None = None
    until: str | None = None
    """Last day, ISO."""

    def to_json(self) -> dict[str, Any]:
        return {
            "version": CUBE_VERSION, "product": self.product, "shard_px": self.shard_px, "overlap": self.overlap,
            "mask": {"product": self.mask.product, "classes": list(self.mask.classes)} if self.mask else None,
            "until": self.until, "outline": json.loads(self.outline) if self.outline else None,
            "grid": grid_json(self.grid),
        }  # fmt: skip

    @property
    def key(self) -> str:
        """sha256 over the rules, 64 hex digits; the name of the area is not among them."""
        return digest(self.to_json())

    @property
    def base(self) -> str:
        """Prefix under which the cube and all that is derived from it lie."""
        return f"monitors/{self.aoi}/{self.product}/{self.key[:16]}"


@dataclass(slots=True, kw_only=True)
class CubeUpdate:
    """The outcome of an update."""

    cube: Cube | None = None
    """The cube that readers see now; None if there is none."""
    generation: int = 0
    before: int = 0
    """Steps that readers saw before."""
    renewed: bool = False
    """True if a new generation was made, as a date lay between others or had changed."""
    failures: list[str] = field(default_factory=list)
    """Shards that could not be made, in words."""
    notes: tuple[str, ...] = ()


def update_cube(
    store: Store, pool: Pool, rules: CubeRules, want: Wanted, members: Callable[[], Wanted],
    on_shard: Callable[[int, int], None] = lambda _done, _all: None,
) -> CubeUpdate:  # fmt: skip
    """Let a cube hold what is wanted.

    Args:
        store: on OUT.
        want: what the catalogue said.
        members: reads the catalogue again, where the cube holds what was not wanted a moment ago.
        on_shard: called with the shards that are done, and all that have to be.

    Raises:
        StorageError: if the storage fails, or other writers win every time.
        EngineError: if there are no workers.
        PublishError, ConfigError: if results do not fit together.
    """
    outcome = CubeUpdate(generation=read_head(store, rules.base))
    if outcome.generation and (seen := read_generation(store, rules.base, outcome.generation)):
        outcome.cube, outcome.before = seen.cube, seen.committed
    agreed = _agree(store, rules, want, members)
    if isinstance(agreed, Wanted):
        outcome.notes = agreed.notes
        return outcome
    generation, want = agreed
    outcome.notes = want.notes
    generation, outcome.failures = _Finishing(store, pool, rules, generation, want, on_shard).run()
    whole = generation.committed == len(generation.steps)
    if whole or generation.number == outcome.generation or (generation.committed and not outcome.generation):
        advance_head(store, rules.base, generation.number, {"key": rules.key, "rules": rules.to_json()})
        outcome.renewed = 0 < outcome.generation < generation.number
        outcome.cube, outcome.generation = generation.cube, generation.number
    return outcome


def _agree(
    store: Store, rules: CubeRules, want: Wanted, members: Callable[[], Wanted]
) -> tuple[Generation, Wanted] | Wanted:
    """A generation whose log says what is wanted, and what that is; only the latter where nothing is."""
    for _ in range(_TRIES):
        newest = newest_generation(store, rules.base)
        if not _fits(newest, want, rules):
            want = members()  # after the log was read: whoever wrote it knew no more than the catalogue says now
        if not want.steps:
            return want
        template = _template(rules, want)
        if newest is not None and _fits(newest, want, rules):
            if len(newest.steps) == len(want.steps):
                return newest, want
            claim_steps(store, newest.prefix, len(newest.steps), want.steps[len(newest.steps) :], template)
        else:
            number = newest.number + 1 if newest else 1
            claim_steps(store, generation_prefix(rules.base, number), 0, want.steps, template)
    raise StorageError(f"{rules.base} was rewritten {_TRIES} times while it was being read; try again", transient=True)


def _fits(generation: Generation | None, want: Wanted, rules: CubeRules) -> bool:
    """True if a generation has only steps that are wanted, in the same order."""
    return (
        generation is not None
        and generation.steps == want.steps[: len(generation.steps)]
        and generation.template.to_json() == _template(rules, want).to_json()  # so that NaN equals itself
    )


def _template(rules: CubeRules, want: Wanted) -> Cube:
    return Cube(
        prefix="", grid=rules.grid, shard_px=rules.shard_px, layers=want.layers, classes=want.classes, steps=(),
        title=f"{rules.product} of {rules.aoi}",
    )  # fmt: skip


class _Finishing:
    """Makes and commits all claimed steps of one generation."""

    def __init__(
        self, store: Store, pool: Pool, rules: CubeRules, generation: Generation, want: Wanted,
        on_shard: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        self._store, self._pool, self._rules, self._want = store, pool, rules, want
        self._generation, self._on_shard = generation, on_shard
        self._layout = generation.template.layout
        self._n_classes = len(generation.template.classes)
        self._reach: dict[str, Window] = {}

    def run(self) -> tuple[Generation, list[str]]:
        """The generation as it is then, and which shards failed, in words."""
        generation = self._generation
        places = range(generation.committed, len(generation.steps))
        failures: dict[str, str] = {}
        done: dict[int, dict[tuple[int, int], ShardMark]] = {}
        older = self._older()
        for number in range(_ROUNDS):
            done = self._vouched(places)
            # a copy that did not succeed is computed instead
            tasks = [task for place in places for task in self._tasks(place, done[place], {} if number else older)]
            if not tasks:
                break
            failures = self._do(tasks)
            if failures and number:
                break
        finished = generation.committed
        while finished < len(generation.steps) and self._complete(finished, done.get(finished, {})):
            self._sum(finished, done[finished])
            finished += 1
        return commit_steps(self._store, generation, finished), list(failures.values())

    def _vouched(self, places: Sequence[int]) -> dict[int, dict[tuple[int, int], ShardMark]]:
        """The finished shards of these steps."""

        def look(place: int) -> dict[tuple[int, int], ShardMark]:
            return vouched(self._store, self._generation.prefix, self._layout, place)

        if len(places) < 2:
            return {place: look(place) for place in places}
        with ThreadPoolExecutor(_AT_ONCE, "steps") as pool:
            return dict(zip(places, pool.map(look, places), strict=True))

    def _do(self, tasks: Sequence[MonitorTask]) -> dict[str, str]:
        failures, n_done = {}, 0
        for outcome in self._pool.run(tasks):
            if isinstance(outcome, Failed):
                failures[outcome.key] = f"{outcome.key}: {outcome.error.message}"
            else:
                n_done += 1
                self._on_shard(n_done, len(tasks))
        return failures

    def _older(self) -> dict[Step, tuple[str, int]]:
        """Steps that another generation holds with the same pixels: its prefix and the step's place in it."""
        number = read_head(self._store, self._rules.base)
        if number in (0, self._generation.number):
            return {}
        try:
            held = read_generation(self._store, self._rules.base, number)
        except EarthloomError:  # damaged: what it holds is computed anew
            return {}
        if held is None or not _stored_alike(held.template, self._generation.template):
            return {}
        return {step: (held.prefix, place) for place, step in enumerate(held.steps[: held.committed])}

    def _tasks(
        self, place: int, done: dict[tuple[int, int], ShardMark], older: dict[Step, tuple[str, int]]
    ) -> Iterator[MonitorTask]:
        """The tasks for the missing shards of a step."""
        generation, step = self._generation, self._generation.steps[place]
        missing = [shard for shard in self._shards(step) if shard not in done]
        if missing and step in older:
            prefix, old_place = older[step]
            yield CopyTask(
                source=prefix, source_step=old_place, target=generation.prefix, target_step=place, layout=self._layout
            )
            return
        members = self._members(step) if missing else ()
        held_bytes = max((self._piece_bytes(member.source) for member in members), default=0)
        for row, col in missing:
            window = self._layout.shard_window(row, col)
            yield LayerTask(
                generation=generation.prefix, layout=self._layout, step=place, row=row, col=col,
                members=tuple(member for member in members if self._reached(member.source) & window),
                confident=self._rules.overlap == "confident", n_classes=self._n_classes, piece_bytes=held_bytes,
                outline=self._rules.outline,
            )  # fmt: skip

    def _members(self, step: Step) -> tuple[Member, ...]:
        """The scenes of a step in the order of the rule."""
        masks = {source.scene_id: source for source in map(self._source, step.masks)}
        ordered = in_order(map(self._source, step.scenes), self._rules.overlap)
        return tuple(self._member(source, masks.get(source.scene_id)) for source in ordered)

    def _member(self, source: Source, mask: Source | None) -> Member:
        """Masks of one product may have other legends, by versions of its model: each is read by its own."""
        rule = self._rules.mask
        return Member(source=source, mask=mask, masked=mask_values([mask], rule) if mask and rule else ())

    def _source(self, prefix: str) -> Source:
        return self._want.sources.get(prefix) or source_at(self._store, prefix)

    def _shards(self, step: Step) -> list[tuple[int, int]]:
        """(row, column) of the shards that any scene of a step reaches, row-major."""
        windows = [self._reached(self._source(prefix)) for prefix in step.scenes]
        rows, cols = self._layout.shard_grid
        return [
            (row, col)
            for row in range(rows)
            for col in range(cols)
            if any(window & self._layout.shard_window(row, col) for window in windows)
        ]

    def _reached(self, source: Source) -> Window:
        if source.prefix not in self._reach:
            self._reach[source.prefix] = reached(source.rasters[0].grid, self._layout.grid)
        return self._reach[source.prefix]

    def _piece_bytes(self, source: Source) -> int:
        return int(piece_bytes(source, pixel_ratio(source.rasters[0].grid, self._layout.grid)))

    def _complete(self, place: int, done: dict[tuple[int, int], ShardMark]) -> bool:
        return all(shard in done for shard in self._shards(self._generation.steps[place]))

    def _sum(self, place: int, done: dict[tuple[int, int], ShardMark]) -> None:
        """Write what a whole step holds."""
        wanted = set(self._shards(self._generation.steps[place]))
        rows, cols = self._layout.shard_grid
        empty = [(row, col) for row in range(rows) for col in range(cols) if (row, col) not in wanted]
        total = sum_up(self._layout, [done[shard] for shard in sorted(wanted)], self._n_classes, empty)
        document = sum_document(self._generation.steps[place], total)
        self._store.put(f"{step_prefix(self._generation.prefix, place)}.json", document)


def _stored_alike(cube: Cube, other: Cube) -> bool:
    """True if both store the same values in the same way, whatever their layers and classes are called in words."""

    def kind(cube: Cube) -> tuple[object, ...]:
        return (
            cube.grid, cube.shard_px, len(cube.classes),
            [(layer.name, layer.dtype, repr(layer.nodata)) for layer in cube.layers],
        )  # fmt: skip

    return kind(cube) == kind(other)
