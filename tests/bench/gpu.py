"""Scenes in memory on one GPU: the whole run against the compiled network alone, and against what the hardware allows.

    python -m tests.bench.gpu landwater     # the limits, as JSON: compiled network, products, copies

Without a GPU the case says so and measures nothing.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.command import LANDWATER_BANDS, SCENE_OPTIONS, command, large_scene

_MODEL = "landwater"
_SHM = Path("/dev/shm")
_STORED_BYTES = 2
"""Of a mapped pixel: class and confidence."""


def gpu(_: Path) -> list[dict[str, Any]]:
    """`landwater` on one GPU, scene and outputs in memory, against the compiled network and the limits of the hardware."""
    import torch

    if not torch.cuda.is_available():
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU only"
        return [
            {"GPU": "no GPU", "why": f"torch {torch.__version__}, built for {built}, finds none; nothing was measured"}
        ]
    rows = []
    for side_px in (8192, 20000):
        need, free = 4 * side_px**2 * len(LANDWATER_BANDS), shutil.disk_usage(_SHM).free
        if free < need:
            rows.append({"GPU": f"{side_px}² needs {need / 1e9:.0f} GB of {_SHM}, {free / 1e9:.0f} GB are free"})
            continue
        with tempfile.TemporaryDirectory(prefix="earthloom-bench-", dir=_SHM) as folder:
            rows.append(_measured(Path(folder), side_px))
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column, "") for column in columns} for row in rows]


def _measured(folder: Path, side_px: int) -> dict[str, Any]:
    from tests.bench.efficiency import span_s

    n_chips = (side_px // 1024) ** 2
    scene, out = large_scene(folder / "scene.tif", side_px, LANDWATER_BANDS), folder / "out"
    limits = command("tests.bench.gpu", _MODEL).printed
    before = command("tests.bench.bare", _MODEL, str(n_chips)).printed["chip_mpx_per_s"]
    done = command(
        "earthloom", "run", str(scene), "--out", str(out), "--model", _MODEL, *SCENE_OPTIONS, "--device", "cuda", "--workers",
        "1", "--json",
    )  # fmt: skip
    after = command("tests.bench.bare", _MODEL, str(n_chips)).printed["chip_mpx_per_s"]
    found, seconds = done.printed["telemetry"], span_s(str(out))
    chip_mpx, mpx = found["chip_px"] / 1e6, found["computed_px"] / 1e6
    overhead = chip_mpx / mpx
    copies = 1 / (2 * len(LANDWATER_BANDS) / limits["to_device"] + _STORED_BYTES / limits["from_device"]) / 1e6
    return {
        "GPU": limits["name"], "scene": f"{side_px}², {len(LANDWATER_BANDS)} bands", "Mpx/s": f"{mpx / seconds:.1f}",
        "whole command s": f"{done.wall_s:.1f}", "device busy %": f"{found['device_busy_percent']:.0f}",
        "chip-Mpx/s": f"{chip_mpx / seconds:.1f}", "bare chip-Mpx/s, before and after": f"{before:.1f}, {after:.1f}",
        "compiled chip-Mpx/s": f"{limits['compiled_chip_px_per_s'] / 1e6:.1f}",
        "ratio to compiled": f"{1e6 * chip_mpx / seconds / limits['compiled_chip_px_per_s']:.2f}",
        "at most by products, Mpx/s": f"{limits['flop_per_s'] / limits['flop_per_px'] / overhead / 1e6:.0f}",
        "at most by copies, Mpx/s": f"{copies:.0f}",
    }  # fmt: skip


def limits(
    name: str, kind: str = "cuda", *, n_batches: int = 20, side: int = 8192, copied_bytes: int = 1 << 28
) -> dict[str, Any]:
    """What the device can do at most.

    Args:
        name: of a model.
        kind: `cuda`, or `cpu` to try this function out.
        n_batches: forward passes of the compiled network.
        side: of the square matrices that are multiplied.
        copied_bytes: from and to pinned memory.

    Returns:
        `flop_per_px` of the model; per second: chip pixels of the compiled network, operations of a product of matrices in
        the model's precision, and bytes copied to and from the device.
    """
    import torch

    from earthloom.models.cards.weights import fetch
    from earthloom.models.device.resolve import resolve
    from earthloom.models.inference.predictor import Predictor
    from earthloom.models.zoo import variants

    card, folder = variants(name)[0]
    predictor = Predictor(card, fetch(folder, card.weights) if card.weights else None, resolve(kind))
    chip_px = card.core_px + 2 * (card.halo_px or 0)

    def fill(_: int, out: torch.Tensor) -> None:
        out.zero_()

    list(predictor.run(range(2), fill, (chip_px, chip_px)))  # chooses the batch
    dtype = next(predictor.module.parameters()).dtype
    chips = torch.randn(predictor.batch, len(card.bands), chip_px, chip_px, device=kind, dtype=dtype)
    chips = chips.contiguous(memory_format=torch.channels_last)
    compiled = torch.compile(predictor.module)
    matrix = torch.randn(side, side, device=kind, dtype=dtype)
    here = torch.empty(copied_bytes, dtype=torch.uint8, pin_memory=kind == "cuda")
    there = torch.empty(copied_bytes, dtype=torch.uint8, device=kind)

    def seconds(do: Callable[[], object], times: int) -> float:
        def wait() -> None:
            if kind == "cuda":
                torch.cuda.synchronize()

        do()  # compiles, and chooses kernels
        do()
        wait()
        begun = time.perf_counter()
        for _ in range(times):
            do()
        wait()
        return (time.perf_counter() - begun) / times

    with torch.inference_mode():
        return {
            "name": torch.cuda.get_device_name() if kind == "cuda" else kind,
            "flop_per_px": card.flop_per_px,
            "compiled_chip_px_per_s": predictor.batch * chip_px**2 / seconds(lambda: compiled(chips), n_batches),
            "flop_per_s": 2 * side**3 / seconds(lambda: matrix @ matrix, n_batches),
            "to_device": copied_bytes / seconds(lambda: there.copy_(here, non_blocking=True), n_batches),
            "from_device": copied_bytes / seconds(lambda: here.copy_(there, non_blocking=True), n_batches),
        }


if __name__ == "__main__":
    print(json.dumps(limits(sys.argv[1])))
