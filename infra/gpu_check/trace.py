"""One run under PyTorch's profiler: how long the device computed and copied, and a trace for https://ui.perfetto.dev."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from torch.profiler import ProfilerActivity, profile

from earthloom.jobs.records.blocks import BlockCost
from infra.gpu_check.sections import Task, Write
from infra.gpu_check.speed import run, scene_of

_KINDS = {"kernel": "kernels", "gpu_memcpy": "copies", "gpu_memset": "copies"}
"""Categories of events on the device in Kineto's traces."""


def rows(task: Task, write: Write) -> None:
    """One row; and `trace.json.gz` beside the results."""
    scene = scene_of(task, task.size.scene_px // 2)
    run(task, task.subject, scene, "untraced")
    activities = [ProfilerActivity.CUDA] if task.device == "cuda" else [ProfilerActivity.CPU]
    with profile(activities=activities) as profiler:
        found = run(task, task.subject, scene, "traced")
    raw = task.work / "trace.json"
    profiler.export_chrome_trace(str(raw))
    trace: dict[str, Any] = json.loads(raw.read_text())
    spans = [
        (each["cat"], each["ts"], each["ts"] + each["dur"])
        for each in trace["traceEvents"]
        if each.get("cat") in _KINDS
    ]
    begun, ended = min((s[1] for s in spans), default=0.0), max((s[2] for s in spans), default=0.0)
    shares = {
        f"{name}_percent": round(
            100 * covered((s, e) for kind, s, e in spans if _KINDS[kind] == name) / (ended - begun), 1
        )
        for name in ("kernels", "copies")
        if spans
    }
    trace["traceEvents"] += _blocks(task, float(trace.get("baseTimeNanoseconds", 0)) / 1e3)
    (task.out / "trace.json.gz").write_bytes(gzip.compress(json.dumps(trace).encode(), 6))
    write({"network": task.subject, "device_span_s": round((ended - begun) / 1e6, 3), **shares,
           "events": len(trace["traceEvents"]), "mpx_per_s_traced": found["mpx_per_s"]})  # fmt: skip


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans (begin, end)."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def _blocks(task: Task, base_us: float) -> list[dict[str, Any]]:
    """What each lane of the worker did when, from the blocks' markers, on the trace's clock."""
    events = []
    for path in sorted((task.work / f"out-{task.subject}-traced").glob("scenes/*/*/blocks/*.json")):
        marker = json.loads(path.read_bytes())
        for name, begun_s, ended_s in BlockCost(
            **{part.name: marker.get(part.name) for part in fields(BlockCost)}
        ).phases():
            events.append({"ph": "X", "cat": "block", "name": f"{name} {path.stem}", "ts": begun_s * 1e6 - base_us,
                           "dur": 1e6 * (ended_s - begun_s), "pid": "blocks", "tid": marker["lane"]})  # fmt: skip
    return events
