"""How fast this device multiplies: one quick convolution, for estimates of running time. Never part of a result."""

from __future__ import annotations

import time

from earthloom.models.device.resolve import Device, use_large_pages

_CHANNELS, _SIDE_PX, _RUNS = 32, 512, 3


def flop_per_s(device: Device, threads: int | None = None) -> float:
    """Floating-point operations per second of a 3 x 3 convolution of 32 channels, the body of a segmentation network.

    Takes a fraction of a second; the best of a few runs.

    Args:
        device: one of this machine.
        threads: cores of a CPU that compute; default: as many as torch uses now.
    """
    use_large_pages()  # this may be the first tensor of a process that computes blocks later
    import torch

    from earthloom.models.device.deterministic import steady

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[device.precision]
    layer = torch.nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1).to(device.kind, dtype)
    pixels = torch.zeros(1, _CHANNELS, _SIDE_PX, _SIDE_PX, device=device.kind, dtype=dtype)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    best_s, before = float("inf"), torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with torch.inference_mode(), steady(device.kind):  # as a network runs: on a GPU not in TF32
            for _ in range(_RUNS):
                started = time.perf_counter()
                layer(pixels)
                if device.kind == "cuda":
                    torch.cuda.synchronize()
                best_s = min(best_s, time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)
    return 2 * 9 * _CHANNELS**2 * _SIDE_PX**2 / best_s
