"""The driver of monitoring: maps what lacks a map, brings cubes up to date, then all that is derived from them.

Sources are mapped by the ordinary driver of runs. A cube and what is derived from it are pure functions of committed
scenes, so it does not matter who mapped those, or when. One bad product does not stop the others.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from earthloom.jobs.config import RunConfig
from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.execution.driver import run as run_scenes
from earthloom.jobs.execution.event import Event
from earthloom.jobs.execution.known import problems as run_problems
from earthloom.jobs.intake.references import SceneRequest
from earthloom.jobs.monitoring.alerts.stage import ALERTS
from earthloom.jobs.monitoring.aoi_file import Area, ProductTable, read_area
from earthloom.jobs.monitoring.change.stage import CHANGE_STAGE
from earthloom.jobs.monitoring.composites.stage import COMPOSITES
from earthloom.jobs.monitoring.cube.log import current_cube
from earthloom.jobs.monitoring.cube.members import Wanted, wanted
from earthloom.jobs.monitoring.cube.stac import cube_item
from earthloom.jobs.monitoring.cube.update import CubeRules, CubeUpdate, update_cube
from earthloom.jobs.monitoring.linking import enter
from earthloom.jobs.monitoring.options import MonitorConfig, run_config
from earthloom.jobs.monitoring.pairs import describe_without, earlier_items, has_failures, without_earlier
from earthloom.jobs.monitoring.pool import Pool
from earthloom.jobs.monitoring.series.stage import SERIES_STAGE
from earthloom.jobs.monitoring.stage import Monitored, Stage
from earthloom.jobs.monitoring.trends.stage import MONITORS
from earthloom.jobs.page.index import refresh
from earthloom.jobs.page.site import write_page
from earthloom.jobs.planning.words import load_models, product_name
from earthloom.jobs.report.metrics import Metrics
from earthloom.jobs.report.operation import Operation, operating
from earthloom.jobs.report.verdict import Counts
from earthloom.models.zoo.indices import PREFIX as INDEX_PREFIX
from earthloom.tiling.errors import ConfigError, EarthloomError, PublishError, StorageError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.probe import probe_conditional_writes
from earthloom.tiling.storage.store import Store, open_store

STAGES: tuple[Stage, ...] = (COMPOSITES, CHANGE_STAGE, ALERTS, MONITORS, SERIES_STAGE)
"""Derive results from each cube, in this order. Another kind is one more line: `Stage(name="…", plan=…, finish=…)`."""

Arrivals: TypeAlias = Callable[[Area, ProductTable], Sequence[SceneRequest]]

_ROUNDS = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorEvent:
    """Something that a progress display shows."""

    aoi: str
    product: str
    doing: str
    """`cube`, or the name of a stage."""
    done: int
    """Tasks of this round."""
    total: int


@dataclass(slots=True, kw_only=True)
class ProductResult:
    """The outcome for one product over one area."""

    aoi: str
    product: str
    prefix: str = ""
    """Prefix of the cube and all that is derived from it; empty if it has not come so far."""
    update: CubeUpdate = field(default_factory=CubeUpdate)
    run: RunResult | None = None
    """Result of the run of its sources, if it has any."""
    derived: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Summary of each stage, by its name."""
    errors: list[tuple[str, str, str]] = field(default_factory=list)
    """(what was being done, class of the error, its text)."""
    notes: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """`updated`, `up to date`, `empty` (no scene meets the area yet) or `failed`."""
        if self.errors:
            return "failed"
        if self.update.cube is None:
            return "empty"
        new = len(self.update.cube.steps) != self.update.before or self.update.renewed
        return "updated" if new else "up to date"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorResult:
    """The end of a command."""

    out: str
    products: tuple[ProductResult, ...]
    refused: tuple[tuple[str, str], ...] = ()
    """AOI files that could not be used, with the reason."""
    skipped: str | None = None
    """Why nothing was looked at, if so: the same command is at work elsewhere."""

    @property
    def counts(self) -> Counts:
        """Scenes of all products by what became of them."""
        return sum((product.run.counts for product in self.products if product.run), Counts())

    @property
    def exit_code(self) -> int:
        """0 all is up to date · 1 nothing is · 2 no AOI file could be used · 3 something failed, or a scene did."""
        if not self.products:
            return 0 if self.skipped else 2
        bad = [product for product in self.products if product.errors]
        if len(bad) == len(self.products) and not any(product.update.cube for product in bad):
            return 1
        scenes_failed = any(product.run is not None and has_failures(product.run) for product in self.products)
        return 3 if bad or self.refused or scenes_failed else 0


