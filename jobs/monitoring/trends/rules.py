"""Monitors over time as an AOI file names them: their parameters, and what each says of a pixel, in one form for all.

    [[product.monitor]]
    method = "bfast-monitor"     # bfast-monitor, ewmacd, cusum or mann-kendall
    layer = "ndvi"
    start = 2015-01-01

Parameters have the names of the papers (`jobs.monitoring.trends.detectors`). Arrays in, arrays out; knows nothing of cubes.
"""

from __future__ import annotations

import datetime
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from earthloom.jobs.monitoring.trends.detectors import boundaries
from earthloom.jobs.monitoring.trends.detectors.anomalies import UNKNOWN, Anomalies
from earthloom.jobs.monitoring.trends.detectors.bfast_monitor import History, Process, bfast_monitor
from earthloom.jobs.monitoring.trends.detectors.cusum import Shift, cusum
from earthloom.jobs.monitoring.trends.detectors.ewmacd import ewmacd
from earthloom.jobs.monitoring.trends.detectors.mann_kendall import mann_kendall
from earthloom.jobs.monitoring.trends.detectors.series import decimal_years
from earthloom.tiling.encoding import CONFIDENCE_SCALE, NODATA
from earthloom.tiling.errors import ConfigError

STABLE, FALL, RISE = 0, 1, 2
"""Classes of every monitor's map."""
NO_DAY = 0
"""Stands in the place of a date if there is no break."""

_EPOCH = datetime.date(1970, 1, 1)
_FEWEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement of a monitor on P pixels.

    Attributes:
        classes: (P,) uint8: STABLE, FALL or RISE; NODATA where nothing can be said.
        confidence: (P,) uint8 in units of CONFIDENCE_SCALE; NODATA there.
        numbers: (P,) float32 each, by name, in the order of the rule's `numbers`; NaN there.
        days: (P,) int32, date of the break as days since 1970-01-01, NO_DAY where there is none; None of a trend.
        count: (P,) uint16, observations that were used; of a history where there is one. 0 where nothing can be said.
    """

    classes: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    numbers: Mapping[str, NDArray[np.float32]]
    days: NDArray[np.int32] | None
    count: NDArray[np.uint16]


class _Table(BaseModel):
    """A monitor with its parameters, `method` among them."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: Annotated[str | None, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = None
    """Name of its map; None: made of layer and method, `ndvi-cusum`. It tells two of one layer and method apart."""
    layer: str | None = None
    least: Annotated[float, Field(ge=0)] = 0.0
    """Magnitude below which a change is none on the map, in the layer's unit; of a trend, per year."""
    min_observations: Annotated[int, Field(ge=0)] = 0

    numbers: ClassVar[tuple[str, ...]]
    """Names of the numbers that it publishes."""
    confidence: ClassVar[str]
    """The meaning of its confidence."""
    breaks: ClassVar[bool]
    """It finds dates of breaks, and flags each date."""
    looks_back: ClassVar[bool]
    """It judges a series as a whole, so that its flags of a date may change when later dates come."""

    @abstractmethod
    def waits_for(self, dates: Sequence[datetime.date]) -> str | None:
        """Says what is missing before anything can be said; None if nothing is."""

    @abstractmethod
    def judge(self, values: NDArray[np.floating[Any]], dates: Sequence[datetime.date]) -> Verdict:
        """The verdict on (T, P) values with NaN where nothing was observed.

        Raises:
            InputError: if there are too few dates; `waits_for` says so before.
        """


