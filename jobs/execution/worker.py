"""What happens to one block inside a worker: read, predict, write its shards, then its marker.

Called from several threads at once: while some blocks are computed others are read and written. Only what a block cost
leaves the worker.
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

from earthloom.jobs.execution.survey import needs_survey, read_surveys, stack_of
from earthloom.jobs.execution.tasks import BlockTask
from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.planning.shape import WorkerShape
from earthloom.jobs.products.layout import layout_of, products_of
from earthloom.jobs.products.product import Product
from earthloom.jobs.records.blocks import BlockCost, BlockRecord, ShardRecord, StoredObject
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
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from earthloom.tiling.window import Window
from earthloom.tiling.writing.cog_parts import TileIndex, pack
from earthloom.tiling.writing.zarr_sink import ZarrLayout

_PUTS = 8
"""Objects that a worker writes at once: from far away one after another would take longer than computing."""
_SCENES = 64
"""Scenes of which a worker remembers what their blocks share: more than can be in its lanes."""


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
    shape: WorkerShape
    batch: int | None


@dataclass(frozen=True, slots=True)
class _KnownScene:
    layout: ZarrLayout
    products: tuple[Product, ...]
    contexts: list[Context]
    """Of each stage, what its network keeps of the scene's survey."""


class BlockWorker:
    """Holds the models of a run and computes blocks with them."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._keeps_pages = keep_pages(setup.shape.kept_bytes)
        self._setup = setup
        self._store = open_store(setup.out)
        self._compute = threading.BoundedSemaphore(setup.shape.computing)
        self._puts = Background(_PUTS, "put")
        self._cache = TileCache()
        self._name = f"{platform.node()}:{os.getpid()}"
        self._lanes: dict[int, int] = {}
        self._scenes: dict[str, _KnownScene] = {}
        self._knowing = threading.Lock()
        self._predictors: dict[tuple[str, str, bool], Predictor] = {}
        threads = Threads(setup.shape.passes)
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

    def __call__(self, task: BlockTask) -> BlockCost:
        plan, block = task.plan, task.block
        stages, bands = plan.chain.stages, plan.chain.bands
        own, read = windows(stages, block.core)[0]
        started_s, started = time.time(), time.perf_counter()
        known = self._known(plan)
        pixels = read_pixels(plan.scene, bands, read, stages[0].reach_px, decide=own, cache=self._cache)
        loaded = time.perf_counter()
        source, read_cost = stack_of(bands, read, pixels), pixels.cost
        del pixels  # the lanes' memory is planned: values go as soon as they are used
        with self._compute:
            waited = time.perf_counter()
            products = known.products
            wanted = frozenset(product.stage for product in products)
            members = [self._members(stage) for stage in stages]
            made = run_chain(stages, members, known.contexts, block.core, source, wanted)
            layers = {
                name: pixels
                for product in products
                for name, pixels in product.stored(made.made[product.stage]).items()
            }
            computed = time.perf_counter()
        del source
        shards = tuple(
            self._write_shard(plan, known, block.core, part, layers) for part in block.core.split(plan.shard_px)
        )  # fmt: skip
        cost = BlockCost(
            block=block.name, chips=made.n_computed, skipped=made.n_skipped, chip_px=made.chip_px,
            computed_px=sum(shard.size_px for shard in shards), worker=self._name, lane=self._lane(),
            started_s=started_s, read_s=loaded - started, wait_s=waited - loaded, compute_s=computed - waited,
            write_s=time.perf_counter() - computed, read_bytes=read_cost.file_bytes,
            written_bytes=sum(shard.size_bytes for shard in shards), decoded_px=read_cost.decoded_px,
            source_px=read_cost.n_bands * (own & plan.scene.grid.window).size_px,
        )  # fmt: skip
        record = BlockRecord(attempt=task.attempt, shards=shards, cost=cost)
        self._store.put(marker_key(plan.prefix, block), record.to_json())  # after the pixels: a marker is proof
        if not self._keeps_pages:
            give_back()
        return cost

    def _lane(self) -> int:
        """Number of the calling thread among those that have called."""
        return self._lanes.setdefault(threading.get_ident(), len(self._lanes))

    def _members(self, stage: Stage) -> list[Predictor]:
        return [self._predictors[card.digest(), stage.precision, stage.flips] for card in stage.cards]

    def _known(self, plan: ScenePlan) -> _KnownScene:
        """What all blocks of a scene share, made once per worker and scene."""
        stages = plan.chain.stages
        with self._knowing:
            if (known := self._scenes.pop(plan.key, None)) is None:
                surveys = read_surveys(self._store, plan) if needs_survey(plan) else {}
                contexts = [
                    self._members(stage)[0].context_of(surveys[number]) if stage.card.needs_survey else None
                    for number, stage in enumerate(stages)
                ]
                known = _KnownScene(layout_of(plan), products_of(plan), contexts)
            self._scenes[plan.key] = known  # the latest one last
            while len(self._scenes) > _SCENES:
                del self._scenes[next(iter(self._scenes))]
            return known

    def _write_shard(
        self, plan: ScenePlan, known: _KnownScene, core: Window, part: Window, layers: dict[str, NDArray[Any]]
    ) -> ShardRecord:  # fmt: skip
        """Write what the owner of a shard makes: its levels in the Zarr, and its tiles of all files as one object."""
        layout, products = known.layout, known.products
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
