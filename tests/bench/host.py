"""What a scene costs beside its network: decode, mask, cut, answer, count, encode, hash, write and publish.

    python -m tests.bench.host SCENE MODEL idle|computing [OPTION VALUE …]

The same run of the local executor, in one process, with a network that does nothing (`idle`) or with its own. An idle
network gives the same prepared logits for every chip, of smooth classes with some noise, so that all that is left is the
host's; it runs on one core, so that GDAL decodes in the thread that asks it to. Figures are processor seconds, which depend
less on what else the machine does than times do: of each stage without the stages that it calls, and of the process with
all its threads. What does not grow with the scene is apart: planning with the process that checks headers, loading the
network, and catalogues.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest import mock

from tests.bench.command import LANDWATER_BANDS, SCENE_OPTIONS, command, large_scene

_BLOCK = "earthloom.jobs.execution.worker.BlockWorker"
_STAGES = {
    "decode": ("earthloom.tiling.reading.read.load_own",),
    "read": ("earthloom.jobs.execution.worker.read_pixels",),
    "cut and scale": ("earthloom.models.inference.predictor.Predictor.write_normalised",),
    "network": ("earthloom.models.inference.predictor.Predictor._forward",),
    "classes": ("earthloom.jobs.execution.worker.run_chain",),
    "count": ("earthloom.jobs.products.class_map.ClassMapProduct.count",),
    "overviews": ("earthloom.tiling.writing.pyramid.Pyramid.levels_of",),
    "COG tiles": ("earthloom.jobs.publish.shards.pack",),
    "Zarr": ("earthloom.tiling.writing.zarr_sink.ZarrLayout.encode_shard",),
    "write": ("earthloom.tiling.storage.local.LocalObjects.put",),
    "publish": ("earthloom.jobs.execution.scene_worker.publish",),
}
_APART = {
    "load": (f"{_BLOCK}._load",),
    "plan": ("earthloom.jobs.execution.driver.plan_here",),
    "catalogue": ("earthloom.jobs.publish.entering.tabulate", "earthloom.jobs.publish.linker.link"),
}
"""Stages by the functions that do them."""
_SIDES_PX = (4096, 8192)


def host(folder: Path) -> list[dict[str, Any]]:
    """The host's share: 4 bands of uint16 in, classes and confidence out, by a network that does nothing, on one core."""
    from tests.bench.against_bare import unet

    network = unet("resnet18", LANDWATER_BANDS[:4], folder / "unet", halo_px=0)
    rows = []
    for side_px in _SIDES_PX:
        scene = large_scene(folder / f"host-{side_px}.tif", side_px, network.bands)
        found, mpx = measured(str(scene), network.reference, "idle"), side_px**2 / 1e6
        row: dict[str, Any] = {"scene": f"{side_px}²", "Mpx per CPU s": f"{mpx / found['cpu_s']:.1f}"}
        for stage, seconds in found["stages"].items():
            row[f"{stage}, ms/Mpx"] = f"{1e3 * seconds / mpx:.1f}"
        rows.append(row)
        scene.unlink()
    return rows


def measured(scene: str, model: str, how: str, options: Sequence[str] = ()) -> dict[str, Any]:
    """A run in a process of its own, the second one there: what is imported and cached once is no part of it.

    Args:
        how: `idle` or `computing`.

    Returns:
        `stages`, processor seconds of each; `cpu_s`, of all that grows with the scene; `span_s`, from the first block's
        begin to the scene's publication; `chip_px` that went through the network.
    """
    return command(
        "tests.bench.host", scene, model, how, *SCENE_OPTIONS, *options, env={"MALLOC_ARENA_MAX": "1"}
    ).printed


class _Meter:
    """Processor seconds by stage, of all threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.moments: list[float] = []
        """When blocks and publications began and ended."""
        self._open = threading.local()
        self._lock = threading.Lock()

    def around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            inner, self._open.inner = getattr(self._open, "inner", 0.0), 0.0
            began, begun = time.perf_counter(), time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                spent = time.thread_time() - begun
                with self._lock:
                    self.seconds[stage] += spent - self._open.inner
                    if stage in ("block", "publish"):
                        self.moments += [began, time.perf_counter()]
                self._open.inner = inner + spent

        return timed


@contextmanager
def _metered(meter: _Meter, *, idle: bool) -> Iterator[None]:
    with ExitStack() as stack:
        if idle:
            from earthloom.models.inference.predictor import Predictor

            stack.enter_context(mock.patch.object(Predictor, "_forward", _prepared))
        for stage, names in {**_STAGES, **_APART, "block": (f"{_BLOCK}.__call__",)}.items():
            for name in names:
                owner, _, attribute = name.rpartition(".")
                real = getattr(resolve_name(owner), attribute)
                stack.enter_context(mock.patch.object(resolve_name(owner), attribute, meter.around(stage, real)))
        yield


def _prepared(predictor: Any, chips: Any, *_: Any) -> Any:
    """Logits (N, K, h, w) for chips of this shape, made once."""
    key = tuple(chips.shape)
    if key not in (kept := predictor.__dict__.setdefault("prepared", {})):
        kept[key] = _logits(len(predictor.card.classes), chips)
    return kept[key]


def _logits(n_classes: int, chips: Any) -> Any:
    """Smooth over some 60 pixels, with a little noise, as those of a trained network are."""
    import torch

    made = torch.Generator().manual_seed(0)
    n_chips, _, height, width = chips.shape
    coarse = torch.randn(n_chips, n_classes, height // 64 + 2, width // 64 + 2, generator=made)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    noise = torch.randn(n_chips, n_classes, height, width, generator=made)
    logits = (4 * smooth + 0.1 * noise).to(chips.dtype)
    return logits.contiguous(memory_format=torch.channels_last)


def main(scene: str, model: str, how: str, options: Sequence[str]) -> None:
    if how == "idle":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before torch and GDAL count the cores
    from earthloom.jobs.config import load
    from earthloom.jobs.execution import scene_worker  # noqa: F401 (what a run imports is not what is measured)
    from earthloom.jobs.execution.driver import run

    named = dict(zip(options[::2], options[1::2], strict=True))
    given = {name.removeprefix("--").replace("-", "_"): value for name, value in named.items()}
    meter = _Meter()
    with tempfile.TemporaryDirectory(prefix="earthloom-host-", dir=Path(scene).parent) as out:
        with _metered(meter, idle=how == "idle"):
            for name in ("warm", "measured"):
                meter.seconds.clear()
                meter.moments.clear()
                before = os.times()
                result = run(
                    load({**given, "scenes": (scene,), "model": model, "out": f"{out}/{name}", "executor": "local"})
                )
                after = os.times()
                assert result.exit_code == 0, result
    own_s = after.user + after.system - before.user - before.system  # without the process that checks headers
    cpu_s = own_s - sum(meter.seconds[stage] for stage in _APART)
    stages = {stage: meter.seconds[stage] for stage in _STAGES}
    print(
        json.dumps(
            {"cpu_s": cpu_s, "stages": {**stages, "other": cpu_s - sum(stages.values())},
             "span_s": max(meter.moments) - min(meter.moments), "chip_px": result.telemetry["chip_px"]}
        )
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
