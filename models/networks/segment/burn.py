"""Burnt ground by the normalised burn ratio of one date, or its fall between two. Has no weights; knows no band names.

NBR = (nir - swir22) / (nir + swir22), and dNBR = NBR before - NBR after: Key, C. H. and Benson, N. C. (2006), Landscape
Assessment. In: FIREMON, USDA Forest Service General Technical Report RMRS-GTR-164-CD.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from earthloom.models.networks.segment.morphology import close_and_open
from earthloom.tiling.errors import CardError

_FAR = 8.0  # the index lies within -2 and 2: this end is never the nearer one
_SURE = 0.01  # of the index: how far beyond the threshold ground is put that its neighbours have decided


class BurnIndex(nn.Module):
    """Classes between thresholds of the burn index, which grows with burning: dNBR of two dates, -NBR of one.

    Ground is burnt where the index is above `burned_above` and NBR of the later date below `most_nbr`, after closing and
    opening by a disc. The classes from `first_burned` on are found on burnt ground only, and on all of it.

    Args:
        in_channels: nir and swir22, with green behind them if `water`; for two dates those of the later one come first.
        classes: one more than there are thresholds, and one more for water.
        thresholds: rising; a value on one belongs to the class below it.
        first_burned: number of the first class that is burnt ground.
        burned_above: of the index.
        most_nbr: of the later date; what is still as green as that did not burn.
        radius_px: radius of the disc, 0 to 31.
        water: the last class is open water, snow or ice: (green - nir) / (green + nir) above 0 on any date.
        sharpness: slope of the logits per unit of the index; says only how fast the confidence grows.

    `forward` takes reflectance, or any multiple of it, (N, C, H, W), and returns logits (N, classes, H, W) in fp32: the
    distance to the nearer bound of each class's interval, negative outside it. Negative reflectance counts as 0. A pixel
    without light in nir and swir22 of any date (so are those that are not valid) has no index: it gets 0, and no
    neighbour hears of it.

    Raises:
        CardError: if the arguments contradict each other.
    """

    def __init__(
        self, *, in_channels: int, classes: int, thresholds: Sequence[float], first_burned: int, burned_above: float,
        most_nbr: float = 1.0, radius_px: int = 0, water: bool = False, sharpness: float = 30.0,
    ) -> None:  # fmt: skip
        super().__init__()
        per_date = 3 if water else 2
        if in_channels not in (per_date, 2 * per_date) or list(thresholds) != sorted(set(thresholds)):
            raise CardError(
                f"a burn index takes {per_date} or {2 * per_date} bands and rising thresholds, got {in_channels} bands and "
                f"{list(thresholds)}"
            )
        if classes != len(thresholds) + 1 + water or not 1 <= first_burned <= len(thresholds):
            raise CardError(
                f"{len(thresholds)} thresholds part {len(thresholds) + 1} classes{' and water' if water else ''}, the first "
                f"burnt one between 1 and {len(thresholds)}; got {classes} classes and {first_burned=}"
            )
        if not 0 <= radius_px <= 31 or sharpness <= 0:
            raise CardError(f"radius_px is 0 to 31 and sharpness positive; got {radius_px} and {sharpness}")
        self.thresholds, self.first_burned, self.water = tuple(thresholds), first_burned, water
        self.burned_above, self.most_nbr = burned_above, most_nbr
        self.radius_px, self.sharpness, self._per_date = radius_px, sharpness, per_date

    def forward(self, x: Tensor) -> Tensor:
        dates = x.float().clamp(min=0).chunk(x.shape[1] // self._per_date, dim=1)
        known = torch.stack([date[:, 0] + date[:, 1] != 0 for date in dates]).all(dim=0)
        after, *before = (_ratio(date[:, 0], date[:, 1], known) for date in dates)
        wet = None
        if self.water:
            wet = torch.stack([_ratio(date[:, 2], date[:, 0], known) for date in dates]).amax(dim=0)
        return self.classify(before[0] - after if before else -after, after, known, wet)

    def classify(self, index: Tensor, after: Tensor, known: Tensor, wet: Tensor | None = None) -> Tensor:
        """Logits (N, classes, H, W) from the index, NBR of the later date, where both are known, and how wet it is, each
        (N, H, W)."""
        burnt = torch.where(index.isnan(), index, (index > self.burned_above).float() * (after < self.most_nbr))
        if wet is not None:
            burnt = burnt * (wet <= 0)
        burnt = close_and_open(burnt, known, self.radius_px)
        edge = self.thresholds[self.first_burned - 1]
        index = burnt * index.clamp(min=edge + _SURE) + (1 - burnt) * index.clamp(max=edge - _SURE)
        logits = []
        for low, high in zip((-_FAR, *self.thresholds), (*self.thresholds, _FAR), strict=True):
            above, below = index - low, high - index
            logits.append(torch.minimum(above, below) * self.sharpness)
        if wet is not None:  # whatever class of ground leads has a logit of at least 0; over water none has more
            wetness = torch.where(known, wet, 0) * self.sharpness
            logits = [torch.where(wetness > 0, logit.clamp(max=0) - wetness, logit) for logit in logits]
            logits.append(wetness)
        return torch.stack(logits, dim=1)


def _ratio(first: Tensor, second: Tensor, known: Tensor) -> Tensor:
    """(first - second) / (first + second), 0 where it is not known or there is no light in either."""
    total = first + second
    return torch.where(known & (total != 0), (first - second) / total, 0)
