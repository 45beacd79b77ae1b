"""The watcher: looks for scenes, hands those that are new to a run or to a monitor, and remembers what became of each.

State lies in OUT alone, so a watcher may be killed at any moment, on any machine, and another one goes on. What decides
what is mapped is the processed set; what decides that nothing is published twice are the commits of scenes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.execution.driver import run as run_scenes
from earthloom.jobs.execution.event import Event
from earthloom.jobs.intake.arrivals import Arrival, look, span_of
from earthloom.jobs.intake.references import SceneRequest
from earthloom.jobs.intake.scenes import assign_ids
from earthloom.jobs.monitoring.aoi_file import Area, ProductTable
from earthloom.jobs.monitoring.monitor import MonitorEvent, MonitorResult
from earthloom.jobs.monitoring.monitor import monitor as run_monitor
from earthloom.jobs.operations.notebook import Bad, Notebook, Remembered
from earthloom.jobs.operations.options import WatchConfig
from earthloom.jobs.operations.watched import Feed, Watched
from earthloom.jobs.records.lease import Lease, lease
from earthloom.tiling.errors import EarthloomError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.probe import probe_conditional_writes
from earthloom.tiling.storage.store import Store, open_store

INDEXING = timedelta(hours=1)
"""An API may show an item some time after the date that it gives it; so much of the past is asked for again."""
_STANDBY_S = 30.0


@dataclass(slots=True, kw_only=True)
class Seen:
    """What one look found, and what became of it."""

    found: int = 0
    known: int = 0
    """Done before, or bad and not due."""
    new: int = 0
    changed: int = 0
    """Number of new scenes that are other versions of known ones."""
    late: int = 0
    """Number of new scenes that were taken before the newest scene that was done."""
    retried: int = 0
    coming: int = 0
    """Left for the next look, as a file of theirs was written to a moment ago."""
    undated: int = 0
    """Left out of a span of days, as nothing says when they were taken."""
    published: list[str] = field(default_factory=list)
    """Ids, in order."""
    bad: list[Bad] = field(default_factory=list)
    unfinished: int = 0
    """Number of scenes that are neither published nor bad: the next look takes them again."""
    errors: list[str] = field(default_factory=list)
    """What kept a whole run, or a product's monitor, from its work."""
    newest: datetime | None = None
    """When the newest scene was taken that is done."""
    latencies_s: list[float] = field(default_factory=list)
    """Seconds from acquisition to publication, for each scene published now."""
    monitor: MonitorResult | None = None

    @property
    def lag_s(self) -> float | None:
        """Age of the newest scene that is done."""
        return (datetime.now(UTC) - self.newest).total_seconds() if self.newest else None

    @property
    def exit_code(self) -> int:
        """0 nothing new is bad · 1 nothing could be done · 3 something new is bad or undone."""
        if not (self.bad or self.errors or self.unfinished):
            return 0
        return 3 if self.published or self.bad else 1


class HeldError(EarthloomError):
    """Another watcher is at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Who hears of what, in the thread of the watcher; None: nobody."""

    on_due: Callable[[Seen, Sequence[Arrival]], None] | None = None
    """Called before anything is mapped: with the counts so far, and what will be mapped."""
    on_seen: Callable[[Seen], None] | None = None
    """Called after each look."""
    on_held: Callable[[HeldError], None] | None = None
    """While another watcher is at work."""
    on_scene: Callable[[Event], None] | None = None
    on_monitor: Callable[[MonitorEvent], None] | None = None