def monitor(
    config: MonitorConfig,
    *,
    arrivals: Arrivals | None = None,
    on_event: Callable[[MonitorEvent], None] | None = None,
    on_scene: Callable[[Event], None] | None = None,
) -> MonitorResult:
    """Bring every product of every AOI file up to date.

    Args:
        arrivals: gives the scenes of an area's product that are to be mapped, in the place of those that its file names.
        on_event: called from this thread whenever a task is done.
        on_scene: the same for scenes that are being mapped first.

    Raises:
        ConfigError: if two files have areas of one name.
        StorageError: if `config.out` cannot be written.
    """
    out = ObjectRef.parse(config.out)
    store = open_store(out)
    asked = {"files": sorted(config.files), "until": str(config.until)}
    with operating(config.report, store, f"{', '.join(config.files)} to {out.url}", asked) as operation:
        if operation.skipped:
            return MonitorResult(out=out.url, products=(), skipped=operation.skipped)
        areas, refused = _areas(config.files)
        results: tuple[ProductResult, ...] = ()
        if areas:
            probe_conditional_writes(store)
            with Pool(config.engine, out) as pool:
                results = _Monitor(config, store, pool, operation, arrivals, on_event, on_scene).run(areas)
            for aoi in {result.aoi for result in results if result.update.cube}:
                refresh(store, f"monitors/{aoi}")
                write_page(store)
        ended = MonitorResult(out=out.url, products=results, refused=refused)
        problems, known = _problems(ended)
        operation.end(str(ended.counts), problems, known=known, new=ended.counts.new)
        _note_staleness(out.url, config.report.metrics_file, results)
        return ended


def _areas(files: Sequence[str]) -> tuple[list[Area], tuple[tuple[str, str], ...]]:
    areas: list[Area] = []
    refused: list[tuple[str, str]] = []
    for file in files:
        try:
            areas.append(read_area(file))
        except EarthloomError as error:
            refused.append((file, str(error)))
    for number, area in enumerate(areas):
        if same := [other.where for other in areas[:number] if other.name == area.name]:
            raise ConfigError(f"{same[0]} and {area.where} both describe an area called {area.name!r}; rename one")
    return areas, tuple(refused)


def _problems(ended: MonitorResult) -> tuple[dict[str, tuple[str, str]], frozenset[str]]:
    """Class and text of each failure by its place; and the places that an earlier run named already."""
    problems = {file: ("ConfigError", why) for file, why in ended.refused}
    known: set[str] = set()
    for product in ended.products:
        where = f"{product.aoi} {product.product}"
        problems |= {f"{where}, {doing}": (kind, text) for doing, kind, text in product.errors}
        if run := product.run:
            excused = without_earlier(run)
            of_run = run_problems(run.scenes, run.stopped)
            problems |= {f"{where}, {name}": why for name, why in of_run.items() if name not in excused}
            known |= {f"{where}, {name}" for name, scene in run.scenes.items() if scene.known}
    return problems, frozenset(known)


