"""Galileo's encoder over one date of Sentinel-2, with a light head: tokens of band groups become classes of pixels.

Galileo (Tseng et al. 2025, arXiv:2502.09356) cuts an image into patches and makes one token of each patch and group of bands;
all tokens of a chip attend to each other. Tensors have the names and shapes of the published encoder
(github.com/nasaharvest/galileo, MIT), so that its file fills them key by key; of its other inputs (radar, climate, elevation,
place) nothing is used, as where they are masked there. Knows nothing of scenes: month and pixel size are said once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from earthloom.tiling.errors import CardError

GROUPS: dict[str, tuple[str, ...]] = {
    "S2_RGB": ("blue", "green", "red"), "S2_Red_Edge": ("rededge071", "rededge075", "rededge078"), "S2_NIR_10m": ("nir",),
    "S2_NIR_20m": ("nir08",), "S2_SWIR": ("swir16", "swir22"),
}  # fmt: skip
"""Bands of each group that a token is made of, in the order of its channels."""
_PUBLISHED = ("S1", *GROUPS, "NDVI")
"""All groups over space and time, in the order of their embeddings."""
_SIZES = {"nano": (128, 4, 8), "tiny": (192, 12, 3), "base": (768, 12, 12)}
"""Width, depth and heads of the published encoders."""
_BASE_PX, _BASE_GSD_M, _STEPS = 8, 10.0, 24
"""Side of a patch that the weights are stored for, pixel size of which positions count, and dates that there are places for."""


class Galileo(nn.Module):
    """(N, C, H, W) to logits (N, K, H, W); H and W are multiples of the patch.

    Args:
        bands: common names of the channels; whole groups of `GROUPS`, in any order.
        size: `nano`, `tiny` or `base`.
        patch_px: side of a patch, 1 to 8. The work grows with the square of the number of patches.
        month: 1 to 12, of all scenes: the network knows no dates.
        gsd_m: size of a pixel.

    Raises:
        CardError: if the bands are no whole groups, or an argument is out of its range.
    """

    def __init__(
        self, *, in_channels: int, classes: int, bands: Sequence[str], size: str = "nano", patch_px: int = 8,
        month: int = 7, gsd_m: float = 10.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if size not in _SIZES or not 1 <= patch_px <= _BASE_PX or not 1 <= month <= 12 or not 0 < gsd_m < math.inf:
            raise CardError(
                f"galileo: size is {', '.join(_SIZES)}, patch_px 1 to {_BASE_PX}, month 1 to 12 and gsd_m positive, got "
                f"{size!r}, {patch_px}, {month} and {gsd_m}"
            )
        width, depth, heads = _SIZES[size]
        self.patch_px = patch_px
        groups = _channels(bands, in_channels)
        self.encoder = _Encoder(groups, width, depth, heads, patch_px, month, gsd_m * patch_px / _BASE_GSD_M)
        self.head = nn.Conv2d(width, classes * patch_px**2, 1)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and x.device.type == "cpu" and len(x) > 1:
            # a product of matrices rounds by how many rows it is given
            return torch.cat([self(chip[None]) for chip in x])
        return F.pixel_shuffle(self.head(self.encoder(x)), self.patch_px)


class _Encoder(nn.Module):
    """(N, C, H, W) to (N, D, H / patch, W / patch): of each patch the mean of its groups' tokens.

    Args:
        groups: channels of each group.
        step: distance of two patches in the unit in which places count.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[int]], width: int, depth: int, heads: int, patch_px: int, month: int, step: float
    ) -> None:  # fmt: skip
        super().__init__()
        quarter = width // 4
        self._groups, self._patch_px, self._month, self._step = groups, patch_px, month, step
        self._quarter, self._chosen = quarter, [_PUBLISHED.index(name) for name in groups]
        self.pos_embed = nn.Parameter(_waves(torch.arange(float(_STEPS)), quarter), requires_grad=False)
        self.month_embed = nn.Embedding(12, quarter)
        self.month_embed.weight = nn.Parameter(_months(quarter), requires_grad=False)
        self.s_t_channel_embed = nn.Parameter(torch.zeros(len(_PUBLISHED), quarter))
        self.space_time_embed = nn.ModuleDict(
            {name: _Patches(len(channels), width) for name, channels in groups.items()}
        )
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self._resize: Tensor
        self.register_buffer("_resize", _resize_matrix(patch_px), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        resize = self._resize if self._patch_px != _BASE_PX else None
        made = [self.space_time_embed[name](x[:, channels], resize) for name, channels in self._groups.items()]
        tokens = torch.stack(made, dim=1).permute(0, 3, 4, 1, 2)  # (N, rows, cols, groups, D)
        n, rows, cols = tokens.shape[:3]
        tokens = (tokens + self._places(rows, cols).to(tokens)).reshape(n, rows * cols * len(made), -1)
        for block in self.blocks:
            tokens = block(tokens)
        mean: Tensor = self.norm(tokens).reshape(n, rows, cols, len(made), -1).mean(dim=3)
        return mean.permute(0, 3, 1, 2)

    def _places(self, rows: int, cols: int) -> Tensor:
        """(rows, cols, groups, D): a quarter each for the group, the first date, the month, and the place in the chip."""
        shape = (rows, cols, len(self._groups), self._quarter)
        where = torch.arange(float(max(rows, cols)), device=self.pos_embed.device) * self._step
        waves = _waves(where, self._quarter // 2)
        place = torch.cat(
            [waves[None, :cols].expand(rows, cols, -1), waves[:rows, None].expand(rows, cols, -1)], dim=-1
        )
        parts = (
            self.s_t_channel_embed[self._chosen], self.pos_embed[0], self.month_embed.weight[self._month - 1],
            place[:, :, None],
        )  # fmt: skip
        return torch.cat([part.expand(shape) for part in parts], dim=-1)


class _Kernel(nn.Module):
    """Weight and bias of a convolution that is none: its channels are a group's, and not the network's bands."""

    def __init__(self, n_channels: int, width: int) -> None:
        super().__init__()
        like = nn.Conv2d(n_channels, width, _BASE_PX)
        self.weight, self.bias = like.weight, like.bias


class _Patches(nn.Module):
    """A token of each patch of a group's bands, (N, D, H / patch, W / patch)."""

    def __init__(self, n_channels: int, width: int) -> None:
        super().__init__()
        self.proj = _Kernel(n_channels, width)

    def forward(self, x: Tensor, resize: Tensor | None) -> Tensor:
        weight: Tensor = self.proj.weight
        if resize is not None:  # FlexiViT (Beyer et al. 2023, arXiv:2212.08013), equation 4
            side = math.isqrt(len(resize))
            weight = (weight.flatten(2) @ resize.to(weight).T).reshape(*weight.shape[:2], side, side)
        return F.conv2d(x, weight, self.proj.bias, stride=weight.shape[-1])


class _Block(nn.Module):
    """Attention and a perceptron, each added to what comes in and fed what a LayerNorm makes of it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({name: nn.Linear(width, width) for name in ("q", "k", "v", "proj")})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm1(x)
        n, count, width = x.shape
        shape = (n, count, self.heads, width // self.heads)
        asked = [self.attn[name](seen).reshape(shape).transpose(1, 2) for name in ("q", "k", "v")]
        x = x + self.attn["proj"](F.scaled_dot_product_attention(*asked).transpose(1, 2).flatten(2))
        made: Tensor = x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))
        return made


def _channels(bands: Sequence[str], in_channels: int) -> dict[str, list[int]]:
    """Positions of each whole group's bands among the channels."""
    found = {name: [bands.index(band) for band in group] for name, group in GROUPS.items() if set(group) <= set(bands)}
    if len(bands) != in_channels or sum(map(len, found.values())) != len(bands):
        groups = "; ".join(", ".join(group) for group in GROUPS.values())
        raise CardError(f"galileo takes whole groups of bands: {groups}; got {', '.join(bands)}")
    return found


def _waves(places: Tensor, width: int) -> Tensor:
    """(n, width) sines and cosines of places (n,). Frequencies are 10000 to the power of -i / (2 width), as published."""
    rates = 10000.0 ** -(torch.arange(width // 2, device=places.device) / width / 2.0)
    angles = places[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _months(width: int) -> Tensor:
    """(12, width): sine and cosine of the year's circle, each as often as it takes."""
    angles = torch.arange(12)[:, None] / (12 / (2 * math.pi))
    return torch.cat([angles.sin().expand(12, width // 2), angles.cos().expand(12, width // 2)], dim=1)


def _resize_matrix(patch_px: int) -> Tensor:
    """(patch_px², 64): from a kernel of 8 x 8 to the one that sees of a small patch what that one sees of it enlarged."""
    basis = torch.eye(_BASE_PX**2).reshape(-1, 1, _BASE_PX, _BASE_PX)
    small = F.interpolate(basis, (patch_px, patch_px), mode="bicubic", antialias=True)
    matrix: Tensor = torch.linalg.pinv(small.flatten(1))
    return matrix
