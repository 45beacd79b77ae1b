"""A whole run in this process, scene and outputs in memory, against the compiled pass and the device's limits."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

import earthloom
from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.predictor import Predictor
from earthloom.tiling.rounding import round_up
from infra.gpu_check.limits import ceilings, chips_for, compiled_pass, seconds_of
from infra.gpu_check.networks import folder_of, predictor_of
from infra.gpu_check.sections import Row, Task, Write
from tests.bench.against_bare import span
from tests.bench.command import LANDWATER_BANDS, large_scene

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_POLL_S = 0.1


def rows(task: Task, write: Write) -> None:
    """One row for the run, one that sets it against what the device can do at most, and one against the compiled pass."""
    name = task.subject.removesuffix("-large")
    side_px = task.size.large_px if task.subject.endswith("-large") else task.size.scene_px
    scene = scene_of(task, side_px)
    small = scene_of(task, 2 * task.size.core_px)
    run(task, name, small, "first")  # libraries are loaded, the batch is chosen and kept for the second run
    named: Row = {"network": name, "scene_px": side_px}
    found = run(task, name, scene, "second")
    write(named | found)
    predictor = predictor_of(task, name)
    write(named | against_floors(task, predictor, found))
    write(named | against_compiled(task, predictor, found))


def run(task: Task, name: str, scene: Path, out: str) -> Row:
    """Map a scene; speed from the first block's begin to publication, CPU seconds, and memory of host and device."""
    folder, on_gpu = task.work / f"out-{name}-{out}", task.device == "cuda"
    shutil.rmtree(folder, ignore_errors=True)  # of another section: what is published is not computed again
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    before_bytes = _resident("VmRSS")
    with suppress(OSError):
        _RESET.write_text("5")
    before, begun = os.times(), time.perf_counter()
    with busy(task.device) as samples:
        done = earthloom.run(
            scene, model=str(folder_of(task, name)), out=folder, executor="local", device=task.device, scale=0.0001,
            quantity="toa_reflectance",
        )  # fmt: skip
    wall_s, after = time.perf_counter() - begun, os.times()
    if done.exit_code:
        raise RuntimeError(f"{name}: the run ended with {done.exit_code}: {done.scenes}")
    told: dict[str, Any] = done.telemetry
    mpx, cpu_s = told["computed_px"] / 1e6, sum(after[:4]) - sum(before[:4])
    span_s = span(str(folder))
    return {
        "mpx": round(mpx, 2), "run_s": round(wall_s, 2), "span_s": round(span_s, 2), "mpx_per_s": round(mpx / span_s, 3),
        "chip_mpx_per_s": round(told["chip_px"] / 1e6 / span_s, 3), "halo_overhead": told["halo_overhead"],
        "busy_percent_by_nvml": round(sum(samples) / len(samples), 1) if samples else None,
        "computing_percent": told["device_busy_percent"],
        "cpu_s_per_mpx": round(cpu_s / mpx, 4), "cores_used": round(cpu_s / wall_s, 2),
        **{f"{phase}_s": told[f"{phase}_s"] for phase in ("read", "wait", "compute", "write")},
        "host_planned_bytes": told["predicted_worker_bytes"], "host_before_bytes": before_bytes,
        "host_peak_bytes": _resident("VmHWM"),
        "device_allocated_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "device_reserved_bytes": torch.cuda.max_memory_reserved() if on_gpu else None,
    }  # fmt: skip


def against_floors(task: Task, predictor: Predictor, found: Row) -> Row:
    """Each floor of the run, in pixels of the result per second, and its memory on the device by pixel of a pass."""
    card, precision, limits = predictor.card, predictor.device.precision, ceilings(task)
    flop = card.flop_per_px or _flop_per_px(predictor)
    bus_s = 2 * len(card.bands) / limits["to_device_pinned_bytes_per_s"]
    bus_s += _stored_bytes(card) / limits["from_device_pinned_bytes_per_s"]
    floors = {
        "by_flop": limits[f"flop_per_s_{precision}"] / (flop * found["halo_overhead"]) / 1e6,
        "by_bus": 1 / bus_s / 1e6,
        "by_memory": limits["device_bytes_per_s"] / (_least_bytes(card, precision) * found["halo_overhead"]) / 1e6,
    }
    batch, chip_px = _batch(task, card, precision), card.core_px + 2 * (card.halo_px or 0)
    return {
        "batch": batch, "chip_px": chip_px, "precision": precision, "flop_per_px": round(flop),
        "at_most_mpx_per_s": {floor: round(rate, 1) for floor, rate in floors.items()},
        "ratio_to_floor": round(found["mpx_per_s"] / min(floors.values()), 3),
        "card_bytes_per_chip_px": card.bytes_per_chip_px(precision),
        "run_bytes_per_chip_px": _per_px(found["device_allocated_bytes"], (batch or 1) * chip_px**2),
    }  # fmt: skip