def _note_staleness(out: str, file: Path | None, results: Sequence[ProductResult]) -> None:
    """Set the metric of each area: the time since the newest date in its cubes, which is taken to begin at 0 h UTC."""
    newest: dict[str, datetime.date] = {}
    for result in results:
        if result.update.cube:
            last = result.update.cube.steps[-1].date
            newest[result.aoi] = max(newest.get(result.aoi, last), last)
    metrics = Metrics(out, file)
    for aoi, day in newest.items():
        begun = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
        metrics.set(
            "earthloom_staleness_seconds", (datetime.datetime.now(datetime.UTC) - begun).total_seconds(), aoi=aoi
        )
    metrics.write()


@dataclass(slots=True)
class _Product:
    area: Area
    table: ProductTable
    result: ProductResult = field(init=False)
    is_named: bool = False
    """The result has the product's name as `collections/` has it, which options of the run decide too."""

    def __post_init__(self) -> None:
        self.result = ProductResult(aoi=self.area.name, product="-".join(self.table.model), notes=[*self.area.notes])


@dataclass(frozen=True, slots=True)
class _Monitor:
    """One command's work; every method runs in the caller's thread."""

    config: MonitorConfig
    store: Store
    pool: Pool
    operation: Operation
    arrivals: Arrivals | None
    on_event: Callable[[MonitorEvent], None] | None
    on_scene: Callable[[Event], None] | None

    def run(self, areas: Sequence[Area]) -> tuple[ProductResult, ...]:
        """Map the scenes of all products of all areas, and bring up to date what follows from them."""
        products = [_Product(area, table) for area in areas for table in area.products]
        # pairs need the composites of other products; and before any cube all scenes, as one product may mask another
        for of_pairs in (False, True):
            some = [product for product in products if bool(product.table.before) == of_pairs]
            for product in some:
                self.map_scenes(product, products)
            for product in some:
                if product.is_named:
                    self.bring_up_to_date(product, products)
        return tuple(product.result for product in products)

    def map_scenes(self, product: _Product, every: Sequence[_Product]) -> None:
        """Map the product's sources, if it has any; what is mapped already costs nothing.

        Args:
            every: all products, of which one may give the earlier side of pairs.
        """
        table, result = product.table, product.result
        try:
            spent = self.operation.over_budget()
            config = run_config(table, self.config, None if spent else self.operation.budget_left)
            result.product, product.is_named = _name_of(table, config), True
            if spent:
                raise ConfigError(spent)
            if table.before:
                others = [other.result for other in every if other.area is product.area]
                cubes = {other.product: (other.prefix, other.update.cube) for other in others if other.update.cube}
                config = config.model_copy(update={"before": earlier_items(self.store, table.before, cubes)})
                if not config.before:
                    result.notes.append(f"there is no composite of {table.before.product} yet to compare scenes with")
            arrived = None if self.arrivals is None else self.arrivals(product.area, table)
            if (table.scenes if arrived is None else arrived) and (config.before or not table.before):
                self.pool.rest()  # else a run's workers would wait for what ours hold
                result.run = run_scenes(config, requests=arrived, on_event=self.on_scene)
            if table.before and result.run and (names := without_earlier(result.run)):
                result.notes.append(describe_without(names, table.before))
        except EarthloomError as error:  # what is committed already can be watched all the same
            self._failed(product, "mapping scenes", error)

    def bring_up_to_date(self, product: _Product, every: Sequence[_Product]) -> None:
        """The product's cube, and what is derived from it.

        Args:
            every: all products, of which one may mask this one.
        """
        try:
            of = self._update(product, every)
        except EarthloomError as error:
            self._failed(product, "cube", error)
            return
        if of is None:
            return
        for stage in STAGES:
            try:
                self._derive(product, stage, of)
            except EarthloomError as error:
                self._failed(product, stage.name, error)

    def _update(self, product: _Product, every: Sequence[_Product]) -> Monitored | None:
        area, table, result = product.area, product.table, product.result
        until = self.config.until
        runs = {other.result.product: other for other in every if other.area is area}
        own = {of.prefix for other in runs.values() if other.result.run for of in other.result.run.results.values()}

        def members() -> Wanted:
            return wanted(
                self.store, result.product, area.grid, mask=table.mask, until=until, preferred=own, outline=area.outline
            )

        first = members()
        if not first.steps:
            note = f"no committed scene of {result.product} that is dated lies on {area.name} yet"
            result.notes += [*first.notes, note]
            return None
        rules = CubeRules(
            aoi=area.name, product=result.product, grid=area.grid, outline=area.outline, shard_px=area.shard_px,
            overlap=_overlap(table, is_classes=bool(first.classes), product=result.product), mask=table.mask,
            until=until.isoformat() if until else None,
        )  # fmt: skip
        result.prefix = rules.base
        # a run that failed, with all of its scenes or before them, or had nothing to do does not name its own results: those
        # that the cube holds still are
        silent = {
            name for name, other in runs.items() if other.table.scenes and not (other.result.run and other.result.run.results)
        }  # fmt: skip
        held = current_cube(self.store, rules.base) if silent else None
        for step in held.steps if held else ():
            own |= set(step.scenes) if result.product in silent else set()
            own |= set(step.masks) if table.mask and table.mask.product in silent else set()
        first = members() if held else first
        result.update = update = update_cube(
            self.store, self.pool, rules, first, members,
            partial(self._tell, product, "cube"),
        )  # fmt: skip
        result.notes += update.notes
        result.errors += [("cube", "PublishError", text) for text in update.failures]
        if update.cube is None:
            return None
        item = cube_item(
            update.cube, aoi=area.name, product=result.product, key=rules.key, rules=rules.to_json(),
            generation=update.generation,
        )  # fmt: skip
        enter(self.store, area.name, rules.base, item, _progress)
        return Monitored(
            area=area, product=table, name=result.product, prefix=rules.base, cube=update.cube, until=until
        )  # fmt: skip

    def _derive(self, product: _Product, stage: Stage, of: Monitored) -> None:
        seen: set[str] = set()
        for _ in range(_ROUNDS):
            tasks = stage.plan(self.store, of)
            if not tasks:
                product.result.derived[stage.name] = stage.finish(self.store, of)
                return
            if again := [task.key for task in tasks if task.key in seen]:
                raise PublishError(f"{again[0]} was done, and is still missing; run again")
            seen |= {task.key for task in tasks}
            self.pool.complete(tasks, partial(self._tell, product, stage.name))
        raise StorageError(f"{stage.name} of {of.prefix} has planned {_ROUNDS} times and is not done", transient=True)

    def _tell(self, product: _Product, doing: str, done: int, total: int) -> None:
        if self.on_event:
            result = product.result
            self.on_event(MonitorEvent(aoi=result.aoi, product=result.product, doing=doing, done=done, total=total))

    def _failed(self, product: _Product, doing: str, error: EarthloomError) -> None:
        result = product.result
        log.warning("%s of %s over %s: %s", doing, result.product, result.aoi, error)
        result.errors.append((doing, type(error).__name__, str(error)))


def _name_of(table: ProductTable, config: RunConfig) -> str:
    """The name of the product in `collections/`; models are looked at only where a word is no name but a place."""
    if any("/" in word or word.startswith(INDEX_PREFIX) or Path(word).is_dir() for word in table.model):
        return product_name(load_models(config))
    words = list(table.model)
    if config.mask_clouds and "cloudmask" not in words:
        words.insert(0, "cloudmask")
    return "-".join(words).replace("+", "-")


def _overlap(table: ProductTable, *, is_classes: bool, product: str) -> str | tuple[str, ...]:
    if table.overlap is None:
        return "confident" if is_classes else "latest"
    if table.overlap == "confident" and not is_classes:
        raise ConfigError(f"overlap: {product} is an image and has no confidence; take latest, or a list of scene ids")
    return table.overlap


def _progress(item: Mapping[str, Any]) -> tuple[int, int]:
    """The progress of an item: one that is further is never replaced by one that is less far."""
    properties = item["properties"]
    return int(properties["earthloom:generation"]), len(properties["cube:dimensions"]["time"]["values"])
