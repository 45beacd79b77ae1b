"""The task of workers for monitors over time: judge one shard of a cube. It may be done twice.

A shard is judged window by window: all of its dates at once would be the largest thing here, however many there are. What is
said of a pixel follows from its series alone, so which windows these are changes no bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.cutting import LEAST_BYTES, part_name, reading_bytes, windows, writing_bytes
from earthloom.jobs.monitoring.trends.detectors.anomalies import UNKNOWN
from earthloom.jobs.monitoring.trends.detectors.series import BLOCK_PX
from earthloom.jobs.monitoring.trends.map import COUNT, DAY, MonitorMap
from earthloom.jobs.monitoring.trends.rules import BfastMonitorRule, CusumRule, EwmacdRule, MannKendallRule, Verdict
from earthloom.jobs.publish.shards import finish_shard
from earthloom.jobs.records.names import CLASSES, CONFIDENCE
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window
from earthloom.tiling.writing.zarr_sink import Layer

_FLOAT_BYTES = 4
_MASKS = 2
"""Bytes of a date and pixel beside its number: where it is valid and where not, or its flag and where that holds."""
_BLOCK_ARRAYS = 16
"""Arrays of float64 that a monitor holds of a block of pixels and all dates; measured, rounded up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeTask:
    """One shard of a monitor's map."""

    made: MonitorMap
    part: Window
    """Window of the shard on the grid."""

    @property
    def key(self) -> str:
        return f"{self.made.prefix}/{part_name(self.part, self.made.cube.shard_px)}"

    @property
    def memory_bytes(self) -> int:
        """Most that it takes beyond what a worker takes idle."""
        made, n_dates = self.made, len(self.made.steps)
        out = self.part.size_px * made.publication.stored_bytes
        window_px = max(window.size_px for window in self.windows())
        size = window_px * np.dtype(made.layer.dtype).itemsize
        reading = reading_bytes(n_dates, [size])
        converting = window_px * self._px_bytes()
        judging = window_px * n_dates * (_FLOAT_BYTES + _MASKS) + _BLOCK_ARRAYS * 8 * n_dates * min(BLOCK_PX, window_px)
        writing = writing_bytes(out, self.part.width)
        return out + max(reading, converting, judging, writing) + LEAST_BYTES

    def windows(self) -> Iterator[Window]:
        """The windows that are judged one after another, row-major."""
        return windows(self.part, self._px_bytes())

    def do(self, store: Store) -> int:
        """Read, judge, write, then mark as done. Returns how many pixels it judged."""
        made, publication = self.made, self.made.publication
        out = {layer.name: np.empty(self.part.shape, layer.dtype) for layer in publication.layout.layers}
        dates = [step.date for step in made.steps]
        for window in self.windows():
            series = read_series(store, made.cube, made.layer, window)
            for name, pixels in _layers(made.rule.judge(series, dates)).items():
                out[name][window.slices(self.part)] = pixels.reshape(window.shape)
            del series
        finish_shard(store, publication, self.part, out)
        return self.part.size_px

    def _px_bytes(self) -> int:
        """Memory of a pixel of a window, for all dates: as stored, as numbers, and the masks."""
        stored = np.dtype(self.made.layer.dtype).itemsize
        return len(self.made.steps) * (stored + _FLOAT_BYTES + _MASKS)


def read_series(store: Store, cube: Cube, layer: Layer, window: Window) -> NDArray[np.float32]:
    """(T, P) physical values of a layer over a window, row-major, NaN where there is no data.

    Raises:
        ConfigError, TilingError, StorageError: see `Cube.read`.
    """
    stored = cube.read(store, layer.name, window)
    values = stored.reshape(len(stored), -1)
    valid = ~np.isnan(values) if np.isnan(layer.nodata) else values != layer.nodata
    gain, bias = (float(layer.attributes.get(name, usual)) for name, usual in (("scale_factor", 1), ("add_offset", 0)))
    series = values.astype(np.float32)
    if (gain, bias) != (1.0, 0.0):
        series *= np.float32(gain)
        series += np.float32(bias)
    np.copyto(series, np.nan, where=~valid)
    return series


def flag_series(store: Store, made: MonitorMap, window: Window, steps: Sequence[int]) -> NDArray[np.int8]:
    """(n, h, w) flags of a window for some dates, for whoever follows them as observations: what was known on that day.

    0 is as expected, negative below, positive above, and `detectors.anomalies.UNKNOWN` where nothing was observed, where the
    pixel cannot be monitored, before the monitor begins and while there are too few dates. A method that looks back is asked
    anew for each date, of the dates up to it. Takes `JudgeTask`'s bytes for each pixel; a window is best of whole chunks.

    Args:
        steps: positions of the dates in `made.steps`, ascending.

    Raises:
        ConfigError: if the method flags no dates.
    """
    rule, dates = _flagging(made), [step.date for step in made.steps]
    flags = np.full((len(steps), *window.shape), UNKNOWN, np.int8)
    series = read_series(store, made.cube, made.layer, window)
    if not rule.looks_back:
        if rule.waits_for(dates) is None:
            flags[:] = rule.flags(series, dates).reshape(-1, *window.shape)[list(steps)]
        return flags
    for position, step in enumerate(steps):
        if rule.waits_for(dates[: step + 1]) is None:
            flags[position] = rule.flags(series[: step + 1], dates[: step + 1])[-1].reshape(window.shape)
    return flags


def _flagging(made: MonitorMap) -> BfastMonitorRule | EwmacdRule | CusumRule:
    if isinstance(made.rule, MannKendallRule):
        raise ConfigError(
            "'method=mann-kendall' judges a series as a whole and flags no date; alerts take bfast-monitor, ewmacd or cusum"
        )
    return made.rule


def _layers(verdict: Verdict) -> dict[str, NDArray[Any]]:
    """(P,) by the name of the layer, in the stored dtypes."""
    days = {DAY: verdict.days} if verdict.days is not None else {}
    return {CLASSES: verdict.classes, CONFIDENCE: verdict.confidence, **verdict.numbers, **days, COUNT: verdict.count}
