"""`python -m infra.recipes.mean TARGET FILE FILE …`: the mean of weights that were trained on from the same first ones.

Wortsman et al. (2022), Model soups: averaging weights of multiple fine-tuned models improves accuracy, ICML. Files are
safetensors of one network; the target is in fp16, as shipped weights are. Knows nothing of cards.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from earthloom.models.cards.weights import read_tensors
from earthloom.models.training.export import save_weights
from earthloom.tiling.errors import CardError


def mean_of(files: Sequence[Path]) -> dict[str, Tensor]:
    """Name -> mean in fp32; numbers that count, as of batches, are the first file's.

    Raises:
        CardError: if a file cannot be read, or is of another network than the first.
    """
    first, *others = (read_tensors(file) for file in files)
    for file, other in zip(files[1:], others, strict=True):
        if {name: value.shape for name, value in other.items()} != {name: value.shape for name, value in first.items()}:
            raise CardError(
                f"{file} is of another network than {files[0]}; give files of trainings with the same first weights"
            )
    return {
        name: torch.stack([each[name].float() for each in (first, *others)]).mean(dim=0) if value.is_floating_point() else value
        for name, value in first.items()
    }  # fmt: skip


if __name__ == "__main__":
    target, *given = map(Path, sys.argv[1:])
    print(save_weights(mean_of(given), target, "fp16"))
