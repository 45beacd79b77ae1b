"""By how much one image lies beside another of the same ground: phase correlation. Arrays in, numbers out.

Knows nothing of files, bands or dates; the caller chooses which pixels stand for a scene.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.errors import TilingError

RELIABLE = 12.0
"""Least `Shift.strength` of an answer to be believed: images that have nothing in common reach 11."""

LEAST_PX = 32
"""Side of the smallest images that are compared."""

_STEPS = 20  # per pixel, at which the peak is looked for: the error of the method itself is not below


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How far the ground lies in one image from where it lies in another.

    Attributes:
        rows_px, cols_px: by which what the reference shows lies further down and to the right in the other image.
        strength: height of the correlation's peak over the root mean square of all of it. Below `RELIABLE` the images
            have too little in common, and the shift says nothing.
    """

    rows_px: float
    cols_px: float
    strength: float

    @property
    def length_px(self) -> float:
        return math.hypot(self.rows_px, self.cols_px)

    @property
    def is_reliable(self) -> bool:
        return self.strength >= RELIABLE


def measure_shift(
    reference: NDArray[Any], other: NDArray[Any], valid: NDArray[np.bool_] | None = None, *, cycles_per_px: float = 0.25
) -> Shift:
    """The shift between two images of one ground, to about a tenth of a pixel, whatever their brightness and contrast.

    The cross-power spectrum with all amplitudes set to one is that of a peak at the shift (Kuglin and Hines, "The phase
    correlation image alignment method", Proc. IEEE Conf. Cybernetics and Society, 1975). Whole pixels are found by one
    inverse transform, parts of a pixel by a product of matrices around the peak (Guizar-Sicairos, Thurman and Fienup,
    "Efficient subpixel image registration algorithms", Optics Letters 33(2), 2008, doi:10.1364/OL.33.000156).

    Args:
        reference, other: (H, W), or (N, H, W) for N pieces of one pair of images, whose spectra are added; any real dtype.
        valid: of the same shape, true where both images show ground. Default: everywhere.
        cycles_per_px: highest frequency that counts. Beyond the default lie noise, resampling and compression rather than
            ground; an image that was interpolated from one of a quarter of its pixels per side shows nothing beyond 0.125.

    Raises:
        TilingError: if the shapes differ, or a side has fewer than 32 px.
    """
    if reference.shape != other.shape or reference.ndim not in (2, 3) or min(reference.shape[-2:]) < LEAST_PX:
        raise TilingError(
            f"phase correlation compares two images of one shape, of at least {LEAST_PX} px a side; got "
            f"{reference.shape} and {other.shape}: read both over one window of one grid"
        )
    height, width = reference.shape[-2:]
    known = np.ones(reference.shape, np.bool_) if valid is None else valid
    pieces = zip(*(array.reshape(-1, height, width) for array in (reference, other, known)), strict=True)
    spectrum = np.zeros((height, width), np.complex128)
    for one, two, mask in pieces:
        cross = np.fft.fft2(_tapered(two, mask)) * np.fft.fft2(_tapered(one, mask)).conj()
        amplitude = np.abs(cross)
        spectrum += np.divide(cross, amplitude, out=np.zeros_like(cross), where=amplitude > 0)
    down, across = np.fft.fftfreq(height), np.fft.fftfreq(width)
    spectrum[np.hypot(down[:, None], across[None, :]) > cycles_per_px] = 0
    surface = np.fft.ifft2(spectrum).real
    rms = float(np.sqrt(np.mean(surface**2)))
    if rms == 0:
        return Shift(rows_px=0.0, cols_px=0.0, strength=0.0)
    reach = min(height, width) // 4  # the longest shift along an axis that is looked for
    near = (np.abs(down * height) <= reach)[:, None] & (np.abs(across * width) <= reach)[None, :]
    row, col = np.unravel_index(np.argmax(np.where(near, surface, -np.inf)), surface.shape)
    offsets = np.arange(-_STEPS, _STEPS + 1) / _STEPS
    rows, cols = round(down[row] * height) + offsets, round(across[col] * width) + offsets
    fine = np.exp(2j * np.pi * rows[:, None] * down) @ spectrum @ np.exp(2j * np.pi * across[:, None] * cols)
    best = np.unravel_index(np.argmax(fine.real), fine.shape)
    return Shift(
        rows_px=float(rows[best[0]]), cols_px=float(cols[best[1]]),
        strength=float(fine.real[best]) / (height * width) / rms,
    )  # fmt: skip


def _tapered(image: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Deviations from the mean of what is valid, falling to zero at the edges, which would else correlate by themselves."""
    if not valid.any():
        return np.zeros(image.shape)
    values = np.where(valid, image, 0).astype(np.float64)
    values = np.where(valid, values - values.sum() / valid.sum(), 0.0)
    return values * np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])[None, :]
