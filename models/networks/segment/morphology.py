"""Closing and opening of marked ground by a disc, whatever cuts the scene. Knows nothing of what is marked."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def close_and_open(marked: Tensor, known: Tensor, radius_px: int) -> Tensor:
    """Gaps narrower than a disc are filled, then what is narrower than one is dropped (Serra, J. (1982), Image Analysis and
    Mathematical Morphology, Academic Press).

    Args:
        marked: (N, H, W) fp32, 1 or 0; NaN stays NaN wherever it can reach.
        known: (N, H, W) bool; what is not known, and what lies beyond the edge, neither marks nor clears a neighbour.
        radius_px: radius of the disc; 0 changes nothing.

    Returns:
        (N, H, W) fp32, 1 or 0, 0 where it is not known. A pixel hears of others up to 4 radii away.
    """
    if radius_px == 0:
        return torch.where(known, marked, 0)
    return open_by_disc(_erode(_dilate(marked, known, radius_px), known, radius_px), known, radius_px)


def open_by_disc(marked: Tensor, known: Tensor, radius_px: int) -> Tensor:
    """What is narrower than a disc of 2 radii and a pixel is dropped; as `close_and_open`, within 2 radii."""
    return _dilate(_erode(marked, known, radius_px), known, radius_px)


def _erode(marked: Tensor, known: Tensor, radius_px: int) -> Tensor:
    return torch.where(known, 1 - _dilate(1 - marked, known, radius_px), 0)


def _dilate(marked: Tensor, known: Tensor, radius_px: int) -> Tensor:
    """The largest value under a disc; rows of the disc are built outwards from its middle column."""
    height, width = marked.shape[1:]
    padded = nn.functional.pad(torch.where(known, marked, 0), (radius_px,) * 4)
    row = padded[:, :, radius_px : radius_px + width].clone()  # as wide as the disc's part that was reached so far
    found = torch.zeros_like(marked)
    reach = 0
    for offset in sorted(range(-radius_px, radius_px + 1), key=abs, reverse=True):
        while reach < _half_width(radius_px, offset):
            reach += 1
            for side in (-reach, reach):
                row = torch.maximum(row, padded[:, :, radius_px + side : radius_px + side + width])
        found = torch.maximum(found, row[:, radius_px + offset : radius_px + offset + height])
    return torch.where(known, found, 0)


def _half_width(radius_px: int, offset: int) -> int:
    """Half the width of a disc's row `offset` from its middle; the disc is a third of a pixel wider than the circle."""
    return math.isqrt(int((radius_px + 1 / 3) ** 2 - offset**2))
