"""What happens to one block inside a worker: read, predict, write its shards, then its marker.

Called from several threads at once: while some blocks are computed others are read and written. Only what a block cost
leaves the worker.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from dataclasses import dataclass, replace

from earthloom.jobs.execution.survey import needs_survey, read_surveys, stack_of, survey_scene
from earthloom.jobs.execution.tasks import BlockTask
from earthloom.jobs.planning.footprints import places_of
from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.planning.shape import WorkerShape
from earthloom.jobs.products.layout import products_of, publication_of
from earthloom.jobs.products.product import StageProduct
from earthloom.jobs.products.publication import Publication
from earthloom.jobs.publish.shards import Puts, write_shard
from earthloom.jobs.records.blocks import BlockCost, BlockRecord
from earthloom.jobs.records.markers import marker_key
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.weights import fetch
from earthloom.models.device.resolve import Device, keep_pages
from earthloom.models.inference.chain import Context, Stage, run_chain, windows
from earthloom.models.inference.footprints import Places
from earthloom.models.inference.passes import Threads, one_thread
from earthloom.models.inference.predictor import Predictor
from earthloom.tiling.heap import give_back, settle
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.reading.tile_cache import TileCache
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store

_SCENES = 64
"""Scenes of which a worker remembers what their blocks share: more than can be in its lanes."""


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A network as a stage wants it."""

    card: ModelCard
    folder: ObjectRef
    """Folder of its weights."""
    spare: ObjectRef | None
    """Folder of its weights for machines that do not have the other one."""
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
    publication: Publication
    products: tuple[StageProduct, ...]
    contexts: list[Context]
    """What the network of each stage keeps of the scene."""
    places: Places | None
    """The footprints that the last stage gives classes to, if it does."""


class BlockWorker:
    """Holds the models of a run and computes blocks with them."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._keeps_pages = keep_pages(setup.shape.kept_bytes)
        self._setup = setup
        self._store = open_store(setup.out)
        self._compute = threading.BoundedSemaphore(setup.shape.computing)
        self._puts = Puts(self._store)
        self._cache = TileCache()
        self._name = f"{platform.node()}:{os.getpid()}"
        self._lanes: dict[int, int] = {}
        self._scenes: dict[str, _KnownScene] = {}
        self._knowing = threading.Lock()
        self._predictors: dict[tuple[str, str, bool], Predictor] = {}
        with one_thread():
            self._load(Threads(setup.shape.passes))

    def _load(self, threads: Threads) -> None:
        for model in self._setup.models:
            path = fetch(model.folder, model.card.weights, spare=model.spare) if model.card.weights else None
            device = replace(self._setup.device, precision=model.precision)
            self._predictors[model.card.digest(), model.precision, model.flips] = Predictor(
                model.card,
                path,
                device,
                batch=self._setup.batch,
                threads=threads,
                flips=model.flips,
                compiled=model.compiled,
            )

    def __call__(self, task: BlockTask) -> BlockCost:
        plan, block = task.plan, task.block
        stages, bands = plan.chain.stages, plan.chain.bands
        owned = plan.owned(block.core)
        own, read = windows(stages, owned)[0]
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
            made = run_chain(stages, members, known.contexts, owned, source, wanted, known.places)
            layers = {
                name: pixels
                for product in products
                for name, pixels in product.stored(made.made[product.stage]).items()
            }
            computed = time.perf_counter()
        tables = [
            (
                part,
                {name: rows for one in products for name, rows in one.rows(made.made[one.stage], part, source).items()},
            )
            for part in block.core.split(plan.shard_px)
        ]
        del source
        made.made.clear()  # an image in floats is not held while it is written
        shards = tuple(
            write_shard(
                known.publication, part, {name: pixels[part.slices(block.core)] for name, pixels in layers.items()},
                self._puts, rows,
            )
            for part, rows in tables
        )  # fmt: skip
        cost = BlockCost(
            block=block.name, chips=made.n_computed, skipped=made.n_skipped, chip_px=made.chip_px,
            computed_px=owned.size_px, worker=self._name, lane=self._lane(),
            started_s=started_s, read_s=loaded - started, wait_s=waited - loaded, compute_s=computed - waited,
            write_s=time.perf_counter() - computed, read_bytes=read_cost.file_bytes,
            written_bytes=sum(shard.size_bytes for shard in shards), decoded_px=read_cost.decoded_px,
            source_px=read_cost.n_bands * (own & plan.scene.grid.window).size_px,
        )  # fmt: skip
        record = BlockRecord(attempt=task.attempt, shards=shards, cost=cost)
        self._store.put(
            marker_key(plan.prefix, block, plan.shard_px), record.to_json()
        )  # after the pixels: a marker is proof
        self._tidy()
        return cost

    def survey(self, plan: ScenePlan) -> tuple[str, ...]:
        """Take what the chain's networks want to know of a whole scene; what they say to the user.

        Raises:
            SceneError: if a file cannot be decoded, or a network cannot use the scene.
            StorageError: if it cannot be written.
        """
        notes = survey_scene(self._store, plan, self._members, self._compute)
        self._tidy()
        return notes

    def _tidy(self) -> None:
        """Give back what a task has freed, or of it what is more than was planned."""
        if self._keeps_pages:
            settle()
        else:
            give_back()

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
                with self._compute:  # no thread may make a GPU wait while another one records a pass
                    contexts = [
                        self._members(stage)[0].context_of(surveys[number]) if stage.card.needs_survey else None
                        for number, stage in enumerate(stages)
                    ]
                footprints = plan.chain.footprints
                places = places_of(footprints, plan.fine) if footprints else None
                known = _KnownScene(publication_of(plan), products_of(plan), contexts, places)
            self._scenes[plan.key] = known  # the latest one last
            while len(self._scenes) > _SCENES:
                del self._scenes[next(iter(self._scenes))]
            return known
