"""What happens to one block inside a worker: read, predict, write its shards, then its marker.

Runs in a Ray actor or in this process alike, called from several threads at once: while some blocks are computed others
are read and written. Only small records leave the worker.
"""

from __future__ import annotations

import hashlib
import os
import platform
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.execution.survey import stack_of, take_survey
from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products.layout import layout_of, products_of
from earthloom.jobs.products.product import Product
from earthloom.jobs.records.blocks import BlockRecord, ShardRecord, StoredObject
from earthloom.jobs.records.markers import marker_key, shard_keys, tiles_key
from earthloom.jobs.records.names import DATA
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.weights import fetch
from earthloom.models.device.resolve import Device, keep_pages
from earthloom.models.inference.chain import Context, Stage, run_chain, windows
from earthloom.models.inference.passes import Threads
from earthloom.models.inference.predictor import Predictor
from earthloom.tiling.background import Background
from earthloom.tiling.heap import give_back
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.reading.tile_cache import TileCache
from earthloom.tiling.redact import guard_logs
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import apply
from earthloom.tiling.storage.store import open_store
from earthloom.tiling.window import Block, Window
from earthloom.tiling.writing.cog_parts import TileIndex, pack
from earthloom.tiling.writing.zarr_sink import ZarrLayout

_PUTS = 8
"""Objects that a worker writes at once: from far away one after another would take longer than computing."""


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A network as a stage wants it."""

    card: ModelCard
    folder: ObjectRef
    """Where its weights lie."""
    precision: str
    flips: bool
    compiled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """What a worker is made from."""

    out: ObjectRef
    device: Device
    models: tuple[PlannedModel, ...]
    """Each is loaded once."""
    threads: int
    passes: int
    """Forward passes at once."""
    computing: int
    """Blocks that are computed at once."""
    kept_bytes: int
    """Up to which a worker keeps what one chip frees for the next; 0 where there is no memory for that."""
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
        self._keeps_pages = keep_pages(setup.kept_bytes)
        self._setup = setup
        self._store = open_store(setup.out)
        self._compute = threading.BoundedSemaphore(setup.computing)
        self._surveying = threading.Lock()
        self._puts = Background(_PUTS, "put")
        self._cache = TileCache()
        self._name = f"{platform.node()}:{os.getpid()}"
        self._lanes: dict[int, int] = {}
        self._outputs: dict[str, tuple[ZarrLayout, tuple[Product, ...]]] = {}
        self._contexts: dict[tuple[str, int], Context] = {}
        self._predictors: dict[tuple[str, str, bool], Predictor] = {}
        threads = Threads(setup.passes)
        for model in setup.models:
            path = fetch(model.folder, model.card.weights) if model.card.weights else None
            device = replace(setup.device, precision=model.precision)
            self._predictors[model.card.digest(), model.precision, model.flips] = Predictor(
                model.card,
                path,
                device,
                batch=setup.batch,
                threads=threads,
                flips=model.flips,
                compiled=model.compiled,
            )

    def __call__(self, task: BlockTask) -> BlockRecord:
        plan, block = task.plan, task.block
        stages, bands = plan.chain.stages, plan.chain.bands
        own, read = windows(stages, block.core)[0]
        started_s, started = time.time(), time.perf_counter()
        pixels = read_pixels(plan.scene, bands, read, stages[0].reach_px, decide=own, cache=self._cache)
        loaded = time.perf_counter()
        source, cost = stack_of(bands, read, pixels), pixels.cost
        del pixels  # the lanes' memory is planned: values go as soon as they are used
        with self._compute:
            waited = time.perf_counter()
            contexts = [self._context(plan, number) for number in range(len(stages))]
            products = products_of(plan)
            wanted = frozenset(product.stage for product in products)
            made = run_chain(stages, [self._members(stage) for stage in stages], contexts, block.core, source, wanted)
            layers = {
                name: pixels
                for product in products
                for name, pixels in product.stored(made.made[product.stage]).items()
            }
            computed = time.perf_counter()
        del source
        shards = tuple(self._write_shard(plan, block.core, part, layers) for part in block.core.split(plan.shard_px))
        record = BlockRecord(
            block=block.name, attempt=task.attempt, shards=shards, chips=made.n_computed, skipped=made.n_skipped,
            chip_px=made.chip_px, worker=self._name, lane=self._lane(), started_s=started_s, read_s=loaded - started,
            wait_s=waited - loaded, compute_s=computed - waited, write_s=time.perf_counter() - computed,
            read_bytes=cost.file_bytes, decoded_px=cost.decoded_px,
            source_px=cost.n_bands * (own & plan.scene.grid.window).size_px,
        )  # fmt: skip
        self._store.put(marker_key(plan.prefix, block), record.to_json())  # after the pixels: a marker is proof
        if not self._keeps_pages:
            give_back()
        return record

    def _lane(self) -> int:
        """Number of the calling thread among those that have called."""
        return self._lanes.setdefault(threading.get_ident(), len(self._lanes))

    def _members(self, stage: Stage) -> list[Predictor]:
        return [self._predictors[card.digest(), stage.precision, stage.flips] for card in stage.cards]

    def _context(self, plan: ScenePlan, number: int) -> Context:
        """What a stage keeps of the scene's survey: taken once per worker and scene, the same for every block."""
        stage = plan.chain.stages[number]
        if not stage.card.needs_survey:
            return None
        with self._surveying:
            if (plan.key, number) not in self._contexts:
                (predictor,) = self._members(stage)
                self._contexts[plan.key, number] = predictor.context_of(take_survey(plan.scene, stage.card))
            return self._contexts[plan.key, number]

    def _write_shard(self, plan: ScenePlan, core: Window, part: Window, layers: dict[str, NDArray[Any]]) -> ShardRecord:
        """Write what the owner of a shard makes: its levels in the Zarr, and its tiles of all files as one object."""
        layout, products = self._outputs.setdefault(plan.key, (layout_of(plan), products_of(plan)))
        row, col = part.row_off // plan.shard_px, part.col_off // plan.shard_px
        cut = {name: pixels[part.slices(core)] for name, pixels in layers.items()}
        keys = shard_keys(layout, row, col)
        counts = [product.count(cut, part) for product in products]
        record = ShardRecord(
            row=row, col=col, objects=tuple((key, None) for _, _, key in keys),
            tally=next((counted.tally for counted in counts if counted.tally), None),
            sums=tuple(pair for counted in counts for pair in counted.sums.items()),
        )  # fmt: skip
        if not any(total.valid for _, total in record.sums):
            return record  # a reader sees the fill value where nothing is stored
        levels: dict[tuple[int, str], NDArray[Any]] = {}
        packed: list[tuple[str, bytes, TileIndex]] = []
        for raster in [raster for product in products for raster in product.rasters]:
            made = layout.pyramid.levels_of(np.stack([cut[layer] for layer in raster.layers]), raster.reduce)
            packed.append((raster.file, *pack(raster.profile, layout.pyramid, made)))
            levels |= {
                (level, layer): band
                for level, pixels in enumerate(made[: layout.pyramid.own + 1])
                for layer, band in zip(raster.layers, pixels, strict=True)
            }
        tiles = self._put(tiles_key(plan.prefix, row, col), b"".join(data for _, data, _ in packed))
        puts = [
            (key, self._put(f"{plan.prefix}/{DATA}/{key}", data) if data is not None else None)
            for level, layer, key in keys
            for data in [layout.encode_shard(level, layer, levels[level, layer])]
        ]
        return replace(
            record, objects=tuple((key, put.result() if put else None) for key, put in puts), tiles=tiles.result(),
            files=tuple((file, index) for file, _, index in packed),
        )  # fmt: skip

    def _put(self, key: str, data: bytes) -> Future[StoredObject]:
        """Write an object while this thread goes on."""

        def write() -> StoredObject:
            self._store.put(key, data)
            return StoredObject(len(data), hashlib.sha256(data).hexdigest())

        return self._puts.submit(write)
