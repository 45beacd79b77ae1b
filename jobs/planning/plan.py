"""From a configuration to a plan: which scenes, which model, which chips and blocks, how much memory and time.

Opens headers, reads no pixels but a few windows of dates that are to be compared, writes nothing. The plan is deterministic:
the same scenes and options give the same keys and blocks on any machine of the same device class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from earthloom.jobs.config import RunConfig
from earthloom.jobs.intake.grids import read_aoi
from earthloom.jobs.intake.pairs import open_pairs
from earthloom.jobs.intake.permanent_water import with_permanent_water
from earthloom.jobs.intake.references import SceneRequest
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, assign_ids, expand, open_all, refused_scene
from earthloom.jobs.intake.wanted import Wanted
from earthloom.jobs.planning.binding import bind_all
from earthloom.jobs.planning.chain import ChainPlan
from earthloom.jobs.planning.chips import undecided
from earthloom.jobs.planning.footprints import find_footprints
from earthloom.jobs.planning.key import scene_key
from earthloom.jobs.planning.limit import Means, memory_within
from earthloom.jobs.planning.memory import MemoryPlan
from earthloom.jobs.planning.pan import check_pan
from earthloom.jobs.planning.resources import Share, here, share
from earthloom.jobs.planning.shape import WorkerShape, common, result_sides
from earthloom.jobs.planning.words import ChainModel, load_models, product_name
from earthloom.jobs.records.canonical import FORMAT, digest
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.weights import size_bytes
from earthloom.models.device.resolve import Device, keep_pages
from earthloom.models.device.resolve import resolve as resolve_device
from earthloom.models.device.speed import flop_per_s
from earthloom.models.inference.chain import windows
from earthloom.tiling.chips import ChipGrid, split_blocks
from earthloom.tiling.errors import ConfigError, InputError, SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.read import CELL_PX
from earthloom.tiling.reading.tile_cache import CACHE_BYTES
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.scene import Scene
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import apply
from earthloom.tiling.window import Block, Window

T = TypeVar("T")

_PLENTY = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenePlan:
    """One scene's share of a run; travels to the workers."""

    scene: Scene
    chain: ChainPlan
    block_px: int
    shard_px: int
    device_class: str
    key: str
    memory: MemoryPlan

    @property
    def prefix(self) -> str:
        """Prefix below OUT under which everything of this result lies."""
        return f"scenes/{self.scene.id}/{self.key}"

    @property
    def product(self) -> str:
        """Name of its collection and of its files."""
        return self.chain.product

    @property
    def card(self) -> ModelCard:
        """Card of the stage that gives the result its classes or bands."""
        return self.chain.stages[self.chain.main].card

    @property
    def cards(self) -> tuple[ModelCard, ...]:
        """Cards of all stages, in their order, each once."""
        return tuple(dict.fromkeys(card for stage in self.chain.stages for card in stage.cards))

    @property
    def chips(self) -> ChipGrid:
        """Chips of the stage that gives the result, in pixels of its input."""
        return self.chain.stages[self.chain.main].chips

    @property
    def fine(self) -> Grid:
        """Grid of the last stage's output."""
        return self.scene.grid.refine(self.chain.scale)

    @property
    def grid(self) -> Grid:
        """Grid of the result: that of the last stage, or, if chips are labelled, one pixel for each of their cores."""
        side = self.chain.pixel_px
        return self.fine.reduce(side) if side > 1 else self.fine

    def owned(self, core: Window) -> Window:
        """What a block that owns `core` of the result owns of the last stage's output."""
        return core.zoom(self.chain.pixel_px) & self.fine.window

    def blocks(self) -> Iterator[Block]:
        last = self.chain.stages[-1]
        core_px = last.chips.core_px * last.card.scale if self.chain.pixel_px == 1 else 1
        return split_blocks(
            self.grid.window, core_px=core_px, block_px=self.block_px, shard_px=self.shard_px, strip=self.strip
        )

    @property
    def strip(self) -> int | None:
        """Blocks side by side in a strip whose shared tiles a worker can keep (`tiling.reading.tile_cache`)."""
        first, side_px = self.chain.stages[0], self.block_px * self.chain.pixel_px // self.chain.scale
        if not first.reach_px:
            return None
        shared_px = 4 * CELL_PX * (side_px + CELL_PX)  # two cells along the right and the bottom edge
        pixel_bytes = len(self.chain.bands) * np.result_type(*(band.dtype for band in self.chain.bands)).itemsize
        return max(1, CACHE_BYTES // (shared_px * pixel_bytes))

    @property
    def n_blocks(self) -> int:
        return ceil_div(self.grid.width, self.block_px) * ceil_div(self.grid.height, self.block_px)

    @property
    def n_chips(self) -> int:
        """Chips of all stages over all blocks; where blocks overlap in what they read, some are computed twice."""
        return sum(self._chips_by_stage())

    @property
    def chip_px(self) -> int:
        """Chip pixels of all stages."""
        stages = self.chain.stages
        return sum(n * stage.chip_px**2 for n, stage in zip(self._chips_by_stage(), stages, strict=True))

    @property
    def flop(self) -> float | None:
        """Floating-point operations of all chips; None where a card does not say."""
        total = 0.0
        for n, stage in zip(self._chips_by_stage(), self.chain.stages, strict=True):
            for card in stage.cards:
                if card.flop_per_px is None:
                    return None
                total += n * stage.chip_px**2 * card.flop_per_px * (4 if stage.flips else 1)
        return total

    @property
    def halo_overhead(self) -> float:
        """Chip pixels computed per pixel of the scene."""
        return self.chip_px / self.scene.grid.window.size_px

    def _chips_by_stage(self) -> list[int]:
        stages = self.chain.stages
        if len(stages) == 1 and self.chain.footprints:
            return [self.chain.n_footprints]
        if len(stages) == 1 and not stages[0].chips.blend:
            core_px, grid = stages[0].chips.core_px, self.scene.grid
            return [ceil_div(grid.width, core_px) * ceil_div(grid.height, core_px)]
        counts = [0] * len(stages)
        for block in self.blocks():
            for number, (own, _) in enumerate(windows(stages, self.owned(block.core))):
                counts[number] += len(stages[number].chips.cores(own))
        if self.chain.footprints:
            counts[-1] = self.chain.n_footprints
        return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What a run will do, before it does anything."""

    run_id: str
    model: str
    out: ObjectRef
    device: Device
    scenes: tuple[ScenePlan, ...]
    refused: tuple[RefusedScene, ...]
    notes: tuple[tuple[str, str], ...]
    """Assumptions and warnings to show to the user: (scene id, text)."""
    estimated_s: Mapping[str, float]
    """Rough computing time by scene on one worker like this machine; no part of the plan's identity."""

    def document(self) -> dict[str, object]:
        """What `plan.json` holds: it follows from the run id, whoever writes it."""
        return {
            "format": FORMAT,
            "run_id": self.run_id,
            **_identity(self.model, self.device, self.scenes, self.refused),
        }

    @property
    def worker_bytes(self) -> int:
        """Predicted peak of the worker that has the largest blocks."""
        return max((plan.memory.total_bytes for plan in self.scenes), default=0)

    @property
    def shape(self) -> WorkerShape:
        """What one worker does at once that all scenes have memory for."""
        return common(plan.memory.shape for plan in self.scenes)


def plan(
    config: RunConfig, device: Device | None = None, given: Share | None = None,
    requests: Sequence[SceneRequest] | None = None, speed: float | None = None,
) -> RunPlan:  # fmt: skip
    """Find and check all scenes and decide how each is computed.

    A scene that cannot be used is refused and named; the others are planned all the same.

    Args:
        device: what the workers compute on; default: what this machine has, by `config.device`.
        given: what a worker gets; default: its share of this machine.
        requests: scenes that are found already; default: those that `config.scenes` names.
        speed: floating-point operations per second of one worker; default: that of this machine, measured.

    Raises:
        ConfigError: an option that concerns every scene, or no scene found.
        CardError: the model does not exist or is not complete.
        TilingError: block, shard and core do not fit each other.
    """
    apply()
    out = _output(config.out)
    device = device or resolve_device(config.device, config.precision)
    on_gpu = device.kind == "cuda"
    given = given or share(config.engine, on_gpu=False, nodes=here())
    models = load_models(config)
    aoi = read_aoi(config.onto) if config.onto else None
    onto = aoi.grid(config.shard) if aoi else None
    footprints = find_footprints(config)
    found = expand(config.scenes, config.scene.alternate) if requests is None else requests
    opened = _open(assign_ids(found, config.scene.scene_id), config, models, onto)
    results = bind_all(opened, models, config, device, footprints)
    bound = [result for result in results if not isinstance(result, RefusedScene)]
    refused = [result for result in results if isinstance(result, RefusedScene)]
    means = Means(
        on_gpu=on_gpu,
        most_passes=1 if on_gpu else min(given.threads, max(1, sum(_n_parts(chain, config) for _, chain in bound))),
        n_blocks=sum(_n_blocks(chain, config) for _, chain in bound), n_scenes=len(bound),
        room_bytes=_PLENTY if on_gpu or given.memory_bytes is None else given.memory_bytes,
        weights_bytes={folder: size_bytes(folder) for model in models for member in model.members for card, folder in member
                       if card.weights},
    )  # fmt: skip
    plans: list[ScenePlan] = []
    notes: list[tuple[str, str]] = []
    grid_notes = aoi.notes(config.shard) if aoi else ()
    kept: dict[object, Any] = {}

    def same(part: T) -> T:
        """The first of all parts that equal this one: scenes of one sensor differ in little, and a run may have 100,000."""
        first: T = kept.setdefault(part, part)
        return first

    for result, chain in bound:
        try:
            pan_notes = check_pan(result.scene, result.grids, [card for stage in chain.stages for card in stage.cards])
            scene_plan, scene_notes = _plan_scene(result.scene, chain, config, device, means)
        except SceneError as error:
            refused.append(refused_scene(result.scene, error))
            continue
        shared = replace(scene_plan.scene, bands=same(scene_plan.scene.bands), clear=same(scene_plan.scene.clear))
        plans.append(replace(scene_plan, scene=shared, chain=same(scene_plan.chain), memory=same(scene_plan.memory)))
        notes += [(result.scene.id, note) for note in (*result.notes, *grid_notes, *pan_notes, *scene_notes)]
    model = product_name(models)
    return RunPlan(
        run_id=digest(_identity(model, device, plans, refused)), model=model, out=out, device=device, scenes=tuple(plans),
        refused=tuple(refused), notes=tuple(dict.fromkeys(notes)), estimated_s=_estimate(plans, device, speed),
    )  # fmt: skip


def _open(
    requests: Sequence[SceneRequest], config: RunConfig, models: Sequence[ChainModel], onto: Grid | None
) -> list[OpenedScene | RefusedScene]:
    """The scenes with all that belongs to them: permanent water, and the earlier scene of a pair."""
    cards = [[card for card, _ in member] for model in models for member in model.members]
    wanted = Wanted.by(cards)
    opened = open_all(requests, config.scene, onto=onto, models=wanted)
    if config.permanent_water:
        opened = with_permanent_water(opened, config.permanent_water)
    return open_pairs(
        opened, config.before, config.scene, [card for variants in cards for card in variants], onto, wanted
    )


def _output(text: str) -> ObjectRef:
    """The place that a run writes to."""
    out = ObjectRef.parse(text)
    if out.scheme not in ("file", "s3"):
        raise InputError(f"`out` {text}: outputs go to a folder or s3://bucket/prefix")
    taken = (path for path in (out.path, *out.path.parents) if path.is_file()) if out.scheme == "file" else ()
    if file := next(iter(taken), None):
        raise ConfigError(f"`out={text}`: {file} is a file, not a folder; name a folder, which need not exist yet")
    return out


def _identity(
    model: str, device: Device, scenes: Sequence[ScenePlan], refused: Sequence[RefusedScene]
) -> dict[str, object]:
    """All that makes one run another one: what was asked for, not in which order, nor who computes it how fast."""
    return {
        "model": model, "device": device.device_class, "precision": device.precision,
        "scenes": {p.scene.id: {"key": p.key, "prefix": p.prefix, "model": p.card.label} for p in scenes},
        "refused": sorted(scene.id for scene in refused),
    }  # fmt: skip


def _plan_scene(
    scene: Scene, chain: ChainPlan, config: RunConfig, device: Device, means: Means
) -> tuple[ScenePlan, list[str]]:
    """A scene's plan and notes."""
    block_px, shard_px = result_sides(config.block, config.shard, chain.pixel_px)
    memory, fewer = memory_within(scene, chain, config, means)
    key = scene_key(
        scene, chain.bands, chain.stages, chain.images, chain.footprints, shard_px=shard_px, device_class=device.device_class,
    )  # fmt: skip
    planned = ScenePlan(
        scene=scene, chain=chain, block_px=block_px, shard_px=shard_px, device_class=device.device_class, key=key,
        memory=memory,
    )  # fmt: skip
    next(planned.blocks())  # refuses sizes that do not fit
    whole = planned.chips.scene
    notes = [*chain.notes, undecided(planned.card, whole.width, whole.height), fewer]
    unknown = (card for stage in chain.stages for card in stage.cards if card.weights and not card.memory)
    if (card := next(unknown, None)) is not None:
        notes.append(
            f"the card of {card.label} does not say what memory a chip takes, so none is planned for it; "
            "`earthloom models measure MODEL SCENE` writes it there"
        )
    return planned, [note for note in notes if note]


def _n_parts(chain: ChainPlan, config: RunConfig) -> int:
    """Forward passes over all of a scene, of the stage that has most."""
    sizes = [(stage.chips.scene, stage.chips.core_px) for stage in chain.stages]
    counts = [ceil_div(scene.width, core_px) * ceil_div(scene.height, core_px) for scene, core_px in sizes]
    if chain.footprints:
        counts[-1] = max(1, chain.n_footprints)
    return max(ceil_div(count, config.batch or 1) for count in counts)


def _n_blocks(chain: ChainPlan, config: RunConfig) -> int:
    """Blocks of a scene, whoever has computed some of them before."""
    last, (block_px, _) = chain.stages[-1], result_sides(config.block, config.shard, chain.pixel_px)
    fine, side_px = last.chips.scene.zoom(last.card.scale), block_px * chain.pixel_px
    return ceil_div(fine.width, side_px) * ceil_div(fine.height, side_px)


def _estimate(plans: Sequence[ScenePlan], device: Device, speed: float | None) -> dict[str, float]:
    if plans and speed is None:
        keep_pages(common(plan.memory.shape for plan in plans).kept_bytes)  # the first tensor is near
        speed = flop_per_s(device)
    return {plan.scene.id: flop / (speed or 1.0) for plan in plans if (flop := plan.flop) is not None}
