"""Runs as their page shows them, made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from earthloom.jobs.records.attempt import SceneProgress
from earthloom.jobs.records.result import SceneSummary
from earthloom.jobs.report.page import RunView
from earthloom.jobs.report.timeline import Moment

KEY = "0123456789abcdef" * 4
STATES = ("already published", "published", "running", "waiting", "refused", "failed")


def summary(name: str) -> SceneSummary:
    return SceneSummary(
        scene_id=name, key=KEY, prefix=f"scenes/{name}/{KEY}", model="landwater", rasters=("landwater.tif",),
        class_areas=(), nodata_px=0,
    )  # fmt: skip


def view(names: Sequence[str], why: str = "missing swir16; give `sensor=<preset>`", **changes: Any) -> RunView:
    """A run of these scenes, whose states go round; each that has none is in trouble for a reason of its own."""
    scenes = {}
    for number, name in enumerate(names):
        state = STATES[number % len(STATES)]
        bad = state in ("refused", "failed")
        scenes[name] = SceneProgress(
            state, key=KEY, blocks=9, blocks_done=9 if "published" in state else 0, kind="SceneError" if bad else None,
            error=f"{name}: {number} {why}" if bad else None,
        )  # fmt: skip
    made = RunView(
        run_id=KEY, out="s3://maps/nightly", product="landwater", device="cpu, fp32", attempt=1, state="running",
        started="2026-07-01T02:00:00Z", updated="2026-07-01T03:00:00Z", elapsed_s=3600.0, scenes=scenes,
        results={name: summary(name) for name, one in scenes.items() if "published" in one.status}, cost=12.5,
        moments=[Moment(elapsed_s=60.0 * n, blocks=3 * n, pixels=n * 10**6, scenes=n // 2) for n in range(60)],
        telemetry={
            "computed_px": 10**9, "mpx_per_s": 12.0, "km2": 4200.0, "km2_per_h": 4200.0, "device_busy_percent": 71.0,
            "cost_per_1000_km2": 2.98, "workers": {"one": {"blocks": 4, "computed_px": 10**6, "device_busy_percent": 70.0}},
        },
        notes=[(name, f"{why} {number}") for number, name in enumerate(names)],
    )  # fmt: skip
    return replace(made, **changes)
