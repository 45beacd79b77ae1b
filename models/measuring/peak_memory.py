"""Peak memory of predicting one chip, in a fresh process whose peak is nobody else's. Knows nothing of slopes.

`python -m earthloom.models.measuring.peak_memory` is the fresh process: it reads a request from stdin and prints bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import from_item, to_item
from earthloom.models.device.resolve import Device
from earthloom.tiling import heap
from earthloom.tiling.errors import EngineError

if TYPE_CHECKING:
    from earthloom.models.inference.predictor import Predictor

_RESET = Path("/proc/self/clear_refs")
"""Writing 5 sets the peak back to the present (proc_pid_clear_refs(5))."""


def peak_bytes(card: ModelCard, weights_path: Path | None, device: Device, side_px: int) -> int:
    """Predict one chip of `side_px`, or none if that is 0, in a fresh process; its peak of resident memory, or of GPU memory
    on CUDA.

    Raises:
        EngineError: if the process fails, with its last words.
    """
    request = {
        "item": to_item(card, weights_name="weights.safetensors", n_parameters=0),
        "weights": str(weights_path) if weights_path else None,
        "device": asdict(device),
        "side_px": side_px,
    }
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)  # noqa: PTH109 - the child finds what this process does
    done = subprocess.run(
        [sys.executable, "-m", "earthloom.models.measuring.peak_memory"], input=json.dumps(request),
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    if done.returncode:
        words = (done.stderr.strip() or "no message").splitlines()[-1]
        raise EngineError(f"{card.label}: measuring memory at {side_px} px failed ({done.returncode}): {words}")
    return int(done.stdout)


def _predict_one(card: ModelCard, weights_path: Path | None, device: Device, side_px: int) -> int:
    import torch

    from earthloom.models.cards.weights import LoadsItself
    from earthloom.models.inference.predictor import Predictor

    predictor = Predictor(card, weights_path, device, 1)
    least_px = card.core_px + 2 * (card.halo_px or 0) if card.labels else 4 * card.stride_px
    module = predictor.module
    if not isinstance(module, LoadsItself) or module.only_px is None:
        _predict(predictor, least_px)  # kernels, thread pools and the like are loaded by the first chip
    if device.kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
        if side_px:
            _predict(predictor, side_px)
        return int(torch.cuda.max_memory_allocated())
    with suppress(OSError):  # where it is refused, the peak counts the imports too
        _RESET.write_text("5")
    if side_px:
        _predict(predictor, side_px)
    peak = heap.peak_bytes()  # not ru_maxrss, which a child inherits from the process that started it
    if not peak:
        raise EngineError("this system does not tell how much memory a process took; measure on Linux, with /proc")
    return peak


def _predict(predictor: Predictor, side_px: int) -> None:
    import numpy as np

    from earthloom.models.inference.sliding import predict_block
    from earthloom.models.inference.stack import Stack
    from earthloom.models.networks.survey import Part
    from earthloom.tiling.chips import ChipGrid
    from earthloom.tiling.window import Window

    scene, bands = Window(0, 0, side_px, side_px), predictor.card.bands
    chips = ChipGrid(scene=scene, core_px=side_px, halo_px=0, stride_px=predictor.card.stride_px)
    stack = Stack(
        window=scene,
        names=bands,
        values=np.random.default_rng(0).integers(0, 10000, (len(bands), side_px, side_px), np.uint16),
        valid=np.ones(scene.shape, np.bool_),
        gain=np.full(len(bands), 1e-4, np.float32),
        bias=np.zeros(len(bands), np.float32),
    )
    few = np.asarray(stack.values)[:, :64, :64].astype(np.float32)
    part = Part(Window(0, 0, 64, 64), few, stack.valid[:64, :64])
    needs = predictor.card.needs_survey
    context = predictor.context_of(predictor.surveying.look(part.window, [part])) if needs else None
    predict_block(predictor, chips, scene, stack, context)


def _main() -> None:
    request = json.load(sys.stdin)
    weights_path = Path(request["weights"]) if request["weights"] else None
    print(_predict_one(from_item(request["item"]), weights_path, Device(**request["device"]), request["side_px"]))


if __name__ == "__main__":
    _main()
