"""What a worker does at once of one scene: as much as the limit of its memory and the machine's room allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from earthloom.jobs.config import RunConfig
from earthloom.jobs.planning.chain import ChainPlan
from earthloom.jobs.planning.chips import divisors
from earthloom.jobs.planning.memory import AHEAD, FAR_AHEAD, MemoryPlan, predict
from earthloom.jobs.planning.shape import result_sides
from earthloom.models.device.resolve import Device
from earthloom.tiling.errors import TilingError
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.scene import Scene
from earthloom.tiling.storage.objects import ObjectRef

_GIB = 2**30


def memory_within(
    scene: Scene, chain: ChainPlan, config: RunConfig, device: Device, most: int, room_bytes: int,
    weights_bytes: Mapping[ObjectRef, int],
) -> tuple[MemoryPlan, str]:  # fmt: skip
    """The memory of a worker that does as much at once as it may; and a note where that is less than it could.

    Args:
        most: passes at once for which there is work.
        room_bytes: a worker's share of the machine.
        weights_bytes: by the folder of a model.

    Raises:
        TilingError: if one pass at once takes more than `memory_per_worker`; it says what would do.
    """
    on_gpu, last, limit_bytes = device.kind == "cuda", chain.stages[-1], config.engine.memory_per_worker
    block_px, shard_px = result_sides(config.block, config.shard, chain.pixel_px)
    read = (*chain.bands, *(clear.band for clear in scene.clear))
    network_bytes = sum(weights_bytes.get(folder, 0) for folder in {folder for _, folder in chain.folders})

    def memory_of(core_px: int, passes: int = 1, ahead: int = AHEAD, *, keeps_pages: bool = False) -> MemoryPlan:
        changed = replace(last, chips=replace(last.chips, core_px=core_px))
        return predict(
            (*chain.stages[:-1], changed), read, chain.stored_bytes, block_px=block_px, shard_px=shard_px,
            pixel_px=chain.pixel_px, table_bytes=chain.table_bytes, batch=config.batch or 1, on_gpu=on_gpu, passes=passes,
            ahead=ahead, keeps_pages=keeps_pages, network_bytes=network_bytes,
        )  # fmt: skip

    def fits(memory: MemoryPlan) -> bool:
        return memory.total_bytes <= min(limit_bytes, room_bytes)

    core_px = last.chips.core_px
    sizes = [memory_of(core_px, passes) for passes in range(most, 0, -1)]  # above all every core has work
    memory = next(filter(fits, sizes), sizes[-1])
    passes = memory.shape.passes
    if not on_gpu and any(card.weights for stage in chain.stages for card in stage.cards):
        keeping = memory_of(core_px, passes, keeps_pages=True)  # a sixth of the time of a network
        memory = keeping if fits(keeping) else memory
    if on_gpu or any(scene.assets[band.asset].ref.scheme != "file" for band in read):
        keeps = bool(memory.shape.kept_bytes)
        deeper = (memory_of(core_px, passes, ahead, keeps_pages=keeps) for ahead in range(FAR_AHEAD, AHEAD, -1))
        memory = next(filter(fits, deeper), memory)
    if memory.total_bytes > limit_bytes:  # not by the room: what the machine has may still change
        raise _too_large(scene, chain, config, memory, memory_of)
    if passes == most:
        return memory, ""
    remedy = f"; {_allow(sizes[0].total_bytes)}" if sizes[0].total_bytes <= room_bytes else ""
    return memory, f"memory for {passes} chips at once where {most} could be computed{remedy}"


def _too_large(
    scene: Scene, chain: ChainPlan, config: RunConfig, memory: MemoryPlan, memory_of: Callable[[int], MemoryPlan]
) -> TilingError:
    """The error that a worker may not have the memory that it needs, with the largest core that would do, or the limit."""
    last, limit_bytes = chain.stages[-1], config.engine.memory_per_worker
    remedy = _allow(memory.total_bytes)
    if chain.pixel_px == 1:  # what a label is about is no matter of memory
        least_px = 2 * last.chips.halo_px if last.chips.blend else 1  # or ramps of a cross-fade would meet
        sizes_px = divisors(config.shard // last.card.scale, last.chips.stride_px)
        smaller = (core for core in sizes_px if least_px <= core < last.chips.core_px)
        if found := next((core for core in smaller if memory_of(core).total_bytes <= limit_bytes), None):
            remedy = f"`core={found}` would fit"
    if memory.idle_bytes > limit_bytes:
        remedy = f"{memory.idle_bytes / _GIB:.2f} GiB of it before the first block, weights included; {remedy}"
    return TilingError(
        f"{scene.id}: a worker would need {memory.total_bytes / _GIB:.2f} GiB, more than "
        f"`memory_per_worker` {limit_bytes / _GIB:.2f} GiB, with chips of {last.chips.core_px} + 2 x "
        f"{last.chips.halo_px} px; {remedy}"
    )


def _allow(size_bytes: int) -> str:
    return f"`memory_per_worker={ceil_div(size_bytes, _GIB)}GiB` would do"
