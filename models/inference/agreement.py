"""How far a map that was made in chips agrees with one forward pass over the whole scene. Knows nothing of networks."""

from __future__ import annotations

from dataclasses import dataclass

MAX_FLIPS = 0.0005
"""Share of valid pixels that tiling may change."""
MAX_CLASS_FLIPS = 0.005
"""For each class, the most pixels that tiling may move into or out of it, as a share of its pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """A tiled answer against one forward pass over the whole scene."""

    identical: bool
    """Both are the same bytes."""
    flips: float
    """Share of valid pixels whose class differs; of an image 0 or 1, because any bit counts."""
    class_flips: float
    """The worst class's share of pixels touched by a flip; of an image as `flips`."""

    @property
    def is_seamless(self) -> bool:
        return self.identical or (self.flips < MAX_FLIPS and self.class_flips <= MAX_CLASS_FLIPS)
