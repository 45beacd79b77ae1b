"""What a worker does at once of one scene: as much as the limit of its memory and the machine's room allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from earthloom.jobs.config import RunConfig
from earthloom.jobs.planning.chain import ChainPlan
from earthloom.jobs.planning.chips import divisors
from earthloom.jobs.planning.memory import AHEAD, FAR_AHEAD, MemoryPlan, Work, predict
from earthloom.jobs.planning.shape import result_sides
from earthloom.tiling.errors import TilingError
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.scene import Scene
from earthloom.tiling.storage.objects import ObjectRef

_GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What all scenes of a run share."""

    on_gpu: bool
    most_passes: int
    """Forward passes at once for which there is work."""
    n_blocks: int
    n_scenes: int
    """Blocks and scenes of the run."""
    room_bytes: int
    """A worker's share of the machine."""
    weights_bytes: Mapping[ObjectRef, int]
    """Size of the weights by the folder of a model, in fp32."""


def memory_within(scene: Scene, chain: ChainPlan, config: RunConfig, means: Means) -> tuple[MemoryPlan, str]:
    """The memory of a worker that does as much at once as it may; and a note where that is less than it could.

    Raises:
        TilingError: if one pass at once takes more than `memory_per_worker`; it says what would do.
    """
    work, limit_bytes = work_of(scene, chain, config, means), config.engine.memory_per_worker

    def fits(memory: MemoryPlan) -> bool:
        return memory.total_bytes <= min(limit_bytes, means.room_bytes)

    sizes = [
        predict(work, passes=passes) for passes in range(means.most_passes, 0, -1)
    ]  # above all every core has work
    memory = next(filter(fits, sizes), sizes[-1])
    passes = memory.shape.passes
    if not work.on_gpu and any(card.weights for stage in chain.stages for card in stage.cards):
        keeping = predict(work, passes=passes, keeps_pages=True)  # a sixth of the time of a network
        memory = keeping if fits(keeping) else memory
    if work.on_gpu or any(scene.assets[band.asset].ref.scheme != "file" for band in work.bands):
        keeps = bool(memory.shape.kept_bytes)
        deeper = (predict(work, passes=passes, ahead=n, keeps_pages=keeps) for n in range(FAR_AHEAD, AHEAD, -1))
        memory = next(filter(fits, deeper), memory)
    if memory.total_bytes > limit_bytes:  # not by the room: what the machine has may still change
        raise _too_large(scene, chain, config, memory, work)
    if passes == means.most_passes:
        return memory, ""
    remedy = f"; {_allow(sizes[0].total_bytes)}" if sizes[0].total_bytes <= means.room_bytes else ""
    return memory, f"memory for {passes} chips at once where {means.most_passes} could be computed{remedy}"


def work_of(scene: Scene, chain: ChainPlan, config: RunConfig, means: Means) -> Work:
    """What the workers have to do of a scene."""
    block_px, shard_px = result_sides(config.block, config.shard, chain.pixel_px)
    return Work(
        stages=chain.stages, bands=(*chain.bands, *(clear.band for clear in scene.clear)), stored_bytes=chain.stored_bytes,
        has_wide_layers=any(np.dtype(image.dtype).itemsize > 1 for image in chain.images), table_bytes=chain.table_bytes,
        block_px=block_px, shard_px=shard_px, pixel_px=chain.pixel_px,
        network_bytes=sum(means.weights_bytes.get(folder, 0) for folder in {folder for _, folder in chain.folders}),
        batch=config.batch or 1, on_gpu=means.on_gpu, n_blocks=means.n_blocks, n_scenes=means.n_scenes,
    )  # fmt: skip


def _too_large(scene: Scene, chain: ChainPlan, config: RunConfig, memory: MemoryPlan, work: Work) -> TilingError:
    """The error that a worker may not have the memory that it needs, with the largest core that would do, or the limit."""
    last, limit_bytes = chain.stages[-1], config.engine.memory_per_worker
    remedy = _allow(memory.total_bytes)
    if chain.pixel_px == 1:  # what a label is about is no matter of memory
        least_px = 2 * last.chips.halo_px if last.chips.blend else 1  # or ramps of a cross-fade would meet
        sizes_px = divisors(config.shard // last.card.scale, last.chips.stride_px)
        smaller = (core for core in sizes_px if least_px <= core < last.chips.core_px)
        if core := next((core for core in smaller if _with_core(work, core).total_bytes <= limit_bytes), None):
            remedy = f"`core={core}` would fit"
    if memory.idle_bytes > limit_bytes:
        remedy = f"{memory.idle_bytes / _GIB:.2f} GiB of it before the first block, weights included; {remedy}"
    return TilingError(
        f"{scene.id}: a worker would need {memory.total_bytes / _GIB:.2f} GiB, more than "
        f"`memory_per_worker` {limit_bytes / _GIB:.2f} GiB, with chips of {last.chips.core_px} + 2 x "
        f"{last.chips.halo_px} px; {remedy}"
    )


def _with_core(work: Work, core_px: int) -> MemoryPlan:
    *before, last = work.stages
    return predict(replace(work, stages=(*before, replace(last, chips=replace(last.chips, core_px=core_px)))))


def _allow(size_bytes: int) -> str:
    return f"`memory_per_worker={ceil_div(size_bytes, _GIB)}GiB` would do"