def watch(config: WatchConfig, watched: Watched, listeners: Listeners | None = None, *, dry: bool = False) -> Seen:
    """Look, map what is new, and again after `config.interval`, until the process is ended; or once.

    A look that fails is told and made again at the next turn. Where another watcher of the same thing lives, this one
    stands by and takes over when it is gone; with `config.once` it ends.

    Args:
        dry: say what would be mapped, and neither map nor write.

    Returns:
        The last look.

    Raises:
        ConfigError: if what is watched cannot be.
        StorageError: with `config.once`, if storage or an API fails; also if OUT cannot be written.
        HeldError: with `config.once`, if another watcher is at work.
    """
    listeners = listeners or Listeners()
    store = open_store(ObjectRef.parse(watched.out))
    watcher = _Watcher(config, watched, store, listeners)
    if dry:
        return watcher.look(None)
    probe_conditional_writes(store)
    while True:
        try:
            with watcher.leases() as leases:
                while all(taken.held for taken in leases):
                    seen = watcher.turn(leases)
                    if config.once:
                        return seen
                    time.sleep(config.interval)
        except HeldError as error:
            if config.once:
                raise
            if listeners.on_held:
                listeners.on_held(error)
            time.sleep(min(config.interval, _STANDBY_S))


@dataclass(slots=True)
class _Source:
    """One feed at one look."""

    feed: Feed
    notebook: Notebook
    remembered: Remembered = field(init=False)
    due: list[Arrival] = field(init=False)
    left: set[str] = field(init=False)
    """Names of bad scenes that are to be tried again."""


@contextmanager
def leased(store: Store, key: str) -> Iterator[Lease]:
    """Be the one watcher for the time of a `with` block.

    Raises:
        HeldError: if another watcher lives.
        StorageError: if the lease cannot be written.
    """
    taken = lease(store, key)
    if not taken.held:
        raise HeldError(f"another watcher is at work: {taken.holder}")
    try:
        yield taken
    finally:
        taken.release()


