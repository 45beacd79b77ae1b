"""From a configuration to a plan: which scenes, which model, which chips and blocks, how much memory and time.

Opens headers, reads no pixels, writes nothing. The plan is deterministic: the same scenes and options give the same
keys and blocks on any machine of the same device class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jobs.config import RunConfig
from jobs.key import FORMAT, digest, scene_key
from jobs.memory import MemoryPlan, predict
from jobs.sources import OpenedScene, RefusedScene, SceneOptions, assign_ids, expand, open_all
from models.card import ModelCard
from models.device import Device
from models.device import resolve as resolve_device
from models.speed import flop_per_s
from models.zoo import variants
from tiling.chips import ChipGrid, split_blocks
from tiling.errors import CardError, InputError, SceneError, TilingError
from tiling.objects import ObjectRef
from tiling.scene import Band, Scene
from tiling.storage_env import apply
from tiling.window import Block

_GIB = 2**30
_SMALLEST_CORE_PX = 256
_CHIP_COST_PX = 128**2  # what starting a chip costs, in pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenePlan:
    """One scene's share of a run; travels to the workers."""

    scene: Scene
    bands: tuple[Band, ...]
    """Those that the model reads, in channel order."""
    card: ModelCard
    folder: ObjectRef
    """Where the card and its weights lie."""
    chips: ChipGrid
    block_px: int
    shard_px: int
    precision: str
    device_class: str
    key: str
    memory: MemoryPlan

    @property
    def prefix(self) -> str:
        """Below OUT; everything of this result lies under it."""
        return f"scenes/{self.scene.id}/{self.key}"

    def blocks(self) -> Iterator[Block]:
        return split_blocks(self.chips, block_px=self.block_px, shard_px=self.shard_px)

    @property
    def n_blocks(self) -> int:
        return -(-self.scene.grid.width // self.block_px) * -(-self.scene.grid.height // self.block_px)

    @property
    def n_chips(self) -> int:
        """Chips over all blocks; a blend computes some of them in several blocks."""
        core = self.chips.core_px
        if not self.chips.blend:
            return -(-self.scene.grid.width // core) * -(-self.scene.grid.height // core)
        return sum(len(self.chips.cores(block.core)) for block in self.blocks())

    @property
    def halo_overhead(self) -> float:
        """Chip pixels computed per output pixel."""
        return self.n_chips * self.chips.chip_px**2 / self.scene.grid.window.size_px


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


def plan(config: RunConfig, device: Device | None = None) -> RunPlan:
    """Find and check all scenes and decide how each is computed.

    A scene that cannot be used is refused and named; the others are planned all the same.

    Args:
        device: what the workers compute on; default: what this machine has, by `config.device`.

    Raises:
        ConfigError: an option that concerns every scene, or no scene found.
        CardError: the model does not exist or is not complete.
        TilingError: block, shard and core do not fit each other.
    """
    apply()
    out = ObjectRef.parse(config.out)
    if out.scheme not in ("file", "s3"):
        raise InputError(f"--out {config.out}: outputs go to a folder or s3://bucket/prefix")
    device = device or resolve_device(config.device, config.precision)
    cards = variants(config.model)
    options = SceneOptions(
        sensor=config.sensor, bands=tuple((config.bands or {}).items()), nodata=config.nodata, scale=config.scale,
        offset=config.offset, quantity=config.quantity, datetime=config.datetime, scene_id=config.scene_id,
        sun_elevation_deg=config.sun_elevation,
    )  # fmt: skip
    opened = open_all(assign_ids(expand(config.scenes), config.scene_id), options)
    plans: list[ScenePlan] = []
    refused: list[RefusedScene] = []
    notes: list[tuple[str, str]] = []
    for result in opened:
        if isinstance(result, RefusedScene):
            refused.append(result)
            continue
        try:
            scene_plan, scene_notes = _plan_scene(result, cards, config, device)
        except SceneError as error:
            refused.append(RefusedScene(id=result.scene.id, message=str(error), kind=type(error).__name__))
            continue
        plans.append(scene_plan)
        notes += [(result.scene.id, note) for note in (*result.notes, *scene_notes)]
    model = cards[0][0].name
    return RunPlan(
        run_id=digest(_identity(model, device, plans, refused)), model=model, out=out, device=device,
        scenes=tuple(plans), refused=tuple(refused),
        notes=tuple(dict.fromkeys(notes)), estimated_s=_estimate(plans, device),
    )  # fmt: skip


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
    opened: OpenedScene, cards: list[tuple[ModelCard, ObjectRef]], config: RunConfig, device: Device
) -> tuple[ScenePlan, list[str]]:
    scene, notes = opened.scene, []
    names = {band.name for band in scene.bands}
    card, folder = next(((card, folder) for card, folder in cards if names >= set(card.bands)), cards[0])
    bands = scene.select(card.bands)
    if scene.quantity not in card.quantities:
        raise SceneError(
            f"{scene.id}: {card.label} wants {' or '.join(card.quantities)} but the scene's values are "
            f"{'of unknown scale' if scene.quantity == 'dn' else scene.quantity}; say what they are: --sensor <preset>, "
            "or --scale with --quantity"
        )
    if scene.quantity != card.quantities[0]:
        notes.append(f"{card.label} was trained on {card.quantities[0]}; the scene has {scene.quantity}")
    gsd_m = scene.grid.gsd_m()
    if not card.gsd_m[0] <= gsd_m <= card.gsd_m[1]:
        notes.append(
            f"pixels of {gsd_m:.3g} m lie outside the {card.gsd_m[0]:g}-{card.gsd_m[1]:g} m that {card.label} is for"
        )
    chips = _chips(scene, card, config)
    next(split_blocks(chips, block_px=config.block, shard_px=config.shard))  # refuses sizes that do not fit
    on_gpu = device.kind == "cuda"

    def memory_of(grid: ChipGrid) -> MemoryPlan:
        return predict(
            card,
            bands,
            grid,
            block_px=config.block,
            shard_px=config.shard,
            batch=config.batch or 1,
            precision=device.precision,
            on_gpu=on_gpu,
        )

    memory = memory_of(chips)
    if memory.total_bytes > config.memory_per_worker:
        smaller = [core for core in _divisors(config.shard, card.stride_px) if core < chips.core_px]
        fits = next(
            (c for c in smaller if memory_of(replace(chips, core_px=c)).total_bytes <= config.memory_per_worker), None
        )
        remedy = f"--core {fits} would fit" if fits else "a smaller --block or --batch may fit"
        raise TilingError(
            f"{scene.id}: a worker would need {memory.total_bytes / _GIB:.2f} GiB, more than --memory-per-worker "
            f"{config.memory_per_worker / _GIB:.2f} GiB, with chips of {chips.core_px} + 2 x {chips.halo_px} px; {remedy}"
        )
    key = scene_key(
        scene, bands, card, chips, shard_px=config.shard, precision=device.precision, device_class=device.device_class
    )
    planned = ScenePlan(
        scene=scene, bands=bands, card=card, folder=folder, chips=chips, block_px=config.block, shard_px=config.shard,
        precision=device.precision, device_class=device.device_class, key=key, memory=memory,
    )  # fmt: skip
    return planned, notes


def _chips(scene: Scene, card: ModelCard, config: RunConfig) -> ChipGrid:
    overlap = config.overlap or card.overlap
    if card.halo_px is None:
        raise CardError(
            f"{card.label} has no measured halo; `earthloom models measure {card.name} SCENE` finds it and writes the card"
        )
    if overlap == "exact" and card.overlap == "blend":
        raise CardError(f"{card.label} has global context, so no halo makes tiles exact; leave --overlap at blend")
    core = config.core or min(card.core_px, config.shard)
    sizes = [size for size in _divisors(config.shard, card.stride_px) if size <= core]
    if overlap == "exact" and not config.core and sizes:
        core = _cheapest_core(scene, card.halo_px, sizes)
    return ChipGrid(
        scene=scene.grid.window, core_px=core, halo_px=card.halo_px, stride_px=card.stride_px,
        blend=overlap == "blend",
    )  # fmt: skip


def _estimate(plans: Sequence[ScenePlan], device: Device) -> dict[str, float]:
    speed = flop_per_s(device) if plans else 1.0
    return {
        plan.scene.id: plan.n_chips * plan.chips.chip_px**2 * plan.card.flop_per_px / speed
        for plan in plans
        if plan.card.flop_per_px is not None
    }


def _cheapest_core(scene: Scene, halo_px: int, sizes: list[int]) -> int:
    """Any core gives the same exact map; take the one that computes the fewest pixels. `sizes` falls, and is not empty."""

    def cost(size: int) -> int:
        n_chips = -(-scene.grid.width // size) * -(-scene.grid.height // size)
        return n_chips * ((size + 2 * halo_px) ** 2 + _CHIP_COST_PX)

    return min([size for size in sizes if size >= _SMALLEST_CORE_PX] or sizes[:1], key=cost)


def _divisors(shard_px: int, stride_px: int) -> list[int]:
    """Cores that divide the shard, largest first."""
    return [core for core in range(shard_px, 0, -stride_px) if shard_px % core == 0 and core % stride_px == 0]
