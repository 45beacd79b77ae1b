"""The bare forward pass that end-to-end runs are measured against: the same model, chips and precision, nothing else.

python -m tests.bench.bare landwater 16 [--compile] [--block]

On a CPU it is measured with all cores for each chip, as PyTorch has it, and with a chip for each core; the faster counts.
With MALLOC_ARENA_MAX=1 in the environment pages are kept, as they are in a run.

With --block also what a chip of a segmentation costs as part of a block: cut, scaled, computed, cropped and quantised by
`predict_block`. The bare `module(chip)` and the block take turns, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from earthloom.models.cards.weights import fetch
from earthloom.models.device.deterministic import steady
from earthloom.models.device.resolve import keep_pages, resolve
from earthloom.models.inference.passes import Threads
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block
from earthloom.models.inference.stack import Stack
from earthloom.models.zoo import variants
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.window import Window

_PLENTY = 2**40


def main(name: str, n_chips: int, *, compiled: bool, with_block: bool) -> None:
    keep_pages(_PLENTY)
    card, folder = variants(name)[0]
    path = fetch(folder, card.weights) if card.weights else None
    device = resolve()
    rates = [
        _rate(Predictor(card, path, device, threads=threads, compiled=compiled), n_chips)
        for threads in ((None,) if device.kind == "cuda" else (None, Threads(len(os.sched_getaffinity(0)))))
    ]
    best = max(rates)
    found = {
        "chip_mpx_per_s": best.mpx_per_s,
        "one_by_one_mpx_per_s": rates[0].mpx_per_s,
        "cpu_s_per_chip_mpx": best.cpu_s,
    }
    if with_block:
        predictor = Predictor(card, path, device, compiled=compiled)
        found |= _against_block(predictor, max(1, n_chips // 2), compiled=compiled)
    print(json.dumps(found))


class _Rate(NamedTuple):
    mpx_per_s: float
    """Chip pixels."""
    cpu_s: float
    """Processor seconds per chip-Mpx."""


def _rate(predictor: Predictor, n_chips: int) -> _Rate:
    card = predictor.card
    chip_px = card.core_px + 2 * (card.halo_px or 0)
    noise = torch.randn(len(card.bands), chip_px, chip_px).to(predictor.device.kind)
    chips = [Window(0, 0, chip_px, chip_px)] * n_chips

    def fill(_: Window, out: torch.Tensor) -> None:
        out.copy_(noise)

    def work(chips: list[Window] = chips) -> None:
        for _ in predictor.run(chips, fill, (chip_px, chip_px)):
            pass

    # weights are packed on the first call; on a GPU the batch is chosen, and its pass recorded when it comes again
    work(chips[:2] if predictor.device.kind == "cpu" else chips + chips)
    mpx, begun = n_chips * chip_px**2 / 1e6, time.process_time()
    seconds = _seconds_of(work)
    return _Rate(mpx / seconds, (time.process_time() - begun) / mpx)


def _against_block(predictor: Predictor, n_turns: int, *, compiled: bool) -> dict[str, float]:
    """Milliseconds per chip of the bare network and of a block of two chips, the best of all turns."""
    card = predictor.card
    block = Window(0, 0, 2 * card.core_px, card.core_px)
    chips = ChipGrid(scene=block, core_px=card.core_px, halo_px=card.halo_px or 0, stride_px=card.stride_px)
    read = chips.read(block)
    stack = Stack(
        window=read,
        names=card.bands,
        values=np.random.default_rng(0).integers(0, 10000, (len(card.bands), *read.shape), np.uint16),
        valid=np.ones(read.shape, np.bool_),
        gain=np.full(len(card.bands), 1e-4, np.float32),
        bias=np.zeros(len(card.bands), np.float32),
    )
    chip = torch.randn(1, len(card.bands), chips.chip_px, chips.chip_px)
    chip = chip.to(predictor.device.kind, next(predictor.module.parameters()).dtype)
    chip = chip.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def bare() -> None:
        with steady(predictor.device.kind, is_compiled=compiled):
            for _ in range(2):
                predictor.network(chip)

    def whole() -> None:
        predict_block(predictor, chips, block, stack)

    bare()
    whole()
    turns = [(_seconds_of(bare) / 2, _seconds_of(whole) / 2) for _ in range(n_turns)]
    alone, in_block = (min(column) for column in zip(*turns, strict=True))
    return {
        "bare_ms_per_chip": round(alone * 1e3, 1),
        "block_ms_per_chip": round(in_block * 1e3, 1),
        "efficiency": round(alone / in_block, 3),
        "efficiency_median": round(statistics.median(a / b for a, b in turns), 3),
    }


def _seconds_of(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("chips", type=int)
    parser.add_argument("--compile", action="store_true", help="run the network as one compiled program")
    parser.add_argument("--block", action="store_true", help="measure predict_block too")
    options = parser.parse_args()
    main(options.model, options.chips, compiled=options.compile, with_block=options.block)
