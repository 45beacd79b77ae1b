"""Rules of composites: what becomes of the clear observations of a period, by name. Arrays in, arrays out.

| rule            | a pixel of the composite is                                                           | of       |
| --------------- | ------------------------------------------------------------------------------------- | -------- |
| `median`        | the median of each layer (`composites.median`)                                        | images   |
| `mode`          | the commonest class, with the share of observations that agree as its confidence      | classes  |
| `best`          | the most confident observation; of images, which have no confidence, `best:middle`    | all      |
| `best:middle`   | the observation nearest to the middle of the period                                   | all      |
| `best:clear`    | the observation on the date with most clear pixels over the whole area                | all      |
| `max:<layer>`   | the observation with the greatest value of a layer; `min:<layer>`: with the least     | all      |

Where equals compete, the date nearer to the middle of the period wins, and of two equally near the earlier. All layers of an
observation are taken together, so no pixel mixes dates, but for the median's. An observation counts if all of its layers
hold data; `count` says how many did.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict

from earthloom.jobs.monitoring.composites.median import median
from earthloom.jobs.monitoring.composites.periods import Cadence, Period
from earthloom.jobs.monitoring.composites.reducers import clear_of, count_clear, extreme, first_clear, mode, take
from earthloom.jobs.records.names import CLASSES, CONFIDENCE
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.writing.zarr_sink import Layer

COUNT = "count"
"""Layer with the number of clear observations."""

_Kind = Literal["median", "mode", "best", "max", "min"]
_KNOWN = "median, mode, best, best:middle, best:clear, max:<layer> or min:<layer>"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and what it goes by."""

    kind: _Kind
    by: str = ""
    """For `best`: `middle`, `clear`, or empty for the confidence; for `max` and `min`: a layer."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.by}" if self.by else self.kind

    @property
    def slug(self) -> str:
        """The rule as part of a path."""
        return str(self).replace(":", "-")

    @property
    def by_date(self) -> bool:
        """True if it goes by the share of the whole area that is clear on each date."""
        return self.kind == "best" and self.by == "clear"

    def check(self, layers: Sequence[Layer]) -> None:
        """Refuse layers for which the rule means nothing.

        Raises:
            ConfigError: if it does not; the message says what would.
        """
        names = [layer.name for layer in layers]
        if COUNT in names:
            raise ConfigError(
                f"'rule={self}': a layer is called {COUNT!r}, which composites have of their own; rename it"
            )
        if self.kind == "median" and CLASSES in names:
            raise ConfigError("rule = median: classes have no median; mode gives the commonest, best the surest")
        if self.kind == "mode" and names != [CLASSES, CONFIDENCE]:
            raise ConfigError(f"'rule=mode': it is of class maps, and the layers are {', '.join(names)}; try 'median'")
        if self.kind in ("max", "min") and self.by not in names:
            raise ConfigError(f"'rule={self}': there is no layer {self.by!r}; there is {', '.join(names)}")

    def order(
        self, period: Period, dates: Sequence[datetime.date], clear_px: Sequence[int] | None = None
    ) -> tuple[int, ...]:
        """The positions of all dates, those first that win where others are as good.

        Args:
            clear_px: pixels of the whole area that hold data on each date; `best:clear` goes by it.

        Raises:
            ConfigError: if it is not known for `best:clear`.
        """
        if self.by_date and (clear_px is None or len(clear_px) != len(dates)):
            raise ConfigError(
                f"'rule={self}': it is not known how much of the area is clear on each of {len(dates)} dates"
            )
        clear = clear_px if self.by_date and clear_px is not None else [0] * len(dates)

        def rank(position: int) -> tuple[int, int, datetime.date]:
            return -clear[position], period.half_days_from_middle(dates[position]), dates[position]

        return tuple(sorted(range(len(dates)), key=rank))


def parse_rule(text: str) -> Rule:
    """The rule of a name, `max:ndvi`.

    Raises:
        ConfigError: if it is not the name of a rule.
    """
    kind, _, by = text.partition(":")
    fits = by != "" if kind in ("max", "min") else by in (("", "middle", "clear") if kind == "best" else ("",))
    kinds: dict[str, _Kind] = {kind: kind for kind in get_args(_Kind)}
    if kind not in kinds or not fits or text.endswith(":"):
        raise ConfigError(f"'rule={text}' is no rule of composites; give {_KNOWN}")
    return Rule(kinds[kind], by)


def _checked(text: str) -> str:
    try:
        return str(parse_rule(text))
    except ConfigError as error:
        raise ValueError(str(error)) from None


RuleText = Annotated[str, AfterValidator(_checked)]
"""A rule as a file names it."""


class CompositeTable(BaseModel):
    """An entry of `composites` in an AOI file: `{ every = "month", rule = "median" }`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: Cadence
    rule: RuleText


def reduce_dates(
    rule: Rule, layers: Sequence[Layer], values: Mapping[str, NDArray[Any]], order: Sequence[int], *, n_classes: int,
    count_dtype: str,
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """Many dates of a window as one.

    Args:
        layers: all of the cube.
        values: (T, h, w) by layer, as they are stored, at least one date.
        order: `Rule.order` of these dates.
        n_classes: number of classes of a class map; 0 of images.
        count_dtype: uint8 or uint16.

    Returns:
        (h, w) by layer, in the stored dtypes, nodata where no observation is clear; and `count`.

    Raises:
        ConfigError, TilingError: see `Rule.check` and `jobs.monitoring.composites.reducers`.
    """
    rule.check(layers)
    clear = clear_of((values[layer.name], layer.nodata) for layer in layers)
    counted = {COUNT: count_clear(clear, count_dtype)}
    if rule.kind == "median":
        return {layer.name: median(values[layer.name], clear, layer.nodata) for layer in layers} | counted
    if rule.kind == "mode":
        classes, share = mode(values[CLASSES], clear, n_classes)
        return {CLASSES: classes, CONFIDENCE: share} | counted
    score = rule.by if rule.kind != "best" else CONFIDENCE if not rule.by and CONFIDENCE in values else None
    index = extreme(values[score], clear, order, least=rule.kind == "min") if score else first_clear(clear, order)
    return {layer.name: take(values[layer.name], index, layer.nodata) for layer in layers} | counted


def reducing_bytes_per_px(layers: Sequence[Layer], n_dates: int) -> int:
    """Most that `reduce_dates` and its input take at once, per pixel of the window, results included."""
    stored = sum(np.dtype(layer.dtype).itemsize for layer in layers)
    floats = any(np.dtype(layer.dtype).kind == "f" for layer in layers)
    masks = 2 + floats  # which are clear, of one layer and of all; and where a float is a number
    return n_dates * (stored + masks) + stored + 4
