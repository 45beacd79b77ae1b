"""How far a network sees and how its pooling grids repeat, read off the network itself. Knows nothing of weights' values.

Distance is measured with NaN: whatever it can reach turns to NaN, through every tap of a convolution and every branch of
a pooling window, where a gradient would show only the branches that one input happens to take.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from earthloom.models.device.deterministic import steady
from earthloom.tiling.rounding import round_up

_LENGTHS_PX = ((2048, 1024), (4096, 3072))
"""Lengths of the two strips that a reach is read off, whose difference shows what grows with the input: for most
networks the first are long enough and cost less than half."""
_BREADTH_PX = 64


def total_stride(module: nn.Module, n_bands: int, multiple_px: int) -> int:
    """Pixels after which the network's grids repeat: its largest reduction of the input.

    Neither outputs whose size does not follow the input's (pooled to a fixed grid) count, nor layers that are computed
    but not used, as timm's encoders do when their depth is cut.

    Args:
        module: in eval mode, fp32, on the CPU.
        n_bands: channels of its input.
        multiple_px: the input's sides must be multiples of this.
    """
    narrow, wide = (
        _widths(module, n_bands, round_up(size, multiple_px), round_up(_BREADTH_PX, multiple_px)) for size in (512, 768)
    )
    size, larger = round_up(512, multiple_px), round_up(768, multiple_px)
    factors = [Fraction(size, a) for a, b in zip(narrow, wide, strict=True) if Fraction(size, a) == Fraction(larger, b)]
    return max(int(factor) for factor in [Fraction(1), *factors] if factor.denominator == 1)


def support(module: nn.Module, n_bands: int, stride_px: int) -> int | None:
    """Radius in pixels beyond which no input has any influence; None when there is none below 1500 px.

    Args:
        module: in eval mode, fp32, on the CPU.
        n_bands: channels of its input.
        stride_px: its total stride.
    """
    found = (_reach(module, n_bands, stride_px, lengths) for lengths in _LENGTHS_PX)
    return next((radius for radius in found if radius is not None), None)


def _reach(module: nn.Module, n_bands: int, stride_px: int, lengths: tuple[int, int]) -> int | None:
    """The radius, if it ends within strips of these lengths and is the same in both."""
    farthest = 0
    reaches = set[int]()
    dice = torch.Generator().manual_seed(0)
    breadth = round_up(max(_BREADTH_PX, 2 * stride_px), stride_px)
    for turned in (False, True):
        # the two ends of a pooling cell reach farthest to either side
        for length, shift in zip(lengths, (0, stride_px - 1), strict=True):
            position = length // 2 // stride_px * stride_px + shift
            x = torch.rand(1, n_bands, breadth, round_up(length, stride_px), generator=dice)
            before = _forward(module, x, turned)
            x[:, :, :, position] = torch.nan
            reached = (_forward(module, x, turned) != before).any(dim=1)[0].any(dim=0)  # NaN differs from everything
            finer = len(reached) // x.shape[3]  # a super-resolution answers with more pixels than it was asked
            hit = reached.reshape(-1, finer).any(dim=1).nonzero().flatten()
            if not hit.numel() or hit[0] == 0 or hit[-1] == x.shape[3] - 1:
                return None
            first, last = int(hit[0]), int(hit[-1])
            farthest = max(farthest, position - first, last - position)
            reaches.add(last - first)
    return farthest if max(reaches) - min(reaches) <= 2 * stride_px else None  # pooled to shares of the input


def _forward(module: nn.Module, x: Tensor, turned: bool) -> Tensor:
    """The answer to (N, C, H, W), made with rows and columns exchanged if `turned`."""
    with torch.inference_mode(), steady("cpu"):
        logits: Tensor = module((x.mT if turned else x).contiguous(memory_format=torch.channels_last))
    return logits.mT if turned else logits


def _widths(module: nn.Module, n_bands: int, width: int, height: int) -> list[int]:
    """Width of every output of a layer that has a part in the answer, in the order of execution."""
    widths: list[int] = []
    used: set[int] = set()

    def note(_layer: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.requires_grad:
            place = len(widths)
            untyped: Any = output
            untyped.register_hook(lambda _: used.add(place))
            widths.append(output.shape[3])

    hooks = [layer.register_forward_hook(note) for layer in module.modules()]
    with torch.enable_grad():
        module(torch.zeros(1, n_bands, height, width, requires_grad=True)).sum().backward()
    for hook in hooks:
        hook.remove()
    return [width for place, width in enumerate(widths) if place in used]