def against_compiled(task: Task, predictor: Predictor, found: Row) -> Row:
    """The compiled pass in chip pixels per second, its memory, and the run's share of its speed."""
    with torch.inference_mode():
        chips = chips_for(task, predictor)
        n_px = chips.numel() // len(predictor.card.bands)
        if task.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        program = compiled_pass(task, predictor)
        compiled = n_px / seconds_of(lambda: program(chips), task.device)
        peak = torch.cuda.max_memory_allocated() if task.device == "cuda" else None
    return {
        "compiled_chips": len(chips), "compiled_chip_mpx_per_s": round(compiled / 1e6, 3),
        "ratio_to_compiled": round(1e6 * found["chip_mpx_per_s"] / compiled, 3),
        "compiled_bytes_per_chip_px": _per_px(peak, n_px),
    }  # fmt: skip


def scene_of(task: Task, side_px: int) -> Path:
    """A scene that `prepare` has made; made here if it has not come to it."""
    path = task.work / f"scene-{side_px}.tif"
    return path if path.is_file() else large_scene(path, side_px, LANDWATER_BANDS)


@contextmanager
def busy(device: str) -> Iterator[list[float]]:
    """Percent of each tenth of a second in which a kernel ran, by the driver; empty where it does not say."""
    samples: list[float] = []
    ended = threading.Event()

    def look() -> None:
        with suppress(Exception):  # no driver, or no Python package that asks it: nothing is known then
            while not ended.wait(_POLL_S):
                samples.append(float(torch.cuda.utilization()))

    thread = threading.Thread(target=look, daemon=True)
    if device == "cuda":
        thread.start()
    try:
        yield samples
    finally:
        ended.set()
        if device == "cuda":
            thread.join(2)


def _batch(task: Task, card: ModelCard, precision: str) -> int | None:
    """Chips in a pass of the run, as `models.device.batch_size` has kept it; None on a CPU, which chooses none."""
    for path in (task.work / "cache" / "batches").glob("*.json"):
        kept = json.loads(path.read_bytes())
        if (kept["asked"]["card"], kept["asked"]["precision"], kept["asked"]["compiled"]) == (
            card.digest(),
            precision,
            False,
        ):
            return int(kept["batch"])
    return None


def _flop_per_px(predictor: Predictor) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    card, side = predictor.card, round_up(256, predictor.card.stride_px)
    dtype = next(predictor.module.parameters()).dtype
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        predictor.module(torch.zeros(1, len(card.bands), side, side, device=predictor.device.kind, dtype=dtype))
    return float(counter.get_total_flops()) / side**2


def _least_bytes(card: ModelCard, precision: str) -> float:
    """Of device memory per chip pixel, at the very least: values in, the chip written and read, logits written and read."""
    width = 4 if precision == "fp32" else 2
    outputs = sum(card.sizes.values()) if card.classes else len(card.outputs) * card.scale**2
    return 2 * len(card.bands) + 2 * width * (len(card.bands) + outputs)


def _stored_bytes(card: ModelCard) -> float:
    """Per pixel of the input, from the device: class and confidence, a heat, or an image of 16-bit values."""
    if card.classes:
        return 1 if card.objects else 2
    return 2 * len(card.outputs) * card.scale**2


def _per_px(size_bytes: int | None, n_px: int) -> float | None:
    return None if size_bytes is None else round(size_bytes / n_px, 1)


def _resident(what: str) -> int:
    return next(int(line.split()[1]) * 1024 for line in _STATUS.read_text().splitlines() if line.startswith(what))
