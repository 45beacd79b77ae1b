"""What Prometheus is told: through Ray, and as a file for the textfile collector of node_exporter.

Counters in the file go on from what it says, so that they never fall from one nightly run to the next, and gauges that a
run does not set stay. One file belongs to one OUT, and to one command at a time.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from earthloom.cluster.metrics import Kind, RayMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One name of the list in docs/metrics.md."""

    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    """Names of the labels, beside `out`, which all have."""


METRICS: Mapping[str, Metric] = {
    "earthloom_blocks_done_total": Metric(kind="counter", text="Blocks that were computed."),
    "earthloom_blocks_retried_total": Metric(
        kind="counter", text="Times that a block, a survey or a publication was tried again."
    ),
    "earthloom_blocks_quarantined_total": Metric(kind="counter", text="Blocks that were given up; each fails its scene."),
    "earthloom_scenes_published_total": Metric(kind="counter", text="Scenes that were published."),
    "earthloom_scenes_failed_total": Metric(
        kind="counter", text="Scenes that failed or were refused, and that no earlier run had named."
    ),
    "earthloom_pixels_total": Metric(kind="counter", text="Pixels of results that were computed."),
    "earthloom_device_busy_ratio": Metric(
        kind="gauge", text="Share of the workers' time in which their devices computed, of the latest run."
    ),
    "earthloom_latency_to_map_seconds": Metric(
        kind="gauge", text="From acquisition to publication: median of the scenes that the latest run published."
    ),
    "earthloom_staleness_seconds": Metric(
        kind="gauge", text="Since the acquisition of the newest date in an area's cube.", labels=("aoi",)
    ),
    "earthloom_workers": Metric(
        kind="gauge", text="Workers of a run that lives: started have answered, working have computed a block.",
        labels=("state",),
    ),
    "earthloom_worker_blocks_total": Metric(kind="counter", text="Blocks that one worker computed."),
    "earthloom_worker_pixels_total": Metric(kind="counter", text="Pixels of results that one worker computed."),
    "earthloom_worker_device_seconds_total": Metric(
        kind="counter", text="Seconds in which one worker's device computed, summed over the blocks that it computed at once."
    ),
    "earthloom_cost_per_1000km2": Metric(
        kind="gauge", text="Cost of 1,000 square kilometres of results, of the latest run that has a price."
    ),
}  # fmt: skip
_SAMPLE = re.compile(r"(earthloom_[a-z0-9_]+)(\{.*\}) (\S+)\Z")


class Metrics:
    """The metrics of one command.

    Args:
        out: the output prefix, a label of every metric.
        file: file of the textfile collector; None for none.
    """

    def __init__(self, out: str, file: Path | None = None) -> None:
        self._out, self._file = out, file
        self._ray = RayMetrics()
        self._samples: dict[tuple[str, str], float] = {}
        """Samples by name and labels, as they are written."""
        self._before: dict[tuple[str, str], float] = {}
        if file is not None and file.is_file():
            try:
                self._before = dict(_read(file.read_text()))
            except (OSError, ValueError) as error:
                log.warning("%s is begun anew: %s", file, error)
        self._samples |= self._before

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge, or what this command has counted so far."""
        metric = METRICS[name]
        assert labels.keys() == set(metric.labels), f"{name} has the labels {metric.labels}"
        every = {**labels, "out": self._out}
        place = name, "{" + ",".join(f'{key}="{_escaped(text)}"' for key, text in every.items()) + "}"
        self._ray.set(name, metric.kind, metric.text, value, every)
        self._samples[place] = value + (self._before.get(place, 0.0) if metric.kind == "counter" else 0.0)

    def write(self) -> None:
        """Replace the file, at once; one that cannot be written is logged and stops nothing."""
        if self._file is None:
            return
        lines = []
        for name, metric in METRICS.items():
            samples = [f"{name}{labels} {value!r}" for (one, labels), value in self._samples.items() if one == name]
            if samples:
                lines += [f"# HELP {name} {metric.text}", f"# TYPE {name} {metric.kind}", *samples]
        beside = self._file.with_name(f".{self._file.name}.{os.getpid()}")  # the collector reads *.prom alone
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text("\n".join(lines) + "\n")
            beside.replace(self._file)
        except OSError as error:
            log.warning("the metrics are not written to %s: %s", self._file, error.strerror)


def _read(text: str) -> list[tuple[tuple[str, str], float]]:
    found = [_SAMPLE.match(line) for line in text.splitlines()]
    return [((sample[1], sample[2]), float(sample[3])) for sample in found if sample and sample[1] in METRICS]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
