"""Detail of a panchromatic band is put into the bands that were resampled onto its grid, as networks without weights.

Knows neither bands by name nor the sensor: how the bands make up the panchromatic one is found by regression over the
whole scene (`models.networks.survey`). The first channel is the panchromatic band; the others have been interpolated
bilinearly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earthloom.models.networks.enhance.denoise import box_sum, shifted, valid_pixels
from earthloom.models.networks.survey import Look, Part, Statistical, Survey, squares, survey
from earthloom.tiling.errors import CardError, SceneError
from earthloom.tiling.registration import Shift, measure_shift
from earthloom.tiling.window import Window

_SHARPNESS = 1.2
"""Share of the blur that is given back to interpolated bands; by measurement (tests/bench/score_pansharpen.py)."""
_FLOOR = 0.02
"""Share of the intensity's variance in the scene: what varies less than this locally is taken for noise."""
_MOST_CRISP = 0.3
"""Share of its own value by which Brovey's bands are made crisp at most: dark pixels beside bright ones would change colour."""
_LIMIT = 4.0
"""Largest factor by which a ratio of intensities may change a pixel."""
_LEAST_SHIFT_PX = 0.5
"""From which on a shift is worth a note, in pixels of the panchromatic band; sensors keep their own bands together to a third
of one."""
_SQUARE_PX = 128  # that are compared; a band's interpolated pixels leave 16 of its own per side at the least
_LEAST_VALID = 0.75  # of a square, for it to be compared
_NEVER = 1e30
_TINY = 1e-6


class _Pansharpening(Statistical, nn.Module):
    """What both methods share: bands that were interpolated bilinearly are made crisp before detail is added.

    Bilinear interpolation weakens what a band still resolves, by sinc^2, to 0.4 at its Nyquist frequency. An unsharp mask
    whose Gaussian has a deviation of half a pixel of the coarse grid gives most of it back.
    """

    def __init__(self, *, in_channels: int, ratio: int) -> None:
        super().__init__()
        if in_channels < 2 or not 2 <= ratio <= 8:
            raise CardError(
                "pansharpening takes the panchromatic band and at least one other, whose pixels are 2 to 8 times as "
                f"wide; got {in_channels} bands and the ratio {ratio}"
            )
        self.n_bands, self.ratio = in_channels - 1, ratio
        self.blur_px = math.ceil(1.5 * ratio)
        powers = [math.exp(-2 * (step / ratio) ** 2) for step in range(self.blur_px + 1)]
        total = 2 * sum(powers) - powers[0]
        self.taps = [power / total for power in powers]

    def look(self, scene: Window, parts: Iterable[Part]) -> Look:  # noqa: ARG002 - the parts say all
        """The survey, and whether the panchromatic band lies where the others do.

        Raises:
            SceneError: if it lies beside them by more than one of their pixels.
        """
        seen = list(parts)
        found = survey([(part.values, part.valid) for part in seen])
        weights = _regress(np.asarray(found.covariance, np.float64))
        compared = [
            (np.tensordot(weights, values[1:], 1), values[0], valid)
            for part in seen
            for values, valid in squares(part.values, part.valid, _SQUARE_PX, _LEAST_VALID)
        ]
        if not compared:
            return Look(self.context(found), ())
        bands, pan, known = (np.stack(arrays) for arrays in zip(*compared, strict=True))
        shift = measure_shift(bands, pan, known, cycles_per_px=min(0.25, 0.5 / self.ratio))
        return Look(self.context(found), self._shift_notes(shift))

    def _shift_notes(self, shift: Shift) -> tuple[str, ...]:
        if not shift.is_reliable or shift.length_px < _LEAST_SHIFT_PX:
            return ()
        across, along = "right" if shift.cols_px > 0 else "left", "below" if shift.rows_px > 0 else "above"
        where = (
            f"pan lies {abs(shift.cols_px):.1f} px {across} and {abs(shift.rows_px):.1f} px {along} of where the other bands "
            "have the same ground (in pixels of pan, by phase correlation)"
        )
        if shift.length_px > self.ratio:
            raise SceneError(
                f"{where}, more than one pixel of theirs, {self.ratio} px: its detail would be put beside its place. "
                "Correct the origin of the panchromatic file: `rio edit-info --transform`"
            )
        return (f"{where}: edges get a fringe; the origin of the panchromatic file can be corrected",)

    def _crisp(self, band: Tensor, valid: Tensor, share: Tensor) -> Tensor:
        """A band (N, 1, H, W), 0 where not valid, made crisp; `share` is the blurred `valid`."""
        return (band + (band - self._blur(band) / share).mul_(_SHARPNESS)).mul_(valid)

    def _blur(self, x: Tensor) -> Tensor:
        for dy, dx in ((1, 0), (0, 1)):
            blurred = x * self.taps[0]
            for step, tap in enumerate(self.taps[1:], 1):
                pair = shifted(x, step * dy, step * dx) + shifted(x, -step * dy, -step * dx)
                blurred += pair.mul_(tap)
            x = blurred
        return x


