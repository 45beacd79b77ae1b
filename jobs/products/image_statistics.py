"""What the bands of an image hold: counted per shard, added up per scene. Knows nothing of files."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.errors import PublishError

_CLOSE = 1e-6  # of sums of floats, whose order of adding may differ


@dataclass(frozen=True, slots=True, kw_only=True)
class BandSum:
    """Stored values of one band; integers add up exactly."""

    valid: int
    nodata: int
    minimum: float
    """0 where nothing is valid; so is the maximum."""
    maximum: float
    total: float
    squares: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> BandSum:
        """Inverse of `to_json`.

        Raises:
            PublishError: if a field is missing or of another type.
        """
        try:
            return cls(
                valid=int(told["valid"]), nodata=int(told["nodata"]), minimum=float(told["minimum"]),
                maximum=float(told["maximum"]), total=float(told["total"]), squares=float(told["squares"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise PublishError(
                f"the sum of a band is damaged ({type(error).__name__}: {error}); its block must be computed again"
            ) from error

    def agrees(self, other: BandSum) -> bool:
        """Whether both were taken from the same pixels, as far as sums can tell."""
        return (self.valid, self.nodata, self.minimum, self.maximum) == (
            other.valid, other.nodata, other.minimum, other.maximum,
        ) and math.isclose(self.total, other.total, rel_tol=_CLOSE, abs_tol=_CLOSE)  # fmt: skip

    @property
    def mean(self) -> float:
        return self.total / self.valid if self.valid else 0.0

    @property
    def stddev(self) -> float:
        return math.sqrt(max(0.0, self.squares / self.valid - self.mean**2)) if self.valid else 0.0


def count(pixels: NDArray[Any], nodata: float) -> BandSum:
    """Of one band's pixels, of any shape."""
    valid = ~np.isnan(pixels) if np.isnan(nodata) else pixels != nodata
    known = pixels[valid].astype(np.float64)
    return BandSum(
        valid=int(known.size),
        nodata=int(pixels.size - known.size),
        minimum=float(known.min(initial=math.inf)) if known.size else 0.0,
        maximum=float(known.max(initial=-math.inf)) if known.size else 0.0,
        total=float(known.sum()),
        squares=float(np.square(known).sum()),
    )


def merge(parts: Iterable[BandSum]) -> BandSum:
    """Add up, rounding once, so that the order of the parts does not matter."""
    given = list(parts)
    known = [part for part in given if part.valid]
    return BandSum(
        valid=sum(part.valid for part in given),
        nodata=sum(part.nodata for part in given),
        minimum=min((part.minimum for part in known), default=0.0),
        maximum=max((part.maximum for part in known), default=0.0),
        total=math.fsum(part.total for part in known),
        squares=math.fsum(part.squares for part in known),
    )


def tags(total: BandSum) -> dict[str, str]:
    """GDAL's statistics of a band, so that viewers need not compute them."""
    percent = 100 * total.valid / max(total.valid + total.nodata, 1)
    if not total.valid:
        return {"STATISTICS_VALID_PERCENT": "0"}
    return {
        "STATISTICS_MINIMUM": repr(total.minimum), "STATISTICS_MAXIMUM": repr(total.maximum),
        "STATISTICS_MEAN": repr(total.mean), "STATISTICS_STDDEV": repr(total.stddev),
        "STATISTICS_VALID_PERCENT": f"{percent:.4g}",
    }  # fmt: skip