class _Watching(_Table):
    """A monitor with a history before `start`, to whose model what comes later is held."""

    start: datetime.date

    numbers: ClassVar[tuple[str, ...]] = ("magnitude",)
    confidence: ClassVar[str] = "share of the monitored observations, of a break since then, that agree"
    breaks: ClassVar[bool] = True
    looks_back: ClassVar[bool] = False

    def waits_for(self, dates: Sequence[datetime.date]) -> str | None:
        before = sum(date < self.start for date in dates)
        least = max(self.min_observations, self._n_coefficients() + 1)
        if before < least:
            return f"{before} of {least} dates before {self.start}"
        return None if before < len(dates) else f"a date from {self.start} on"

    def judge(self, values: NDArray[np.floating[Any]], dates: Sequence[datetime.date]) -> Verdict:
        anomalies = self._run(values, dates)
        at = np.arange(len(dates))[-len(anomalies.flags) :, None]
        judged = anomalies.n_history > 0
        broken = (anomalies.first >= 0) & (np.abs(anomalies.magnitude) >= self.least)
        direction = np.sign(np.take_along_axis(anomalies.flags, np.maximum(anomalies.first - at[0], 0)[None], axis=0))[
            0
        ]
        direction = np.where(broken, direction, 0).astype(np.int8)
        observed = (anomalies.flags != UNKNOWN) & (at >= np.where(broken, anomalies.first, 0))
        agreeing = (observed & (np.sign(anomalies.flags) == direction)).sum(axis=0)
        share = agreeing / np.maximum(observed.sum(axis=0), 1)
        days = np.array([(date - _EPOCH).days for date in dates], np.int32)
        return Verdict(
            classes=_classes(direction, judged), confidence=_stored_share(share, judged),
            numbers={"magnitude": anomalies.magnitude}, days=np.where(broken, days[anomalies.first], NO_DAY).astype(np.int32),
            count=anomalies.n_history.astype(np.uint16),
        )  # fmt: skip

    def flags(self, values: NDArray[np.floating[Any]], dates: Sequence[datetime.date]) -> NDArray[np.int8]:
        """(T, P) for every date; see `jobs.monitoring.trends.tasks.flag_series`."""
        flags = np.full(values.shape, UNKNOWN, np.int8)
        later = self._run(values, dates).flags
        flags[-len(later) :] = later
        return flags

    @abstractmethod
    def _run(self, values: NDArray[np.floating[Any]], dates: Sequence[datetime.date]) -> Anomalies:
        """The method on (T, P) values with NaN where nothing was observed."""

    @abstractmethod
    def _n_coefficients(self) -> int:
        """Number of coefficients of the model that is fitted to the history."""

    def _start(self) -> float:
        return float(decimal_years([self.start])[0])


class BfastMonitorRule(_Watching):
    """`detectors.bfast_monitor`."""

    method: Literal["bfast-monitor"]
    order: Annotated[int, Field(ge=0, le=10)] = 3
    trend: bool = True
    history: History = "roc"
    process: Process = "mosum"
    h: float = 0.25
    end: float = 10
    level: Annotated[float, Field(gt=0, lt=1)] = 0.05

    @model_validator(mode="after")
    def _known(self) -> BfastMonitorRule:
        try:
            if self.process == "mosum":
                boundaries.mosum_critical_value(self.h, self.end, self.level)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def _n_coefficients(self) -> int:
        return 1 + self.trend + 2 * self.order

    def _run(self, values: NDArray[np.floating[Any]], dates: Sequence[datetime.date]) -> Anomalies:
        return bfast_monitor(
            values, decimal_years(dates), self._start(), order=self.order, trend=self.trend, history=self.history,
            process=self.process, h=self.h, end=self.end, level=self.level, min_observations=self.min_observations,
        )  # fmt: skip


class EwmacdRule(_Watching):
    """`detectors.ewmacd`."""

    method: Literal["ewmacd"]
    order: Annotated[int, Field(ge=0, le=10)] = 2
    lambda_: Annotated[float, Field(gt=0, le=1, alias="lambda")] = 0.3
    control_limit: Annotated[float, Field(gt=0)] = 3.0
    persistence: Annotated[int, Field(ge=1)] = 3
    xbar_limit_1: Annotated[float, Field(gt=0)] = 1.5
    xbar_limit_2: Annotated[float, Field(gt=0)] = 20.0

    def _n_coefficients(self) -> int:
        return 1 + 2 * self.order

    def _run(self, values: NDArray[np.floating[Any]], dates: Sequence[datetime.date]) -> Anomalies:
        return ewmacd(
            values, decimal_years(dates), self._start(), order=self.order, lambda_=self.lambda_,
            control_limit=self.control_limit, persistence=self.persistence, xbar_limit_1=self.xbar_limit_1,
            xbar_limit_2=self.xbar_limit_2, min_observations=self.min_observations,
        )  # fmt: skip


