"""The U-Net of ukis-csmask (DLR, Apache-2.0) in torch. Knows nothing of its weights file or of the scenes it sees.

Each convolution is followed by ReLU and only then by batch-norm, so the norm cannot be folded into its convolution; nor
into the next one, whose zero padding would have to become the norm's offset.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_EPSILON = 1e-6


class UkisUnet(nn.Module):
    """A U-Net of five levels: two 3x3 convolutions each, 2x2 max-pool down, 2x2 transposed convolution up.

    Args:
        in_channels: bands.
        classes: output channels.
        base: channels of the first level; every level doubles them (32, 64, 128, 256, 512).

    `forward` takes (N, C, H, W) with H and W multiples of 16, and returns logits (N, classes, H, W).
    """

    def __init__(self, *, in_channels: int, classes: int = 5, base: int = 32) -> None:
        super().__init__()
        widths = [base * 2**level for level in range(5)]
        self.down = nn.ModuleList(_level(a, b) for a, b in zip([in_channels, *widths[:3]], widths[:4], strict=True))
        self.bottom = _level(widths[3], widths[4])
        self.lift = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:4]))
        self.up = nn.ModuleList(_level(2 * w, w) for w in reversed(widths[:4]))
        self.head = nn.Conv2d(base, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = self.bottom(x)
        for lift, level in zip(self.lift, self.up, strict=True):
            x = level(torch.cat([lift(x), skips.pop()], dim=1))
        answer: Tensor = self.head(x)
        return answer


def _level(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(*_convolve(in_channels, out_channels), *_convolve(out_channels, out_channels))


def _convolve(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return convolution, nn.ReLU(inplace=True), nn.BatchNorm2d(out_channels, eps=_EPSILON)
