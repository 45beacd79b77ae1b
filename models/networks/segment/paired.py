"""What changed between two dates: one network looks at each, and a table says what its two answers mean together.

Knows nothing of which network that is, nor of what its classes and the changes are called.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from earthloom.models.networks.over_base import OverBase
from earthloom.models.networks.segment.morphology import open_by_disc
from earthloom.tiling.errors import CardError

_MOST_RADIUS_PX = 31


class PairedClasses(OverBase):
    """A Siamese pair: the same weights on the later and on the earlier bands.

    The dates are taken as independent: a pixel was b and is a with the product of the two probabilities, and a change's
    probability is the sum of the products that the table gives to it (post-classification comparison: Singh, A. (1989),
    Digital change detection techniques using remotely-sensed data. International Journal of Remote Sensing 10, 989-1003).

    Args:
        base: takes (N, C, H, W) and gives logits (N, K, H, W), one logit for two classes being the second one's, or
            probabilities.
        in_channels: 2 C, the later date's channels before the earlier one's; with a reference C + 1.
        classes: changes to tell apart.
        table: K rows of K numbers; `table[b][a]` is the change of a pixel that was b and is a.
        gives_probabilities: what the base gives.
        reference: (land, water), classes of the base: there is no earlier date, and the last channel is a map that is 0
            where a pixel was land and any other number where it was water. Else None.
        radius_px: a change on ground narrower than a disc of this radius is none: the pixel is what it was before. Two
            images of one ground never lie on each other exactly, and all edges would change. 0 keeps every change.

    `forward` takes (N, in_channels, H, W) and returns probabilities (N, classes, H, W) in fp32.

    Raises:
        CardError: if the channels are odd in number, or the table is not square or names a class that there is not.
    """

    def __init__(
        self, base: nn.Module, *, in_channels: int, classes: int, table: Sequence[Sequence[int]],
        gives_probabilities: bool = False, radius_px: int = 0, reference: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(base, len(table), gives_probabilities=gives_probabilities)
        if in_channels < 2 or (in_channels % 2 and reference is None):
            raise CardError(f"a pair has as many bands before as after, got {in_channels} in all")
        if not table or any(len(row) != len(table) for row in table):
            raise CardError(
                f"a table of changes has a row and a column for each class, got rows of {[len(row) for row in table]}"
            )
        if strange := [change for row in table for change in row if change not in range(classes)]:
            raise CardError(f"the table of changes names {strange}, but the changes are 0 to {classes - 1}")
        if reference is not None and not set(reference) <= set(range(len(table))):
            raise CardError(f"a reference names two of the classes 0 to {len(table) - 1}, got {reference}")
        if not 0 <= radius_px <= _MOST_RADIUS_PX:
            raise CardError(f"radius_px is 0 to {_MOST_RADIUS_PX}, got {radius_px}")
        self.table, self.classes, self.radius_px = tuple(map(tuple, table)), classes, radius_px
        self._reference = reference

    def forward(self, x: Tensor) -> Tensor:
        if self._reference is None:
            after, before = (self.probabilities(part) for part in x.chunk(2, dim=1))
        else:
            after, before = self.probabilities(x[:, :-1]), self._certain(x[:, -1])
        changes = torch.zeros((x.shape[0], self.classes, *after.shape[2:]), device=x.device)
        for was, row in enumerate(self.table):
            for now, change in enumerate(row):
                changes[:, change] += before[:, was] * after[:, now]
        return self._without_thin(changes, before, (x != 0).any(dim=1)) if self.radius_px else changes

    def _without_thin(self, changes: Tensor, before: Tensor, known: Tensor) -> Tensor:
        """Probabilities (N, classes, H, W) with what was before, (N, K, H, W), where a change is too thin.

        Args:
            known: (N, H, W); what is nodata is 0 in all channels and has no part in the ground's shape.
        """
        stays = {row[was] for was, row in enumerate(self.table)}
        found = changes.argmax(dim=1)
        thin = torch.zeros_like(known)
        for change in set(range(self.classes)) - stays:
            marked = (found == change) & known
            thin |= marked & (open_by_disc(marked.float(), known, self.radius_px) == 0)
        unchanged = torch.zeros_like(changes)
        for was, row in enumerate(self.table):
            unchanged[:, row[was]] += before[:, was]
        return torch.where(thin[:, None], unchanged, changes)

    def _certain(self, reference: Tensor) -> Tensor:
        """(N, K, H, W) fp32 of a map (N, H, W): land or water, without a doubt."""
        assert self._reference is not None, "asked for with a reference only"
        land, water = self._reference
        sure = torch.zeros((reference.shape[0], len(self.table), *reference.shape[1:]), device=reference.device)
        sure[:, land], sure[:, water] = (reference == 0).float(), (reference != 0).float()
        return sure
