"""The driver of monitoring: maps what lacks a map, brings cubes up to date, then all that is derived from them.

Sources are mapped by the ordinary driver of runs. A cube and what is derived from it are pure functions of committed
scenes, so it does not matter who mapped those, or when. One bad product does not stop the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from earthloom.cluster.outcome import Failed
from earthloom.jobs.config import EngineOptions, ReportOptions, RunConfig, check
from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.execution.driver import run as run_scenes
from earthloom.jobs.execution.event import Event
from earthloom.jobs.intake.references import SceneRequest
from earthloom.jobs.monitoring.alerts.stage import ALERTS
from earthloom.jobs.monitoring.aoi_file import Area, ProductTable, read_area
from earthloom.jobs.monitoring.change.stage import CHANGE_STAGE
from earthloom.jobs.monitoring.composites.stage import COMPOSITES
from earthloom.jobs.monitoring.cube.log import current_cube
from earthloom.jobs.monitoring.cube.members import Mask, Wanted, wanted
from earthloom.jobs.monitoring.cube.stac import cube_item
from earthloom.jobs.monitoring.cube.update import CubeRules, CubeUpdate, update_cube
from earthloom.jobs.monitoring.linking import enter
from earthloom.jobs.monitoring.options import MonitorConfig
from earthloom.jobs.monitoring.pairs import describe_without, earlier_items, has_failures, without_earlier
from earthloom.jobs.monitoring.pool import Pool
from earthloom.jobs.monitoring.series.stage import SERIES_STAGE
from earthloom.jobs.monitoring.stage import Monitored, Stage
from earthloom.jobs.monitoring.tidings import note_staleness, problems
from earthloom.jobs.monitoring.trends.stage import MONITORS
from earthloom.jobs.page.index import refresh
from earthloom.jobs.page.site import write_page
from earthloom.jobs.planning.words import load_models, product_name
from earthloom.jobs.report.operation import Operation, operating
from earthloom.jobs.report.verdict import Counts
from earthloom.models.zoo.indices import PREFIX as INDEX_PREFIX
from earthloom.tiling.errors import ConfigError, EarthloomError, PublishError, StorageError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.probe import probe_conditional_writes
from earthloom.tiling.storage.store import Store, open_store

STAGES: tuple[Stage, ...] = (COMPOSITES, CHANGE_STAGE, ALERTS, MONITORS, SERIES_STAGE)
"""What is derived from each cube, in this order. Another kind is one more line: `Stage(name="…", plan=…, finish=…)`."""

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
    """What became of one product over one area."""

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
    """How a command ended."""

    out: str
    products: tuple[ProductResult, ...]
    refused: tuple[tuple[str, str], ...] = ()
    """AOI files that could not be used, with the reason."""
    skipped: str | None = None
    """Why nothing was looked at, if so: the same command is at work elsewhere."""

    @property
    def counts(self) -> Counts:
        """Scenes of all products by what became of them."""
        return sum((one.run.counts for one in self.products if one.run), Counts())

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
        result = _monitor(config, store, out, operation, arrivals, on_event, on_scene)
        found, known = problems(result.products, result.refused)
        operation.end(str(result.counts), found, known=known, new=result.counts.new)
        note_staleness(out.url, config.report.metrics_file, [(one.aoi, one.update.cube) for one in result.products])
        return result


def _monitor(
    config: MonitorConfig, store: Store, out: ObjectRef, operation: Operation, arrivals: Arrivals | None,
    on_event: Callable[[MonitorEvent], None] | None, on_scene: Callable[[Event], None] | None,
) -> MonitorResult:  # fmt: skip
    areas, refused = _areas(config.files)
    if not areas:
        return MonitorResult(out=out.url, products=(), refused=tuple(refused))
    probe_conditional_writes(store)
    with Pool(config.engine, out) as pool:
        made = _Monitor(config, store, pool, operation, arrivals, on_event, on_scene)
        products = [_Product(area, table) for area in areas for table in area.products]
        # pairs need the composites of other products; and before any cube all scenes, as one product may mask another
        for some in ([p for p in products if not p.table.before], [p for p in products if p.table.before]):
            for product in some:
                made.map_scenes(product, products)
            for product in some:
                made.bring_up_to_date(product)
    for area in {one.result.aoi for one in products if one.result.update.cube}:
        refresh(store, f"monitors/{area}")
        write_page(store)
    return MonitorResult(out=out.url, products=tuple(one.result for one in products), refused=tuple(refused))


def _areas(files: Sequence[str]) -> tuple[list[Area], list[tuple[str, str]]]:
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
    return areas, refused


@dataclass(slots=True)
class _Product:
    area: Area
    table: ProductTable
    result: ProductResult = field(init=False)

    def __post_init__(self) -> None:
        self.result = ProductResult(aoi=self.area.name, product="-".join(self.table.model), notes=[*self.area.notes])


class _Monitor:
    """State of one command; every method runs in the caller's thread."""

    def __init__(
        self, config: MonitorConfig, store: Store, pool: Pool, operation: Operation, arrivals: Arrivals | None,
        on_event: Callable[[MonitorEvent], None] | None, on_scene: Callable[[Event], None] | None,
    ) -> None:  # fmt: skip
        self._config, self._store, self._pool = config, store, pool
        self._operation, self._arrivals = operation, arrivals
        self._on_event, self._on_scene = on_event, on_scene

    def map_scenes(self, product: _Product, every: Sequence[_Product]) -> None:
        """Map the product's sources, if it has any; what is mapped already costs nothing.

        Args:
            every: all products, of which one may give the earlier side of pairs.
        """
        table, result = product.table, product.result
        try:
            if spent := self._operation.over_budget():
                raise ConfigError(spent)
            config = run_config(table, self._config, self._operation.budget_left)
            result.product = _name_of(table, config)
            if table.before:
                there = [p.result for p in every if p.area is product.area]
                cubes = {one.product: (one.prefix, one.update.cube) for one in there if one.update.cube}
                config = config.model_copy(update={"before": earlier_items(self._store, table.before, cubes)})
                if not config.before:
                    result.notes.append(f"there is no composite of {table.before.product} yet to compare scenes with")
            found = None if self._arrivals is None else self._arrivals(product.area, table)
            if (table.scenes if found is None else found) and (config.before or not table.before):
                self._pool.rest()  # else a run's workers would wait for what ours hold
                result.run = run_scenes(config, requests=found, on_event=self._on_scene)
            if table.before and result.run and (names := without_earlier(result.run)):
                result.notes.append(describe_without(names, table.before))
        except EarthloomError as error:  # what is committed already can be watched all the same
            self._failed(product, "mapping scenes", error)

    def bring_up_to_date(self, product: _Product) -> None:
        """The product's cube, and what is derived from it."""
        try:
            of = self._update(product)
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

    def _update(self, product: _Product) -> Monitored | None:
        area, table, result = product.area, product.table, product.result
        until = self._config.until
        mask = Mask(product=table.mask.product, classes=table.mask.classes) if table.mask else None
        preferred = frozenset(one.prefix for one in result.run.results.values()) if result.run else frozenset()

        def members() -> Wanted:
            return wanted(
                self._store,
                result.product,
                area.grid,
                mask=mask,
                until=until,
                preferred=preferred,
                outline=area.outline,
            )

        first = members()
        if not first.steps:
            note = f"no committed scene of {result.product} that is dated lies on {area.name} yet"
            result.notes += [*first.notes, note]
            return None
        rules = CubeRules(
            aoi=area.name, product=result.product, grid=area.grid, outline=area.outline, shard_px=area.shard_px,
            overlap=_overlap(table, is_classes=bool(first.classes), product=result.product), mask=mask,
            until=until.isoformat() if until else None,
        )  # fmt: skip
        result.prefix = rules.base
        if table.scenes and self._arrivals is None and not result.run:
            # it failed, and cannot say which results are its own: those that it made before still are
            held = current_cube(self._store, rules.base)
            preferred = frozenset(prefix for step in held.steps for prefix in step.members) if held else preferred
            first = members()
        result.update = update = update_cube(
            self._store, self._pool, rules, first, members,
            lambda done, total: self._tell(product, "cube", done, total),
        )  # fmt: skip
        result.notes += update.notes
        result.errors += [("cube", "PublishError", text) for text in update.failures]
        if update.cube is None:
            return None
        item = cube_item(
            update.cube, aoi=area.name, product=result.product, key=rules.key, rules=rules.to_json(),
            generation=update.generation,
        )  # fmt: skip
        enter(self._store, area.name, rules.base, item, _progress)
        return Monitored(
            area=area, product=table, name=result.product, prefix=rules.base, cube=update.cube, until=until
        )  # fmt: skip

    def _derive(self, product: _Product, stage: Stage, of: Monitored) -> None:
        seen: set[str] = set()
        for _ in range(_ROUNDS):
            tasks = stage.plan(self._store, of)
            if not tasks:
                product.result.derived[stage.name] = stage.finish(self._store, of)
                return
            if again := [task.key for task in tasks if task.key in seen]:
                raise PublishError(f"{again[0]} was done, and is still missing; run again")
            seen |= {task.key for task in tasks}
            with closing(self._pool.run(tasks)) as outcomes:
                for number, outcome in enumerate(outcomes, 1):
                    if isinstance(outcome, Failed):
                        raise outcome.error.as_error()
                    self._tell(product, stage.name, number, len(tasks))
        raise StorageError(f"{stage.name} of {of.prefix} has planned {_ROUNDS} times and is not done", transient=True)

    def _tell(self, product: _Product, doing: str, done: int, total: int) -> None:
        if self._on_event:
            result = product.result
            self._on_event(
                MonitorEvent(aoi=result.aoi, product=result.product, doing=doing, done=done, total=total)
            )  # fmt: skip

    def _failed(self, product: _Product, doing: str, error: EarthloomError) -> None:
        result = product.result
        log.warning("%s of %s over %s: %s", doing, result.product, result.aoi, error)
        result.errors.append((doing, type(error).__name__, str(error)))


def run_config(table: ProductTable, config: MonitorConfig, budget: float | None = None) -> RunConfig:
    """What the ordinary driver is asked for; the command around it waits for others, and tells people.

    Args:
        budget: what is left of the cost that is allowed; None for no limit.

    Raises:
        ConfigError: naming each wrong option.
    """
    given = {name: getattr(config.engine, name) for name in EngineOptions.model_fields}
    report = {name: getattr(config.report, name) for name in ReportOptions.model_fields}
    report |= {"max_cost": budget, "notify": None, "if_running": None}
    given |= {name: value for name, value in report.items() if value is not None}
    own = {"scenes": table.scenes or ("-",), "model": table.model, "out": config.out}
    return check(RunConfig, {**table.options, **given, **own})


def _name_of(table: ProductTable, config: RunConfig) -> str:
    """What `collections/` calls the product; models are looked at only where a word is no name but a place."""
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
    """How far an item is: one that is further is never replaced by one that is less far."""
    properties = item["properties"]
    return int(properties["earthloom:generation"]), len(properties["cube:dimensions"]["time"]["values"])
