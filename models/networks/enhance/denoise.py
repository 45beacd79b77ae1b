"""Noise is averaged away over pixels whose surroundings look alike, as a network without weights.

Also here: sums over windows and validity, of which the other enhancements are made too. Everything is written with
element-wise operations in a fixed order, so that a pixel's bits do not depend on its place in a chip. Knows neither
bands by name nor what noise a sensor has: that comes from a look at the scene.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from earthloom.models.networks.noise import noise_of
from earthloom.models.networks.survey import Look, Part, Surveying
from earthloom.tiling.errors import CardError
from earthloom.tiling.window import Window


class NonLocalMeans(Surveying, nn.Module):
    """Non-local means (Buades, Coll & Morel 2005, A non-local algorithm for image denoising, CVPR), all bands together.

    A pixel becomes the mean of those within `search_px`, weighted by exp(-max(d - 2, 0) / strength), where d is the mean
    square difference of their patches in units of the noise's variance: of two patches that differ by noise alone it is
    2 (the weights of Buades, Coll & Morel 2011, Image Processing On Line 1). One weight serves all bands, as an edge is
    an edge in all of them. A band in which no noise is found (`models.networks.noise`) is left as it is, and tells nothing
    of others.

    Args:
        in_channels: bands.
        search_px: radius of the window that is searched.
        patch_px: radius of the patches that are compared; invalid pixels are left out.
        strength: how fast weights fall.

    `forward` takes (N, C, H, W), where a pixel that is 0 in all bands is not valid, and gives the same, in fp32.

    Raises:
        CardError: if a radius or the strength is out of range.
    """

    def __init__(self, *, in_channels: int, search_px: int = 3, patch_px: int = 1, strength: float = 1.0) -> None:
        super().__init__()
        if not (1 <= search_px <= 16 and 0 <= patch_px <= 8 and strength > 0):
            raise CardError(
                "non-local means searches 1 to 16 px, compares patches of radius 0 to 8 px and has a positive strength; "
                f"got {search_px=}, {patch_px=}, {strength=}"
            )
        self.in_channels, self.search_px, self.patch_px, self.strength = in_channels, search_px, patch_px, strength
        self.support_px = search_px + patch_px

    def look(self, scene: Window, parts: Iterable[Part]) -> Look:  # noqa: ARG002 - the parts say all
        return Look(self.context(noise_of([(part.values, part.valid) for part in parts])))

    def context(self, noise: Sequence[float]) -> Tensor:
        """(C,), the reciprocal of the noise; 0 where there is none. The mean over bands is taken by its scale."""
        share = 1 / math.sqrt(max(sum(sigma > 0 for sigma in noise), 1))
        return torch.tensor([share / sigma if sigma > 0 else 0.0 for sigma in noise], dtype=torch.float32)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        bands = [x[:, k : k + 1].float() for k in range(self.in_channels)]
        valid = valid_pixels(x)
        scaled = [band * context[k] for k, band in enumerate(bands)]
        total, sums = valid.clone(), [band.clone() for band in bands]
        for dy, dx in self._half_window():
            both = valid * shifted(valid, dy, dx)
            distance = torch.zeros_like(valid)
            for band in scaled:
                step = band - shifted(band, dy, dx)
                distance += step.mul_(step)
            distance = box_sum(distance.mul_(both), self.patch_px) / box_sum(both, self.patch_px).clamp_(min=1)
            weight = torch.exp((2 - distance).clamp_(max=0).div_(self.strength)).mul_(both)
            # a pair's weight serves both of its pixels
            total += weight
            total += shifted(weight, -dy, -dx)
            for band, summed in zip(bands, sums, strict=True):
                summed += weight * shifted(band, dy, dx)
                summed += shifted(weight * band, -dy, -dx)
        total.clamp_(min=1)
        return torch.cat(
            [torch.where(context[k] > 0, sums[k] / total, band) for k, band in enumerate(bands)], dim=1
        ).mul_(valid)

    def _half_window(self) -> list[tuple[int, int]]:
        """Every offset once, but not its opposite."""
        reach = range(-self.search_px, self.search_px + 1)
        return [(dy, dx) for dy in reach for dx in reach if (dy, dx) > (0, 0)]


def valid_pixels(x: Tensor) -> Tensor:
    """(N, 1, H, W) fp32, 1 where any of the channels of (N, C, H, W) is not 0.

    The cards of the enhancements have the mean -1, so that no pixel which is valid is 0: neither reflectance, of which
    correction for the atmosphere may leave slightly negative values, nor digital numbers come near it.
    """
    return (x != 0).any(dim=1, keepdim=True).float()


def shifted(x: Tensor, dy: int, dx: int) -> Tensor:
    """y[..., r, c] = x[..., r + dy, c + dx]; 0 from beyond."""
    return F.pad(x, (-dx, dx, -dy, dy))


def box_sum(x: Tensor, radius: int, *, along: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Sums over 2 * radius + 1 pixels along each of the dimensions, 0 beyond; always added in the same order."""
    for dim in along:
        x = _line_sum(x, radius, dim)
    return x


def _line_sum(x: Tensor, radius: int, dim: int) -> Tensor:
    """Sums over 1, 2, 4, … pixels are put together: a running sum would depend on where the chip begins."""
    size, left = x.shape[dim], 2 * radius + 1
    window = F.pad(x, (radius, radius) if dim == -1 else (0, 0, radius, radius))
    total, start, width = None, 0, 1
    while left:
        if left & 1:
            part = window.narrow(dim, start, size)
            total = part.clone() if total is None else total.add_(part)
            start += width
        left >>= 1
        width *= 2
        if left:
            half, length = width // 2, window.shape[dim] - width // 2
            window = window.narrow(dim, 0, length) + window.narrow(dim, half, length)
    assert total is not None, "a window has at least one pixel"
    return total
