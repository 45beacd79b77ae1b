"""What happens to one block inside a worker: read, predict, write its shards, then its marker.

Runs in a Ray actor or in this process alike, called from several threads at once: while one block is computed another
is read and a third written. Only small records leave the worker.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.ledger import BlockRecord, ShardRecord, StoredObject, marker_key
from jobs.outputs import DATA, layout_of
from jobs.plan import ScenePlan
from jobs.products.statistics import Tally, merge, tally
from models.card import ModelCard
from models.device import Device
from models.predictor import Predictor
from models.sliding import predict_block
from models.weights import fetch
from tiling.grid import pixel_areas_m2
from tiling.objects import ObjectRef
from tiling.read import read_pixels
from tiling.redact import guard_logs
from tiling.storage_env import apply
from tiling.store import open_store
from tiling.window import Block, Window
from tiling.zarr_sink import ZarrLayout

_STRIP_PX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """What a worker is made from."""

    out: ObjectRef
    device: Device
    models: tuple[tuple[ModelCard, ObjectRef], ...]
    """Cards and the folders of their weights; each is loaded once, when its first block comes."""
    threads: int
    batch: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTask:
    """One block of one scene."""

    plan: ScenePlan
    block: Block
    attempt: int
    """Number of the run's attempt, for the marker."""

    @property
    def key(self) -> str:
        return f"{self.plan.scene.id}/{self.block.name}"


class BlockWorker:
    """Holds the models of a run and computes blocks with them."""

    def __init__(self, setup: WorkerSetup) -> None:
        guard_logs()
        apply(threads=setup.threads)
        self._setup = setup
        self._store = open_store(setup.out)
        self._compute = threading.Lock()
        self._predictors: dict[str, Predictor] = {}
        self._layouts: dict[str, ZarrLayout] = {}
        for card, folder in setup.models:
            path = fetch(folder, card.weights) if card.weights else None
            self._predictors[card.digest()] = Predictor(
                card, path, setup.device, batch=setup.batch, threads=setup.threads
            )

    def __call__(self, task: BlockTask) -> BlockRecord:
        plan, block = task.plan, task.block
        started = time.perf_counter()
        pixels = read_pixels(plan.scene, plan.bands, block.read, plan.chips.halo_px)
        read = time.perf_counter()
        gain = np.array([band.scale for band in plan.bands], np.float32)
        bias = np.array([band.offset for band in plan.bands], np.float32)
        with self._compute:
            waited = time.perf_counter()
            result = predict_block(
                self._predictors[plan.card.digest()], plan.chips, block.core, block.read, pixels.values, pixels.valid,
                gain, bias,
            )  # fmt: skip
            computed = time.perf_counter()
        del pixels  # the lanes' memory is planned: values go as soon as they are used
        shards = tuple(
            self._write_shard(plan, block.core, part, {"classes": result.classes, "confidence": result.confidence})
            for part in block.core.split(plan.shard_px)
        )
        record = BlockRecord(
            block=block.name, attempt=task.attempt, shards=shards, chips=result.n_computed,
            skipped=result.n_skipped, read_s=read - started, compute_s=computed - waited,
            write_s=time.perf_counter() - computed,
        )  # fmt: skip
        self._store.put(marker_key(plan.prefix, block), record.to_json())  # after the pixels: a marker is proof
        return record

    def _write_shard(
        self, plan: ScenePlan, core: Window, part: Window, layers: dict[str, NDArray[np.uint8]]
    ) -> ShardRecord:
        layout = self._layouts.setdefault(plan.key, layout_of(plan))
        row, col = part.row_off // plan.shard_px, part.col_off // plan.shard_px
        cut = {name: pixels[part.slices(core)] for name, pixels in layers.items()}
        objects: list[tuple[str, StoredObject | None]] = []
        for name, pixels in cut.items():
            key = f"{plan.prefix}/{DATA}/{layout.shard_key(0, name, row, col)}"
            data = layout.encode_shard(name, pixels)
            if data is None:
                objects.append((name, None))
                continue
            self._store.put(key, data)
            objects.append((name, StoredObject(len(data), hashlib.sha256(data).hexdigest())))
        return ShardRecord(row=row, col=col, objects=tuple(objects), tally=_count(plan, part, **cut))


def _count(plan: ScenePlan, shard: Window, classes: NDArray[np.uint8], confidence: NDArray[np.uint8]) -> Tally:
    """What a shard holds, strip by strip: the areas of a whole shard at once would be the largest array here."""
    strips = [
        Window(shard.col_off, row, shard.width, min(_STRIP_PX, shard.row_end - row))
        for row in range(shard.row_off, shard.row_end, _STRIP_PX)
    ]
    return merge(
        tally(
            classes[strip.slices(shard)],
            confidence[strip.slices(shard)],
            pixel_areas_m2(plan.scene.grid, strip),
            len(plan.card.classes),
        )
        for strip in strips
    )
