"""The schedule of a training: steps, batch, learning rates, freezing and precision. Imports nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from earthloom.tiling.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Steps, rates and precision of a fit.

    Raises:
        ConfigError: if a number is out of its range.
    """

    steps: int
    batch: int = 8
    accumulate: int = 1
    """Batches whose gradients are averaged before the weights move: a large batch in the memory of a small one."""
    rate: float = 2e-3
    """Learning rate at its highest, for AdamW (Loshchilov and Hutter 2019)."""
    pretrained_rate: float = 0.5
    """Share of the rate for the part that was trained before."""
    layer_decay: float = 1.0
    """In that part, each layer's rate is this share of the next one's: early layers move least (Howard and Ruder 2018,
    ACL; Bao et al. 2022, ICLR)."""
    freeze_steps: int = 0
    """Number of steps for which that part stays as it is, its batch statistics too."""
    warm_up: float = 0.1
    """Share of the steps over which the rate rises; a half cosine then brings it to 0."""
    decay: float = 0.02
    """Weight decay of convolutions and products; biases and norms have none."""
    memory_steps: float = 60.0
    """Steps over which the average of the weights forgets by e."""
    stay: float = 0.0
    """Share, below 1, of the first weights in those that are kept: between the two a network often does what it did before and
    what it has learned since (Wortsman et al. 2022, Robust fine-tuning of zero-shot models, CVPR)."""
    precision: str = "bf16"
    """`bf16` computes convolutions in bf16 and keeps weights in fp32 (Micikevicius et al. 2018); or `fp32`."""
    seed: int = 0

    def __post_init__(self) -> None:
        if (
            min(self.steps, self.batch, self.accumulate) < 1
            or not 0 <= self.warm_up < 1
            or self.precision not in ("bf16", "fp32")
        ):
            raise ConfigError(
                "a schedule has at least one step and one crop in a batch, a warm_up from 0 to below 1 and the precision "
                f"bf16 or fp32; got {self}"
            )
        if min(self.rate, self.pretrained_rate, self.decay, self.freeze_steps) < 0 or not 0 < self.layer_decay <= 1:
            raise ConfigError(
                f"rates, decay and frozen steps are 0 or more, layer_decay is above 0 and at most 1; got {self}"
            )
        if not 0 <= self.stay < 1:
            raise ConfigError(f"of the first weights a share from 0 to below 1 can stay, got stay {self.stay}")
        if self.memory_steps < 1:
            raise ConfigError(
                f"the average of the weights remembers at least one step, got memory_steps {self.memory_steps}"
            )

    def rate_at(self, step: int) -> float:
        """Share of the highest rate at a step."""
        rising = self.warm_up * self.steps
        if step < rising:
            return (step + 1) / (rising + 1)
        return 0.5 + 0.5 * math.cos(math.pi * (step - rising) / (self.steps - rising))