class AdaptiveGramSchmidt(_Pansharpening):
    """Gram-Schmidt adaptive with context-adaptive gains.

    The intensity I is the regression of the panchromatic band P on the bands (GSA: Aiazzi, Baronti & Selva 2007, IEEE
    Transactions on Geoscience and Remote Sensing 45, 3230-3239). GSA regresses on a low-passed P; here it is P itself,
    which gives the same weights as far as the detail of P is uncorrelated with the bands, which have none. Each band gets
    its gain times P - I. The gain is cov(band, I) / var(I) in the window around the pixel (Aiazzi, Baronti, Lotti & Selva
    2009, A comparison between global and context-adaptive pansharpening, IEEE Geoscience and Remote Sensing Letters 6,
    302-306), with _FLOOR of the scene's var(I) added to the local one.

    Args:
        in_channels: the panchromatic band and the others.
        ratio: pixels of the panchromatic band per pixel of the others, along a side.

    `forward` takes (N, 1 + C, H, W), where a pixel that is 0 in all channels is not valid, and gives (N, C, H, W), fp32.

    Raises:
        CardError: if a band or the ratio is missing.
    """

    def __init__(self, *, in_channels: int, ratio: int = 2) -> None:
        super().__init__(in_channels=in_channels, ratio=ratio)
        self.support_px = self.blur_px + ratio

    def context(self, survey: Survey) -> Tensor:
        """(2 + 2 C,): means of all channels, weights of the bands, and what is added to the variance of I."""
        covariance = np.asarray(survey.covariance, np.float64)
        weights = _regress(covariance)
        variance = float(weights @ covariance[1:, 1:] @ weights)
        floor = _FLOOR * variance if variance > 0 else _NEVER  # where I says nothing, no band gets anything
        return torch.tensor([*survey.mean, *weights.tolist(), floor], dtype=torch.float32)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        means, weights, floor = context[: self.n_bands + 1], context[self.n_bands + 1 : -1], context[-1]
        valid = valid_pixels(x)
        share = self._blur(valid).clamp_(min=_TINY)
        out = torch.empty_like(x[:, 1:], dtype=torch.float32, memory_format=torch.contiguous_format)
        detail = (x[:, :1].float() - means[0]).mul_(valid)
        intensity = torch.zeros_like(valid)
        for k in range(self.n_bands):
            band = self._crisp((x[:, k + 1 : k + 2].float() - means[k + 1]).mul_(valid), valid, share)
            intensity += band * weights[k]
            out[:, k : k + 1] = band
        detail -= intensity
        count = box_sum(valid, self.ratio).clamp_(min=1)
        mean = box_sum(intensity, self.ratio).div_(count)
        variance = box_sum(intensity * intensity, self.ratio).div_(count).sub_(mean * mean).clamp_(min=0).add_(floor)
        for k in range(self.n_bands):
            band = out[:, k : k + 1]
            gain = box_sum(band * intensity, self.ratio) - box_sum(band, self.ratio).mul_(mean)
            band += gain.div_(count).div_(variance).mul_(detail)
            band += means[k + 1]
        return out.mul_(valid)


class Brovey(_Pansharpening):
    """Each band times P / I (Gillespie, Kahle & Walker 1987, Color enhancement of highly correlated images II, Remote
    Sensing of Environment 22, 343-365), with I from regression.

    Weights are at least 0: a band that would get less is left out and the others are regressed anew. The constant of the
    regression is taken from P, as in the haze-corrected variant of Lolli et al. (2017, IEEE Geoscience and Remote Sensing
    Letters 14, 2255-2259). P / I stays within 1 / _LIMIT and _LIMIT, and is 1 where I is not positive. Each band is made
    crisp by at most _MOST_CRISP of its own value.

    Args:
        in_channels: the panchromatic band and the others.
        ratio: pixels of the panchromatic band per pixel of the others, along a side.
        zero: where the physical 0 lies among the normalised values, -mean / std; a ratio needs to know.

    `forward` takes (N, 1 + C, H, W), where a pixel that is 0 in all channels is not valid, and gives (N, C, H, W), fp32.

    Raises:
        CardError: if a band or the ratio is missing.
    """

    def __init__(self, *, in_channels: int, ratio: int = 2, zero: float = 1.0) -> None:
        super().__init__(in_channels=in_channels, ratio=ratio)
        self.zero = zero
        self.support_px = self.blur_px

    def context(self, survey: Survey) -> Tensor:
        """(1 + C,): weights of the bands, and the constant of the regression in physical values."""
        weights = _regress(np.asarray(survey.covariance, np.float64), at_least_0=True)
        physical = np.asarray(survey.mean) - self.zero
        return torch.tensor([*weights.tolist(), physical[0] - weights @ physical[1:]], dtype=torch.float32)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        valid = valid_pixels(x)
        share = self._blur(valid).clamp_(min=_TINY)
        out = torch.empty_like(x[:, 1:], dtype=torch.float32, memory_format=torch.contiguous_format)
        intensity = torch.zeros_like(valid)
        for k in range(self.n_bands):
            band = (x[:, k + 1 : k + 2].float() - self.zero).mul_(valid)
            reach = band.abs() * _MOST_CRISP
            band = torch.clamp(self._crisp(band, valid, share), band - reach, band + reach)
            intensity += band * context[k]
            out[:, k : k + 1] = band
        pan = x[:, :1].float() - self.zero - context[-1]
        ratio = torch.where(intensity > _TINY, (pan / intensity).clamp_(1 / _LIMIT, _LIMIT), 1)
        return out.mul_(ratio).add_(self.zero).mul_(valid)


def _regress(covariance: NDArray[np.float64], *, at_least_0: bool = False) -> NDArray[np.float64]:
    """Weights (C,) of the bands that come nearest to the first channel, from (1 + C, 1 + C); the shortest if many do."""
    weights = np.zeros(len(covariance) - 1)
    used = np.arange(1, len(covariance))
    while used.size:
        found = np.linalg.lstsq(covariance[np.ix_(used, used)], covariance[used, 0], rcond=1e-9)[0]
        if not at_least_0 or found.min() >= 0:
            weights[used - 1] = found
            break
        used = np.delete(used, found.argmin())
    return weights
