"""Whole runs on one GPU against the compiled network alone and the device's limits: the timed sections of `infra.gpu_check`.

Without a GPU the case says so and measures nothing.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from infra.gpu_check.sections import SECTIONS, measure

_PLENTY_S = 3600.0


def gpu(folder: Path) -> list[dict[str, Any]]:
    """Networks on one GPU, scene and outputs in memory, against the compiled network and the limits of the hardware."""
    import torch

    if not torch.cuda.is_available():
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU only"
        return [
            {"GPU": "no GPU", "why": f"torch {torch.__version__}, built for {built}, finds none; nothing was measured"}
        ]
    timed = [section.name for section in SECTIONS if section.name.startswith("speed:")]
    measure(folder, "cuda", time.time() + _PLENTY_S, timed)
    sections = json.loads((folder / "gpu.json").read_text())["sections"]
    rows = []
    for name, section in sections.items():
        row: dict[str, Any] = {"GPU": torch.cuda.get_device_name(), "section": name, "ended": section["ended"]}
        for part in section["rows"]:
            row |= part
        rows.append({column: str(value) for column, value in row.items()})
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column, "") for column in columns} for row in rows]
