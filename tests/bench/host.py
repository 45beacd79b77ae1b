"""What a scene costs beside its network: decode, mask, cut, answer, count, encode, hash, write and publish, by a run whose
network does nothing.

    python -m tests.bench.host SCENE MODEL [OPTION …]

A network's forward pass gives the same prepared logits for every chip, of smooth classes with some noise, so that all that
is left is the host's. Figures are processor seconds of one core, which hardly depend on what else the machine does: of each
stage without the stages that it calls, and of the process with all its threads.
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
from typing import Any
from unittest import mock

import rasterio

from earthloom.tiling.heap import ONE_ARENA
from tests.bench.command import LANDWATER_BANDS, SCENE_OPTIONS, command, large_scene

_STAGES = {
    "decode": ("earthloom.tiling.reading.read._load",),
    "read": ("earthloom.jobs.execution.worker.read_pixels",),
    "block": ("earthloom.jobs.execution.worker.BlockWorker.__call__",),
    "cut and scale": ("earthloom.models.inference.predictor.Predictor.write_normalised",),
    "network": ("earthloom.models.inference.predictor.Predictor._forward",),
    "classes": ("earthloom.jobs.execution.worker.run_chain",),
    "count": ("earthloom.jobs.products.class_map.ClassMapProduct.count",),
    "overviews": ("earthloom.tiling.writing.pyramid.Pyramid.levels_of",),
    "COG tiles": ("earthloom.jobs.publish.shards.pack",),
    "Zarr": ("earthloom.tiling.writing.zarr_sink.ZarrLayout.encode_shard",),
    "write": ("earthloom.tiling.storage.local.LocalObjects.put",),
    "publish": ("earthloom.jobs.execution.scene_worker.publish",),
    "load": ("earthloom.jobs.execution.scene_worker.BlockWorker.__init__",),
    "plan": ("earthloom.jobs.execution.driver.plan_here",),
    "driver": ("earthloom.jobs.execution.driver._run",),
    "catalogue": ("earthloom.jobs.execution.driver.tabulate", "earthloom.jobs.publish.linker.link"),
}
"""Stages by the functions that do them."""
_SIDES_PX = (4096, 8192)


def host(folder: Path) -> list[dict[str, Any]]:
    """The host's share: 4 bands of uint16 in, classes and confidence out, by a network that does nothing."""
    from tests.bench.efficiency import unet

    network = unet("resnet18", LANDWATER_BANDS[:4], folder / "unet", halo_px=0)
    rows = []
    for side_px in _SIDES_PX:
        scene = large_scene(folder / f"host-{side_px}.tif", side_px, network.bands)
        found = without_network(str(scene), network.reference)
        mpx = side_px**2 / 1e6
        rows.append(
            {"scene": f"{side_px}²", "Mpx per CPU s": f"{mpx / found['block_s']:.1f}",
             "Mpx per CPU s, whole run": f"{mpx / found['total_s']:.1f}",
             **{f"{stage}, ms/Mpx": f"{1e3 * seconds / mpx:.1f}" for stage, seconds in found["stages"].items()},
             **{f"floor: {name}, ms/Mpx": f"{1e3 * seconds / mpx:.1f}" for name, seconds in floors(scene).items()}}
        )  # fmt: skip
        scene.unlink()
    return rows


def without_network(scene: str, model: str, options: Sequence[str] = ()) -> dict[str, Any]:
    """Processor seconds of a run with an idle network, in a process of its own.

    Returns:
        `stages`, seconds of each; `total_s`, of the whole run after its imports; `block_s`, of that without planning and
        catalogue, which do not grow with the scene.
    """
    return command("tests.bench.host", scene, model, *SCENE_OPTIONS, *options, env=ONE_ARENA).printed


def floors(scene: Path) -> dict[str, float]:
    """Processor seconds of the least that any program would do: one thread decodes each tile once, into one array."""
    begun = time.thread_time()
    with rasterio.open(scene) as dataset:
        for row in range(0, dataset.height, 2048):
            for col in range(0, dataset.width, 2048):
                dataset.read(window=rasterio.windows.Window(col, row, 2048, 2048) & _whole(dataset))
    return {"decode by GDAL": time.thread_time() - begun}


def _whole(dataset: Any) -> Any:
    return rasterio.windows.Window(0, 0, dataset.width, dataset.height)


class _Meter:
    """Processor seconds by stage, of all threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open = threading.local()
        self._lock = threading.Lock()

    def around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def measured(*arguments: Any, **options: Any) -> Any:
            inner, self._open.inner = getattr(self._open, "inner", 0.0), 0.0
            begun = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                spent = time.thread_time() - begun
                with self._lock:
                    self.seconds[stage] += spent - self._open.inner
                self._open.inner = inner + spent

        return measured


@contextmanager
def _measured(meter: _Meter) -> Iterator[None]:
    """Every stage tells what it took, and no network computes."""
    from earthloom.models.inference.predictor import Predictor

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Predictor, "_forward", _idle))
        for stage, names in _STAGES.items():
            for name in names:
                owner, _, attribute = name.rpartition(".")
                real = getattr(_found(owner), attribute)
                stack.enter_context(mock.patch.object(_found(owner), attribute, meter.around(stage, real)))
        yield


def _found(name: str) -> Any:
    from pkgutil import resolve_name

    return resolve_name(name)


def _idle(predictor: Any, chips: Any, context: Any = None) -> Any:
    """Prepared logits (N, K, h, w) for chips of this shape."""
    key = tuple(chips.shape)
    if key not in (kept := predictor.__dict__.setdefault("idle", {})):
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


def main(scene: str, model: str, options: Sequence[str]) -> None:
    from earthloom.jobs.config import load
    from earthloom.jobs.execution import scene_worker  # noqa: F401 (what a run imports is not what is measured)
    from earthloom.jobs.execution.driver import run

    given = {name.removeprefix("--").replace("-", "_"): value for name, value in zip(options[::2], options[1::2], strict=True)}
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # so that GDAL decodes in the thread that asks it to
    meter = _Meter()
    with tempfile.TemporaryDirectory(prefix="earthloom-host-", dir=Path(scene).parent) as out, _measured(meter):
        for name in ("warm", "measured"):
            meter.seconds.clear()
            before = sum(os.times()[:4])
            result = run(load({**given, "scenes": (scene,), "model": model, "out": f"{out}/{name}", "executor": "local"}))
            total_s = sum(os.times()[:4]) - before
            assert result.exit_code == 0, result
    stages = {stage: meter.seconds[stage] for stage in _STAGES}
    stages["other"] = total_s - sum(stages.values())
    apart = stages["plan"] + stages["catalogue"]
    print(json.dumps({"total_s": total_s, "block_s": total_s - apart, "stages": stages}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
