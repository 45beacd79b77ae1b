"""How much of what these cores can do a run gets: against its network's bare passes and its host path, side by side.

The limit of a run on a processor is not its network alone, for the same cores decode, encode and write: it is as many bare
forward passes as there are chips, and beside them what the run costs with a network that does nothing (the bench `host`).
Both are measured on the same machine just before and after the run, in processor seconds and in time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.bench.against_bare import LANDWATER, Network, unet
from tests.bench.command import LANDWATER_BANDS, command, large_scene
from tests.bench.host import measured

_SIDES_PX = (2048, 4096)
_CHIPS = 8
"""Of a bare pass: some seconds on two cores."""


def limit(folder: Path) -> list[dict[str, Any]]:
    """A run against bare passes over its chips and its host path, on the same cores, start and catalogues apart."""
    networks = (LANDWATER, unet("resnet18", LANDWATER_BANDS[:4], folder / "unet-resnet18"))
    rows = []
    for network in networks:
        for side_px in _SIDES_PX:
            scene = large_scene(folder / f"{network.label}-{side_px}.tif", side_px, network.bands)
            rows.append(against_limit(network, side_px, str(scene)))
            scene.unlink()
    return rows


def against_limit(network: Network, side_px: int, scene: str) -> dict[str, Any]:
    """One run between two measurements of its limit, whose mean counts."""
    sides = [_sides(network, scene)]
    run = measured(scene, network.reference, "computing", network.options)
    sides.append(_sides(network, scene))
    bare_s_per_mpx, rate, host_s = (sum(column) / len(sides) for column in zip(*sides, strict=True))
    chip_mpx = run["chip_px"] / 1e6
    bare_s = bare_s_per_mpx * chip_mpx
    wall_s = chip_mpx / rate + host_s / len(os.sched_getaffinity(0))
    return {
        "model": network.label, "scene": f"{side_px}², {len(network.bands)} bands", "chip Mpx": f"{chip_mpx:.1f}",
        "bare passes CPU s": f"{bare_s:.1f}", "host path CPU s": f"{host_s:.1f}", "run CPU s": f"{run['cpu_s']:.1f}",
        "share of the limit, CPU": f"{(bare_s + host_s) / run['cpu_s']:.2f}",
        "limit s": f"{wall_s:.1f}", "run s": f"{run['span_s']:.1f}",
        "share of the limit, time": f"{wall_s / run['span_s']:.2f}",
        "bare before, after, chip-Mpx/s": ", ".join(f"{side[1]:.2f}" for side in sides),
    }  # fmt: skip


def _sides(network: Network, scene: str) -> tuple[float, float, float]:
    """Bare passes' processor seconds per chip-Mpx and their chip-Mpx/s, and the host path's processor seconds."""
    bare = command("tests.bench.bare", network.reference, str(_CHIPS), env={"MALLOC_ARENA_MAX": "1"}).printed
    host = measured(scene, network.reference, "idle", network.options)
    return bare["cpu_s_per_chip_mpx"], bare["chip_mpx_per_s"], host["cpu_s"]
