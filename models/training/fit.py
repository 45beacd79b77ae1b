"""Fits a network to batches: AdamW on one cosine cycle, cross-entropy plus Dice, an average of the weights at the end.

The same seed, data, thread count and machine give the same bytes. What is kept is the running average of the weights
after the last step; no score decides when to stop, so the held-back part stays unseen. Knows nothing of files.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from earthloom.models.training.data import IGNORE
from earthloom.tiling.errors import ConfigError, EngineError

Batches = Callable[[int, int], tuple[Tensor, Tensor]]
"""(step, size) -> crops (size, C, h, w) and labels (size, h, w), as `Crops.batch` makes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How a network is fitted.

    Raises:
        ConfigError: if a number is out of its range.
    """

    steps: int
    batch: int = 8
    rate: float = 2e-3
    """Learning rate at its highest, for AdamW (Loshchilov and Hutter 2019)."""
    pretrained_rate: float = 0.5
    """Share of the rate for the part that was trained before."""
    warm_up: float = 0.1
    """Share of the steps over which the rate rises; a half cosine then brings it to 0."""
    decay: float = 0.02
    """Weight decay of convolutions; biases and norms have none."""
    memory_steps: float = 60.0
    """Steps over which the average of the weights forgets by e."""
    precision: str = "bf16"
    """`bf16` computes convolutions in bf16 and keeps weights in fp32 (Micikevicius et al. 2018); or `fp32`."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1 or not 0 <= self.warm_up < 1 or self.precision not in ("bf16", "fp32"):
            raise ConfigError(
                "a schedule has at least one step and one crop in a batch, a warm_up from 0 to below 1 and the precision "
                f"bf16 or fp32; got {self}"
            )

    def rate_at(self, step: int) -> float:
        """Share of the highest rate at a step."""
        rising = self.warm_up * self.steps
        if step < rising:
            return (step + 1) / (rising + 1)
        return 0.5 + 0.5 * math.cos(math.pi * (step - rising) / (self.steps - rising))


def fit(
    module: nn.Module, batches: Batches, schedule: Schedule, *, pretrained: nn.Module | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> nn.Module:  # fmt: skip
    """Train a copy of the network and return the running average of its weights, in eval mode, fp32.

    Args:
        module: gives logits (N, K, h, w) on the device of its parameters.
        batches: makes the batch of a step.
        schedule: how.
        pretrained: part of the module whose weights come from elsewhere and move more slowly.
        on_step: is called with each step and its loss.

    Raises:
        EngineError: if the loss is no longer a number.
    """
    torch.manual_seed(schedule.seed)
    slow = {id(parameter) for parameter in pretrained.parameters()} if pretrained is not None else set()
    names_slow = {name for name, parameter in module.named_parameters() if id(parameter) in slow}
    untyped: Any = copy.deepcopy(module)  # Any: torch's stubs do not know memory_format in Module.to
    network: nn.Module = untyped.to(memory_format=torch.channels_last).train()
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(_groups(network, names_slow, schedule))
    highest = [group["lr"] for group in optimiser.param_groups]
    device = next(network.parameters()).device
    for step in range(schedule.steps):
        for group, rate in zip(optimiser.param_groups, highest, strict=True):
            group["lr"] = rate * schedule.rate_at(step)
        crops, labels = batches(step, schedule.batch)
        crops = crops.to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=schedule.precision == "bf16"):
            logits = network(crops)
        value = loss(logits.float(), labels.to(device))
        if not torch.isfinite(value):
            raise EngineError(f"the loss is {value.item()} at step {step}; lower the rate, which is {schedule.rate}")
        optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]  # torch's own
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        _follow(average, network, max(1 / (step + 1), 1 / schedule.memory_steps))
        if on_step:
            on_step(step, value.item())
    return average.eval()


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus the mean over classes of 1 - Dice, over pixels whose label is not IGNORE.

    Dice is soft and pooled over the batch (Milletari et al. 2016, V-Net), so that a rare class counts as much as a
    common one. Arguments: logits (N, K, h, w) fp32, labels (N, h, w) int64.
    """
    known = labels != IGNORE
    n_known = known.sum().clamp(min=1)
    entropy = cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum") / n_known
    wanted = one_hot(labels.where(known, 0), logits.shape[1]).movedim(-1, 1) * known[:, None]
    given = logits.softmax(dim=1) * known[:, None]
    axes = (0, 2, 3)
    smooth = 1.0  # a class that is absent and not predicted has lost nothing
    dice = (2 * (given * wanted).sum(axes) + smooth) / (given.sum(axes) + wanted.sum(axes) + smooth)
    return entropy + 1 - dice.mean()


def _groups(network: nn.Module, slow: set[str], schedule: Schedule) -> list[dict[str, Any]]:
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        groups.setdefault((name in slow, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": schedule.rate * (schedule.pretrained_rate if is_slow else 1.0),
            "weight_decay": schedule.decay if is_kernel else 0.0,
        }
        for (is_slow, is_kernel), parameters in groups.items()
    ]


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, share: float) -> None:
    """Move the average, batch statistics included, by a share of the way to the network."""
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, share)
        else:
            kept.copy_(new)
