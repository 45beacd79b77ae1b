"""Confusion matrices of networks on labelled crops, and IoU from them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earthloom.models.training.augment import IGNORE
from earthloom.models.training.team import Team


def confusion(found: NDArray[np.uint8], wanted: NDArray[np.uint8], n_classes: int) -> NDArray[np.int64]:
    """(K, K): row k, column j counts the pixels of class k that were found to be j; IGNORE is not counted."""
    known = wanted != IGNORE
    counts = np.bincount(wanted[known].astype(np.int64) * n_classes + found[known], minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes)


def iou(counts: NDArray[np.int64], value: int) -> float:
    """Intersection over union of one class, pooled over all that was counted; 0 if it is neither there nor found."""
    union = counts[value].sum() + counts[:, value].sum() - counts[value, value]
    return float(counts[value, value] / max(int(union), 1))


@torch.inference_mode()
def confusion_of(network: nn.Module, crops: Tensor, labels: Tensor, n_classes: int, *, is_bf16: bool) -> Tensor:
    """Count a batch: (K, K) int64 on the CPU, as `confusion` counts.

    Args:
        network: in eval mode; gives logits.
        crops: (n, C, h, w) normalised.
        labels: (n, h, w) int64, IGNORE where nothing is to be counted.
        is_bf16: compute convolutions in bf16.
    """
    found = _answer(network, crops, is_bf16).argmax(dim=1)
    wanted = labels.to(found.device)
    known = wanted != IGNORE
    counts = torch.bincount(wanted[known] * n_classes + found[known], minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes).cpu()


@torch.inference_mode()
def answered(network: nn.Module, crops: Tensor, *, is_bf16: bool) -> Tensor:
    """The answer of a network in eval mode to crops (n, C, h, w) that are on the CPU: fp32 on the CPU."""
    return _answer(network, crops, is_bf16).float().cpu()


def _answer(network: nn.Module, crops: Tensor, is_bf16: bool) -> Tensor:
    device = next(network.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
        answer: Tensor = network(crops.to(device).contiguous(memory_format=torch.channels_last))
    return answer


def summed(counts: NDArray[np.int64], team: Team) -> NDArray[np.int64]:
    """Counts of all processes of a team together."""
    total: NDArray[np.int64] = team.total(torch.from_numpy(counts)).numpy()
    return total
