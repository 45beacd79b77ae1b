"""A small U-Net on the first five stages of EfficientNet-Lite0; every pixel it makes sees a finite neighbourhood.

Lite0 (Liu 2020, Higher accuracy on vision models with EfficientNet-Lite) is EfficientNet (Tan and Le 2019, ICML) without
squeeze-excite, whose mean over the whole chip would make tiles disagree. Its two last stages, three quarters of its
weights, are left out: they look at things of the size of a photograph. Knows nothing of what it is trained for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from earthloom.tiling.errors import CardError

_EPS = 1e-3  # of the published weights
_STEM = 32
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))
"""(layers, kernel, stride, expansion, channels) of each stage; the skips leave after 16, 24 and 40 channels."""
_SKIPS = (0, 1, 2)


class LiteUnet(nn.Module):
    """(N, C, h, w) -> logits (N, classes, h, w); h and w are multiples of 16.

    Args:
        in_channels: bands of the scene.
        classes: of the map.
        decoder: channels at 1/8, 1/4, 1/2 and 1/1 of the resolution.

    Raises:
        CardError: if there are not four decoder widths.
    """

    def __init__(self, *, in_channels: int, classes: int, decoder: tuple[int, ...] = (64, 48, 32, 16)) -> None:
        super().__init__()
        if len(decoder) != 4 or not all(isinstance(width, int) and width > 0 for width in decoder):
            raise CardError(f"lite-unet has 4 decoder stages with a positive number of channels each, got {decoder}")
        self.encoder = _Encoder(in_channels)
        skips = [_STAGES[place][-1] for place in reversed(_SKIPS)] + [0]
        below = [_STAGES[-1][-1], *decoder[:-1]]
        self.decoder = nn.ModuleList(_Up(*widths) for widths in zip(below, skips, decoder, strict=True))
        self.head = nn.Conv2d(decoder[-1], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, skips = self.encoder(x)
        for up, skip in zip(self.decoder, [*reversed(skips), None], strict=True):
            x = up(x, skip)
        logits: Tensor = self.head(x)
        return logits


class _Encoder(nn.Module):
    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.stem = _ConvNorm(in_channels, _STEM, 3, stride=2)
        self.stages = nn.ModuleList()
        before = _STEM
        for layers, kernel, stride, expansion, width in _STAGES:
            blocks = []
            for layer in range(layers):
                blocks.append(_InvertedResidual(before, width, kernel, stride if layer == 0 else 1, expansion))
                before = width
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The coarsest features (N, 112, h/16, w/16), and those to skip from 1/2, 1/4 and 1/8."""
        x = self.stem(x)
        skips = []
        for place, stage in enumerate(self.stages):
            x = stage(x)
            if place in _SKIPS:
                skips.append(x)
        return x, skips


class _ConvNorm(nn.Module):
    """Convolution, batch norm and ReLU6; a stride of 2 pads as TensorFlow does, one pixel more right and below."""

    def __init__(
        self, before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        most = kernel - stride  # of padding in total, where the side is a multiple of the stride
        self.more = (most // 2, most - most // 2) * 2 if most % 2 else None
        padding = 0 if self.more else most // 2
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(after, eps=_EPS)
        self.active = nn.ReLU6(inplace=True) if active else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.active(self.norm(self.conv(pad(x, self.more) if self.more else x)))
        return answer


class _InvertedResidual(nn.Module):
    """Inverted residual (Sandler et al. 2018, MobileNetV2): widen, look around channel by channel, narrow."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        self.widen = _ConvNorm(before, wide, 1) if expansion > 1 else nn.Identity()
        self.look = _ConvNorm(wide, wide, kernel, stride=stride, groups=wide)
        self.narrow = _ConvNorm(wide, after, 1, active=False)
        self.is_residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.narrow(self.look(self.widen(x)))
        return answer + x if self.is_residual else answer


class _Up(nn.Module):
    """Twice the resolution, joined with the skip of that size, then two 3x3 convolutions."""

    def __init__(self, before: int, skip: int, after: int) -> None:
        super().__init__()
        self.first = _ConvNorm(before + skip, after, 3)
        self.second = _ConvNorm(after, after, 3)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = interpolate(x, scale_factor=2.0, mode="nearest")
        answer: Tensor = self.second(self.first(x if skip is None else torch.cat([x, skip], dim=1)))
        return answer
