"""The driver alone: planned blocks through Ray to workers that do nothing.

python -m tests.bench.driver 100000

Blocks are planned lazily from a scene of that many, so what is told is what the driver costs: its rate, its processor time
and its memory, which must not grow with the number of blocks.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from earthloom.cluster.executor import Task, WorkerFactory
from earthloom.cluster.outcome import Done
from earthloom.cluster.ray_pool import RayExecutor
from earthloom.cluster.resources import WorkerResources
from earthloom.cluster.session import connect
from earthloom.tiling.chips import split_blocks
from earthloom.tiling.window import Block, Window
from tests.bench.command import command

_SHARD_PX = 2048
_MIB = 2**20


def driver(_: Path) -> list[dict[str, Any]]:
    """100,000 no-op blocks, planned and dispatched by one driver to two workers on this machine."""
    found = command("tests.bench.driver", "100000").printed
    return [
        {
            "blocks": found["blocks"], "scene": f"{found['side_px']}²", "blocks/s": f"{found['blocks_per_s']:.0f}",
            "driver CPU µs a block": f"{found['cpu_us']:.0f}",
            **{f"driver MiB at {count} blocks": f"{size:.0f}" for count, size in found["resident_mib"].items()},
            "growth MiB": f"{found['growth_mib']:+.1f}",
        }
    ]  # fmt: skip


def idle(_: None) -> Callable[[Block], str]:
    """A worker that has nothing to do for a block but to name it."""
    return lambda block: block.name


def blocks(side: int) -> Iterator[Task]:
    """The tasks of a square scene of `side * side` blocks, planned as they are asked for."""
    scene = Window(0, 0, side * _SHARD_PX, side * _SHARD_PX)
    for block in split_blocks(scene, core_px=_SHARD_PX, block_px=_SHARD_PX, shard_px=_SHARD_PX):
        yield Task(key=block.name, payload=block)


def main(count: int) -> None:
    side = round(count**0.5)
    sizes: dict[int, float] = {}
    with connect("local", cpus=2):
        executor = RayExecutor(WorkerFactory(idle), workers=2, resources=WorkerResources(cpus=1))
        outcomes = executor.run(blocks(side))
        next(outcomes)
        begun, cpu = time.perf_counter(), time.process_time()
        done = 1
        for done, outcome in enumerate(outcomes, start=2):
            assert isinstance(outcome, Done)
            if done in (side**2 // 10, side**2):
                sizes[done] = _resident_bytes() / _MIB
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    early, late = sizes.values()
    print(
        json.dumps(
            {
                "blocks": done, "side_px": side * _SHARD_PX, "blocks_per_s": done / seconds, "cpu_us": cpu / done * 1e6,
                "resident_mib": sizes, "growth_mib": late - early,
            }
        )
    )  # fmt: skip


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main(int(sys.argv[1]))
