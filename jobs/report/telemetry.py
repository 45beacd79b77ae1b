"""What a run says of its own speed, in sums that do not grow with the number of blocks; and, on request, its profile.

Times are the workers' own; nothing that a result depends on is here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from earthloom.cluster.worker import WorkerStats
from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.records.blocks import PHASES, BlockCost
from earthloom.jobs.report.trace import Mark, chrome_trace
from earthloom.tiling.grid import pixel_size_m
from earthloom.tiling.storage.store import Store

_MOST_BLOCKS = 20_000
"""Blocks that a profile keeps, the first ones of a run: more would be seen by no eye."""

_COUNTS = ("computed_px", "chip_px", "read_bytes", "written_bytes", "decoded_px", "source_px")


@dataclass(slots=True)
class _Worker:
    """What one worker did."""

    blocks: int = 0
    computed_px: int = 0
    read_s: float = 0.0
    wait_s: float = 0.0
    compute_s: float = 0.0
    write_s: float = 0.0
    first_s: float = float("inf")
    last_s: float = 0.0

    @property
    def span_s(self) -> float:
        return max(0.0, self.last_s - self.first_s)

    def summary(self, computing: int) -> dict[str, Any]:
        return {
            "blocks": self.blocks, "computed_px": self.computed_px,
            **{f"{phase}_s": round(getattr(self, f"{phase}_s"), 3) for phase in PHASES},
            "device_busy_percent": _percent(self.compute_s, self.span_s * computing),
        }  # fmt: skip


@dataclass(slots=True)
class Meter:
    """Adds up what blocks cost as they come.

    Args:
        profile: keep the times of single blocks too.
        computing: blocks that a worker computes at once; it is busy when it computes so many.
    """

    profile: bool = False
    computing: int = 1
    started_s: float = field(default_factory=time.time)
    _counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    _km2: float = 0.0
    _km2_per_px: dict[str, float] = field(default_factory=dict)
    _workers: dict[str, _Worker] = field(default_factory=dict)
    _blocks: list[tuple[str, BlockCost]] = field(default_factory=list)
    _marks: list[Mark] = field(default_factory=list)

    def add(self, plan: ScenePlan, record: BlockCost) -> int:
        """Count a block; its pixels."""
        pixels = record.computed_px
        if plan.key not in self._km2_per_px:
            across, along = pixel_size_m(plan.fine)
            self._km2_per_px[plan.key] = across * along / 1e6
        self._km2 += pixels * self._km2_per_px[plan.key]
        for name in _COUNTS:
            self._counts[name] += getattr(record, name)
        worker = self._workers.setdefault(record.worker, _Worker())
        worker.blocks += 1
        worker.computed_px += pixels
        for phase in PHASES:
            setattr(worker, f"{phase}_s", getattr(worker, f"{phase}_s") + getattr(record, f"{phase}_s"))
        worker.first_s, worker.last_s = min(worker.first_s, record.started_s), max(worker.last_s, record.ended_s)
        if self.profile and len(self._blocks) < _MOST_BLOCKS:
            self._blocks.append((plan.scene.id, record))
        return pixels

    def mark(self, name: str, started_s: float, seconds: float) -> None:
        """Keep when something was done for a whole scene, for the profile."""
        if self.profile and len(self._marks) < _MOST_BLOCKS:
            self._marks.append((name, started_s, started_s + seconds))

    def summary(self, elapsed_s: float, price_per_hour: float | None) -> dict[str, Any]:
        """All sums, rounded. Rates are over `elapsed_s`, from the engine's readiness to the end, publishing included."""
        counts, workers = self._counts, self._workers.values()
        summary: dict[str, Any] = dict(counts)
        summary |= {
            "elapsed_s": round(elapsed_s, 3),
            "mpx_per_s": _ratio(counts["computed_px"] / 1e6, elapsed_s),
            "km2": round(self._km2, 3),
            "km2_per_h": _ratio(3600 * self._km2, elapsed_s),
            "halo_overhead": _ratio(counts["chip_px"], counts["computed_px"]),
            "decode_amplification": _ratio(counts["decoded_px"], counts["source_px"]),
            **{f"{phase}_s": round(sum(getattr(one, f"{phase}_s") for one in workers), 3) for phase in PHASES},
            "device_busy_percent": _percent(
                sum(one.compute_s for one in workers), self.computing * sum(one.span_s for one in workers)
            ),
            "workers": {name: worker.summary(self.computing) for name, worker in sorted(self._workers.items())},
        }
        if price_per_hour is not None:
            summary["cost"] = round(price_per_hour * elapsed_s / 3600, 6)
            summary["cost_per_1000_km2"] = _ratio(1000 * price_per_hour * elapsed_s / 3600, self._km2)
        return summary

    def save_profile(self, store: Store, prefix: str) -> list[str]:
        """Write the trace of the blocks; the keys of what was written."""
        trace = f"{prefix}.trace.json"
        store.put(trace, chrome_trace(self._blocks, marks=self._marks))
        return [trace]


def memory_summary(planned_bytes: int, stats: Sequence[WorkerStats]) -> dict[str, Any]:
    """Peak of the largest worker against its prediction."""
    peak = max((one.vitals.peak_bytes for one in stats), default=0)
    return {"predicted_worker_bytes": planned_bytes, "peak_worker_bytes": peak}


def _ratio(amount: float, base: float) -> float:
    return round(amount / base, 4) if base > 0 else 0.0


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 1) if whole > 0 else 0.0