class CusumRule(_Table):
    """`detectors.cusum`."""

    method: Literal["cusum"]
    order: Annotated[int, Field(ge=0, le=10)] = 0
    level: Annotated[float, Field(gt=0, lt=1)] = 0.05

    numbers: ClassVar[tuple[str, ...]] = ("magnitude", "p_value")
    confidence: ClassVar[str] = "1 less the p-value of a change; of none, the p-value"
    breaks: ClassVar[bool] = True
    looks_back: ClassVar[bool] = True

    def waits_for(self, dates: Sequence[datetime.date]) -> str | None:
        return _too_few(dates, max(self.min_observations, 2 * self.order + 2))

    def judge(self, values: NDArray[np.floating[Any]], dates: Sequence[datetime.date]) -> Verdict:
        shift = self._run(values, dates)
        judged = shift.n > 0
        broken = (shift.first >= 0) & (np.abs(shift.magnitude) >= self.least)
        days = np.array([(date - _EPOCH).days for date in dates], np.int32)
        return Verdict(
            classes=_classes(np.where(broken, np.sign(shift.magnitude), 0), judged),
            confidence=_stored_share(np.where(broken, 1 - shift.p_value, shift.p_value), judged),
            numbers={"magnitude": shift.magnitude, "p_value": shift.p_value},
            days=np.where(broken, days[shift.first], NO_DAY).astype(np.int32), count=shift.n.astype(np.uint16),
        )  # fmt: skip

    def flags(self, values: NDArray[np.floating[Any]], dates: Sequence[datetime.date]) -> NDArray[np.int8]:
        """(T, P) for every date; see `jobs.monitoring.trends.tasks.flag_series`."""
        return self._run(values, dates).flags

    def _run(self, values: NDArray[np.floating[Any]], dates: Sequence[datetime.date]) -> Shift:
        return cusum(
            values, decimal_years(dates), order=self.order, level=self.level, min_observations=self.min_observations
        )


class MannKendallRule(_Table):
    """`detectors.mann_kendall`."""

    method: Literal["mann-kendall"]
    level: Annotated[float, Field(gt=0, lt=1)] = 0.05
    min_observations: Annotated[int, Field(ge=3)] = _FEWEST

    numbers: ClassVar[tuple[str, ...]] = ("slope", "p_value", "tau")
    confidence: ClassVar[str] = "1 less the p-value of a trend; of none, the p-value"
    breaks: ClassVar[bool] = False
    looks_back: ClassVar[bool] = True

    def waits_for(self, dates: Sequence[datetime.date]) -> str | None:
        return _too_few(dates, self.min_observations)

    def judge(self, values: NDArray[np.floating[Any]], dates: Sequence[datetime.date]) -> Verdict:
        trend = mann_kendall(values, decimal_years(dates), min_observations=self.min_observations)
        judged = ~np.isnan(trend.p_value)
        moves = (trend.p_value < self.level) & (np.abs(trend.slope) >= self.least)
        return Verdict(
            classes=_classes(np.where(moves, np.sign(trend.tau), 0), judged),
            confidence=_stored_share(np.where(moves, 1 - trend.p_value, trend.p_value), judged),
            numbers={"slope": trend.slope, "p_value": trend.p_value, "tau": trend.tau}, days=None,
            count=np.where(judged, trend.n, 0).astype(np.uint16),
        )  # fmt: skip


MonitorTable = Annotated[BfastMonitorRule | EwmacdRule | CusumRule | MannKendallRule, Field(discriminator="method")]
"""One `[[product.monitor]]`."""


def _too_few(dates: Sequence[datetime.date], least: int) -> str | None:
    return f"{len(dates)} of {least} dates" if len(dates) < least else None


def _classes(direction: NDArray[Any], judged: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Classes of (P,) signs; nodata where nothing can be said."""
    classes = np.select([direction < 0, direction > 0], [FALL, RISE], STABLE)
    return np.where(judged, classes, NODATA).astype(np.uint8)


def _stored_share(share: NDArray[Any], judged: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(P,) shares from 0 to 1 as they are stored."""
    stored = np.round(np.where(judged, share, 0) / CONFIDENCE_SCALE)
    return np.where(judged, stored, NODATA).astype(np.uint8)
