"""How fast this device computes networks: one quick convolution, for estimates of running time. Never part of a result."""

from __future__ import annotations

import time

from earthloom.models.device.resolve import Device, use_large_pages

_CHANNELS, _SIDE_PX, _RUNS = 32, 512, 3
_SHARE_OF_CONVOLUTION = 0.5
"""Share of that speed on a core that whole networks reach, with their small and strided layers: 0.67 landwater, 0.49
deforestation, 0.48 ships, 0.35 cloudmask, of 512 px in bf16 with AVX-512."""


def flop_per_s(device: Device, threads: int | None = None) -> float:
    """Floating-point operations per second of a segmentation network, by a 3 x 3 convolution of 32 channels.

    Takes a fraction of a second; the best of a few runs. On a CPU one core is measured, by the time that it computes and not
    by the clock: blocks give every core a chip of its own, and what else the machine does while a plan is made says nothing
    of the hours that follow.

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
    on_gpu, best_s, before = device.kind == "cuda", float("inf"), torch.get_num_threads()
    clock = time.perf_counter if on_gpu else time.thread_time
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(), steady(device.kind):  # as a network runs: on a GPU not in TF32
            for _ in range(_RUNS):
                started = clock()
                layer(pixels)
                if on_gpu:
                    torch.cuda.synchronize()
                best_s = min(best_s, clock() - started)
    finally:
        torch.set_num_threads(before)
    speed = 2 * 9 * _CHANNELS**2 * _SIDE_PX**2 / best_s
    return speed if on_gpu else speed * _SHARE_OF_CONVOLUTION * (threads or before)