class _Watcher:
    """State of one command; every method runs in the caller's thread."""

    def __init__(self, config: WatchConfig, watched: Watched, store: Store, listeners: Listeners) -> None:
        self._config, self._watched, self._store, self._listeners = config, watched, store, listeners
        self._sources = [_Source(feed, Notebook(store, feed.about)) for feed in watched.feeds]
        self._span = span_of(config.first, config.last)
        self._behind = watched.area is not None
        """Whether cubes may lack what is committed already."""

    @contextmanager
    def leases(self) -> Iterator[list[Lease]]:
        """Be the one who watches each of the feeds, in an order that all watchers share."""
        with ExitStack() as stack:
            prefixes = sorted(source.notebook.prefix for source in self._sources)
            held = [stack.enter_context(leased(self._store, f"{prefix}/lease.json")) for prefix in prefixes]
            for source in self._sources:
                source.notebook.open()
            yield held

    def turn(self, leases: Sequence[Lease]) -> Seen:
        """One look; with `once` its errors are the caller's."""
        try:
            seen = self.look(leases)
        except EarthloomError as error:
            if self._config.once:
                raise
            seen = Seen(errors=[str(error)])
        if self._listeners.on_seen:
            self._listeners.on_seen(seen)
        return seen

    def look(self, leases: Sequence[Lease] | None) -> Seen:
        """Find what is new, map it some scenes at a time, and remember what became of each; None: only find."""
        begun, seen = datetime.now(UTC), Seen()
        for source in self._sources:
            self._find(source, seen)
        if self._listeners.on_due:
            self._listeners.on_due(seen, [arrival for source in self._sources for arrival in source.due])
        if leases is None:
            return seen
        behind = self._behind
        while any(source.due for source in self._sources) or behind:
            if not all(taken.held for taken in leases):
                seen.unfinished += sum(len(source.due) for source in self._sources)
                return seen
            taken = [source.due[: self._config.at_once] for source in self._sources]
            for source in self._sources:
                del source.due[: self._config.at_once]
            self._map(taken, seen)
            behind = False
        for source in self._sources:
            self._remember_how_far(source, begun, seen)
        return seen

    def _find(self, source: _Source, seen: Seen) -> None:
        source.remembered = remembered = source.notebook.read()
        seen.newest = max(filter(None, (seen.newest, remembered.newest)), default=None)
        source.due, source.left = [], {name for name, bad in remembered.bad.items() if bad.again}
        if not source.feed.references:
            return
        looked = look(
            source.feed.references, source.feed.scene, span=self._span,
            since=None if self._config.retry else remembered.since, back=timedelta(seconds=self._config.back),
            settle_s=self._config.settle,
        )  # fmt: skip
        seen.found += len(looked.arrivals)
        seen.coming += looked.coming
        seen.undated += looked.undated
        moment = datetime.now(UTC)
        # unique among all that is there, not only among what is new, so that an id does not depend on the day of the look
        requests = assign_ids([arrival.request for arrival in looked.arrivals], source.feed.scene.scene_id)
        for found, request in zip(looked.arrivals, requests, strict=True):
            arrival = replace(found, request=request)
            bad = remembered.bad.get(arrival.name)
            if arrival.name in remembered.done or (bad and not (self._config.retry or bad.is_due(moment))):
                seen.known += 1
                continue
            if bad:
                seen.retried += 1
            else:
                seen.new += 1
                seen.changed += remembered.is_changed(arrival)
                seen.late += bool(remembered.newest and arrival.taken and arrival.taken < remembered.newest)
            source.due.append(arrival)
        source.due.sort(key=lambda arrival: (arrival.taken or moment, arrival.request.reference))

    def _map(self, taken: Sequence[Sequence[Arrival]], seen: Seen) -> None:
        """Map some scenes of each feed, and remember what became of them."""
        if self._watched.run:
            requests = [arrival.request for arrival in taken[0]]
            result = run_scenes(self._watched.run, requests=requests, on_event=self._listeners.on_scene)
            self._take(self._sources[0], taken[0], result, seen)
            return
        assert self._watched.area, "a watch is of a run or of an area"
        assert self._watched.monitor
        products = self._watched.area.products

        def arrivals(_: Area, table: ProductTable) -> list[SceneRequest]:
            return [arrival.request for arrival in taken[products.index(table)]]

        made = run_monitor(
            self._watched.monitor, arrivals=arrivals, on_event=self._listeners.on_monitor,
            on_scene=self._listeners.on_scene,
        )  # fmt: skip
        seen.monitor = made
        seen.errors += [f"{file}: {why}" for file, why in made.refused]
        for source, mine, product in zip(self._sources, taken, made.products, strict=False):
            seen.errors += [f"{product.aoi} {product.product}, {doing}: {why}" for doing, _, why in product.errors]
            self._take(source, mine, product.run, seen)
        self._behind = bool(seen.errors)

    def _take(self, source: _Source, taken: Sequence[Arrival], result: RunResult | None, seen: Seen) -> None:
        for arrival in taken:
            scene_id = arrival.request.id
            progress = result.scenes.get(scene_id) if result else None
            if result and progress and (summary := result.results.get(scene_id)):
                said = summary.date.datetime if summary.date else None
                moment = datetime.fromisoformat(said) if said else arrival.taken
                source.notebook.note_done(arrival, scene_id, summary.prefix, moment)
                source.left.discard(arrival.name)
                seen.published.append(scene_id)
                if moment:
                    seen.newest = max(seen.newest or moment, moment)
                    if progress.status == "published":
                        seen.latencies_s.append((datetime.now(UTC) - moment).total_seconds())
            elif progress and progress.status in ("refused", "failed"):
                kind, reason = progress.kind or "EarthloomError", progress.error or "it failed"
                bad = source.notebook.note_bad(arrival, scene_id, kind, reason)
                (source.left.add if bad.again else source.left.discard)(arrival.name)
                seen.bad.append(bad)
            else:
                seen.unfinished += 1

    def _remember_how_far(self, source: _Source, begun: datetime, seen: Seen) -> None:
        """A search may begin where this look began, once nothing of before is left to be tried."""
        if self._span or seen.unfinished or seen.errors:
            return
        since = source.remembered.since if source.left else begun - INDEXING
        source.notebook.note_seen(since, seen.newest)
