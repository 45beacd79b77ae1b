"""The bare forward pass that end-to-end runs are measured against: the same model, chips and precision, nothing else.

python -m tests.bench.bare landwater 16
"""

from __future__ import annotations

import json
import os
import sys
import time

import torch

from models.device import resolve
from models.predictor import Predictor
from models.weights import fetch
from models.zoo import variants
from tiling.window import Window


def main(name: str, n_chips: int) -> None:
    card, folder = variants(name)[0]
    path = fetch(folder, card.weights) if card.weights else None
    predictor = Predictor(card, path, resolve(), threads=os.cpu_count())
    chip_px = card.core_px + 2 * (card.halo_px or 0)
    noise = torch.randn(len(card.bands), chip_px, chip_px).to(predictor.device.kind)
    chips = [Window(0, 0, chip_px, chip_px)] * n_chips

    def fill(_: Window, out: torch.Tensor) -> None:
        out.copy_(noise)

    list(predictor.run(chips[: predictor.batch], fill, (chip_px, chip_px)))  # weights are packed on the first call
    if predictor.device.kind == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in predictor.run(chips, fill, (chip_px, chip_px)):
        pass
    if predictor.device.kind == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "chip_mpx_per_s": n_chips * chip_px**2 / seconds / 1e6}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
