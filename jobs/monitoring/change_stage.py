"""Changes that an AOI file asks for, as a stage of `earthloom monitor`.

```toml
[[product.change]]
from = "1985"                 # a date or a period; a period is its composite, else the date nearest to its middle
to = "2020"
min_area_m2 = 10000           # no smaller polygon; without it nine pixels

[[product.change]]
every = "year"                # each year's composite against that of the year before
```
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from earthloom.jobs.monitoring.change import Change
from earthloom.jobs.monitoring.change_polygons import default_least_m2
from earthloom.jobs.monitoring.change_tasks import plan_change
from earthloom.jobs.monitoring.periods import Cadence, parse_period, period_of
from earthloom.jobs.monitoring.sides import find_map
from earthloom.jobs.monitoring.stage import Monitored, Stage
from earthloom.jobs.monitoring.worker import MonitorTask
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.store import Store


class ChangeTable(BaseModel):
    """An entry `[[product.change]]` of an AOI file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    before: Annotated[str | None, Field(alias="from")] = None
    after: Annotated[str | None, Field(alias="to")] = None
    every: Cadence | None = None
    min_area_m2: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None

    @field_validator("before", "after", mode="before")
    @classmethod
    def _period(cls, value: object) -> object:
        if value is None:
            return None
        try:
            return parse_period(str(value)).name
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.before is None) != (self.after is None) or (self.before is None) == (self.every is None):
            raise ValueError("a change has `from` and `to`, or `every`")
        return self


def changes_of(store: Store, monitored: Monitored) -> Iterator[tuple[Change, str]]:
    """Each change that is asked for and can be made already, and what was taken for its sides, in words."""
    for table in monitored.product.change:
        for before, after in _pairs(monitored, table):
            yield make_change(store, monitored, before, after, table.min_area_m2)


def make_change(
    store: Store, monitored: Monitored, before: str, after: str, least_m2: float | None = None
) -> tuple[Change, str]:  # fmt: skip
    """The change between two dates or periods, and what was taken for them, in words.

    Raises:
        ConfigError: if one of them is none or holds no date, or they cannot be compared.
    """
    sides = [find_map(store, monitored.prefix, monitored.cube, text) for text in (before, after)]
    change = Change(
        folder=monitored.prefix, aoi=monitored.area.name, product=monitored.name, before=sides[0].map,
        after=sides[1].map, least_m2=default_least_m2(monitored.cube.grid) if least_m2 is None else least_m2,
    )  # fmt: skip
    return change, "; ".join(side.note for side in sides)


def _pairs(monitored: Monitored, table: ChangeTable) -> Iterator[tuple[str, str]]:
    """Names of periods, those only that hold a date."""
    dates = [step.date for step in monitored.cube.steps]
    if table.every is not None:
        yield from pairwise(dict.fromkeys(period_of(table.every, date).name for date in dates))
    if table.before is None or table.after is None:
        return
    if all(any(date in parse_period(side) for date in dates) for side in (table.before, table.after)):
        yield table.before, table.after


def plan_changes(store: Store, monitored: Monitored) -> Sequence[MonitorTask]:
    """The shards that are missing, and the publication of each change of which none is."""
    tasks: dict[str, MonitorTask] = {}
    for change, _ in changes_of(store, monitored):
        tasks |= {task.key: task for task in plan_change(store, change)}
    return list(tasks.values())


def finish_changes(store: Store, monitored: Monitored) -> Mapping[str, Any]:
    """Where each change lies."""
    return {change.name: {"prefix": change.prefix, "of": note} for change, note in changes_of(store, monitored)}


CHANGE_STAGE = Stage(name="change", plan=plan_changes, finish=finish_changes)
