"""A transformer of ViT-L's size on 16-bit values: memory of a chip, and whether attention is computed without its matrix."""

from __future__ import annotations

from earthloom.models.cards import weights
from earthloom.models.device.resolve import resolve
from earthloom.models.measuring.peak_memory import peak_bytes
from infra.gpu_check.networks import dpt, make
from infra.gpu_check.sections import Task, Write

_PATCH_PX = 16


def rows(task: Task, write: Write) -> None:
    """Peak memory by chip, and by attention through its matrix at the smallest of them."""
    folder = task.work / "networks" / "dpt-large"
    card = make("dpt-large", folder, task.size, dpt("dpt-large", task.size.vit))
    device = resolve(task.device)
    for side_px in (task.size.core_px // 2, task.size.core_px, 2 * task.size.core_px):
        peak = peak_bytes(card, folder / weights.FILE, device, side_px)
        tokens = (side_px // _PATCH_PX) ** 2
        write({"network": card.name, "chip_px": side_px, "precision": device.precision, "peak_bytes": peak,
               "bytes_per_chip_px": round(peak / side_px**2, 1), "tokens": tokens,
               "bytes_of_one_attention_matrix": 2 * tokens**2})  # fmt: skip
