"""SPAN, a super-resolution network, for any number of bands. Knows nothing of its weights file or of what bands mean.

Wan, C. et al. (2024): Swift Parameter-free Attention Network for Efficient Super-Resolution. CVPR Workshops
(arXiv:2311.12770). It was made for RGB photographs, so bands go through it in threes, the last of which the last band
completes. What surrounds the network makes it fit for measurements; each step is a rule for a pixel and its neighbours:

* A sensor averages the area of a pixel, while the photographs were made smaller by antialiased cubic convolution, which
  passes about three quarters of that at the finest lines. Pixels are softened to that before the network sees them.
  (Five taps that match both kernels at two frequencies do better on most pixels, but overshoot at bright ones, where
  the network then runs away; softened values stay between their neighbours.)
* Only details are taken from the network: the mean of the pixels that are made is the pixel that they are made from.
  Where a pixel is the mean of its area, that is the orthogonal projection onto the images that could have been seen, so
  it brings every answer closer to the truth.
* On input unlike any photograph (white noise, far beyond white) the network gives values a hundred times too large.
  Details are scaled down, where they must be, to the range of the 3 x 3 pixels around.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean of the photographs that it was trained on (DIV2K): red, green, blue, in 0 to 1."""
_RANGE = 255.0
_N_BLOCKS = 6
_SOFTENING = 0.05
"""Share of each neighbour in a row, then in a column; best of 0 to 0.1 on crops of Sentinel-2 and aerial images."""
_SMALLEST = 1e-12
"""Keeps the share of no details at all, 0 / 0, a number."""


class Span(nn.Module):
    """Super-resolution by an integer factor that keeps radiometry.

    Args:
        in_channels: bands, one or more.
        scale: output pixels per input pixel and side.
        channels: width of the network, 48 or 52 in what was published.
        sharp: for pixels that were made by cubic convolution, as the network's own: neither softened before, nor is the
            mean of what is made held to the pixel that it is made from.

    `forward` takes (N, C, H, W) in which 0 to 1 is the range of a photograph. Values beyond it are kept, but the details
    that they get are those of 0 or 1. It returns (N, C, scale * H, scale * W) in the input's dtype, and sees 22 px to
    each side of a pixel.
    """

    def __init__(self, *, in_channels: int, scale: int = 2, channels: int = 48, sharp: bool = False) -> None:
        super().__init__()
        self.in_channels, self.scale, self.sharp = in_channels, scale, sharp
        self.first = _convolution(3, channels)
        self.blocks = nn.ModuleList(_AttentionBlock(channels) for _ in range(_N_BLOCKS))
        self.last = _convolution(channels, channels)
        self.merge = nn.Conv2d(4 * channels, channels, 1)
        self.lift = _convolution(channels, 3 * scale**2)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2] * self.scale, x.shape[3] * self.scale
        made = x.new_empty(x.shape[0], self.in_channels, height, width)
        for first in range(0, self.in_channels, 3):
            n_new = min(3, self.in_channels - first)
            three = x[:, first : first + 3].float()
            if n_new < 3:  # the last band stands for those that are missing
                three = torch.cat([three, three[:, -1:].expand(-1, 3 - n_new, -1, -1)], dim=1)
            details = self._details(three)[:, :n_new]
            kept = three[:, :n_new]
            fine = kept.unsqueeze(2) + details * _damping(details, kept).unsqueeze(2)
            made[:, first : first + n_new] = F.pixel_shuffle(fine.flatten(1, 2), self.scale)
        return made

    def photograph(self, rgb: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, scale * H, scale * W): the network alone, as it was published."""
        return F.pixel_shuffle(self.lift(self._features(rgb)).float(), self.scale)

    def _details(self, three: Tensor) -> Tensor:
        """(N, 3, scale * scale, H, W) fp32: pixels that the network makes, less the mean of those of one input pixel.

        The mean is taken out of the last convolution's weights, so that no small number is the difference of large
        ones, which bf16 would not survive. If `sharp`, less the input pixel.
        """
        if self.sharp:
            seen = three.clamp(0, 1)
            whole: Tensor = self.lift(self._features(seen)).float()
            return whole.reshape(len(three), 3, self.scale**2, *three.shape[2:]) - seen.unsqueeze(2)
        weight, bias = (_centred(tensor, self.scale**2) for tensor in (self.lift.weight, self.lift.bias))
        made = F.conv2d(self._features(_softened(three.clamp(0, 1))), weight, bias, padding=1)
        return made.float().reshape(len(three), 3, self.scale**2, *three.shape[2:])

    def _features(self, rgb: Tensor) -> Tensor:
        centred = torch.stack([band - mean for band, mean in zip(rgb.unbind(1), _MEAN, strict=True)], dim=1)
        first = self.first((centred * _RANGE).to(self.first.weight.dtype))
        x, inner, answers = first, first, list[Tensor]()
        for block in self.blocks:
            x, inner = block(x)
            answers = answers or [x]
        features: Tensor = self.merge(torch.cat([first, self.last(x), *answers, inner], dim=1))
        return features


class _AttentionBlock(nn.Module):
    """Three convolutions whose answer is weighted by its own size: (y + x) * (sigmoid(y) - 1/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = (_convolution(channels, channels) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The block's answer, and that of its first layer."""
        inner = F.silu(self.c1(x))
        y = self.c3(F.silu(self.c2(inner)))
        return (y + x) * (torch.sigmoid(y) - 0.5), inner


def _convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def _centred(tensor: Tensor | None, group: int) -> Tensor:
    """Weights or biases of a convolution, less their mean over every `group` output channels."""
    assert tensor is not None, "the convolution was built with a bias"
    wide = tensor.float().reshape(-1, group, *tensor.shape[1:])
    return (wide - wide.mean(1, keepdim=True)).reshape(tensor.shape).to(tensor.dtype)


def _softened(x: Tensor) -> Tensor:
    """(N, C, H, W), each pixel moved a little towards its neighbours; sums of slices, whose order never changes."""
    wide = F.pad(x, (1, 1, 0, 0), mode="replicate")
    x = x + _SOFTENING * ((wide[..., :-2] - x) + (wide[..., 2:] - x))
    tall = F.pad(x, (0, 0, 1, 1), mode="replicate")
    return x + _SOFTENING * ((tall[..., :-2, :] - x) + (tall[..., 2:, :] - x))


def _damping(details: Tensor, x: Tensor) -> Tensor:
    """(N, C, H, W), at most 1: what keeps details (N, C, P, H, W) within the range of the pixels around.

    One factor serves all P pixels, so their mean stays 0.
    """
    span = F.max_pool2d(x, 3, 1, 1) + F.max_pool2d(-x, 3, 1, 1)
    return (span / details.abs().amax(2).clamp_min(_SMALLEST)).clamp_max(1)
