"""Fits a network to batches: AdamW on one cosine cycle, and an average of the weights that lags behind them.

A fit is a value that moves on step by step, can be written down after any of them, and goes on from what was written with
the bytes that it would have had: the same data, thread count and machine give the same weights. Knows nothing of files.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from earthloom.models.training.schedule import Schedule
from earthloom.models.training.team import Team
from earthloom.tiling.errors import ConfigError, EngineError

Batches = Callable[[int, int], tuple[Tensor, Tensor]]
"""(number, size) -> normalised crops (size, C, h, w) and labels (size, h, w), a function of nothing else."""

_NORMS = nn.modules.batchnorm._BatchNorm
_MOST_GRADIENT = 1.0  # length of the gradient beyond which it is shortened (Pascanu et al. 2013, ICML)


class Fit:
    """A network on its way.

    Args:
        module: gives logits on the device of its parameters; it is copied.
        loss: what is made small, of logits fp32 and labels.
        schedule: how.
        pretrained: names of the parameters that were learned before, which move more slowly.
        held: names of the parameters and batch statistics that stay as they are for the schedule's frozen steps.
        team: the processes that train it together.
        teacher: another term of the loss, of crops, logits and labels (`models.training.teacher`).

    Raises:
        ConfigError: if something is to be frozen or to stay and nothing was learned before, or the batch has no equal shares
            for the team.
    """

    def __init__(
        self, module: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, *,
        pretrained: Collection[str] = (), held: Collection[str] = (), team: Team | None = None,
        teacher: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    ) -> None:  # fmt: skip
        if schedule.freeze_steps and not held:
            raise ConfigError(
                "'freeze_steps' keeps what was learned before as it is, but this network starts from nothing"
            )
        if schedule.stay and not pretrained:
            raise ConfigError("'stay' keeps a share of the first weights, but this network starts from nothing")
        untyped: Any = copy.deepcopy(module)  # Any: torch's stubs do not know memory_format in Module.to
        self.network: nn.Module = untyped.to(memory_format=torch.channels_last).train()
        self.average: nn.Module = copy.deepcopy(self.network).eval()
        first = self.average.state_dict().items() if schedule.stay else ()
        self._first = {name: value.clone() for name, value in first if name in pretrained and value.is_floating_point()}
        self.step = 0
        self.schedule = schedule
        self._loss, self._team, self._teacher = loss, team or Team(), teacher
        if schedule.batch % self._team.size:
            raise ConfigError(
                f"`batch={schedule.batch}` cannot be shared evenly by {self._team.size} workers; use a multiple"
            )
        self._held = frozenset(held)
        self._device = next(self.network.parameters()).device
        self._optimiser = torch.optim.AdamW(_groups(self.network, frozenset(pretrained), schedule))
        self._highest = [group["lr"] for group in self._optimiser.param_groups]
        self._is_frozen: bool | None = None

    def advance(self, batches: Batches) -> float:
        """Take one step and return its loss.

        Raises:
            EngineError: if the loss is no longer a number.
            ConfigError: if the network cannot learn from so small a batch.
        """
        schedule, step = self.schedule, self.step
        self._freeze(step < schedule.freeze_steps)
        for group, rate in zip(self._optimiser.param_groups, self._highest, strict=True):
            group["lr"] = rate * schedule.rate_at(step)
        self._optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self._device)
        for part in range(schedule.accumulate):
            number = step * schedule.accumulate + part
            torch.manual_seed(
                (schedule.seed * 2**40 + number * self._team.size + self._team.number) % 2**63
            )  # of dropout
            crops, labels = batches(number, schedule.batch // self._team.size)
            value = self._forward(crops, labels) / schedule.accumulate
            torch.autograd.backward(value)
            total += value.detach()
        self._team.average([total])
        if not torch.isfinite(total):
            raise EngineError(f"the loss is {total.item()} at step {step}; lower the rate, which is {schedule.rate}")
        self._team.average([p.grad for p in self.network.parameters() if p.grad is not None])
        nn.utils.clip_grad_norm_(self.network.parameters(), _MOST_GRADIENT)
        self._optimiser.step()
        self._team.average([buffer for buffer in self.network.buffers() if buffer.is_floating_point()])
        _follow(self.average, self.network, max(1 / (step + 1), 1 / schedule.memory_steps))
        self.step += 1
        return total.item()

    def kept(self) -> nn.Module:
        """The network that comes out if it ends here, in eval mode: the average, of which what was learned before is drawn back
        to its first weights by `stay`."""
        if not self._first:
            return self.average
        between: nn.Module = copy.deepcopy(self.average)
        for name, value in between.state_dict().items():
            if name in self._first:
                value.lerp_(self._first[name], self.schedule.stay)
        return between

    def state(self) -> dict[str, Tensor]:
        """All that a later process needs to go on, beside `step`: name -> tensor on the CPU, sharing no memory."""
        found = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        found |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self._optimiser.state.get(parameter, {}).items():
                found[f"optimiser.{key}.{name}"] = value
        return {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in found.items()
        }

    def resume(self, state: dict[str, Tensor], step: int) -> None:
        """Become what `state` described after `step` steps.

        Raises:
            EngineError: if it is not the state of this network.
        """
        try:
            for part, module in (("network.", self.network), ("average.", self.average)):
                module.load_state_dict(
                    {name[len(part) :]: value for name, value in state.items() if name.startswith(part)}
                )
            for name, parameter in self.network.named_parameters():
                for key in ("step", "exp_avg", "exp_avg_sq"):
                    value = state.get(f"optimiser.{key}.{name}")
                    if value is None:
                        continue
                    kept = torch.empty_like(value if key == "step" else parameter, requires_grad=False)
                    self._optimiser.state[parameter][key] = kept.copy_(value)
        except RuntimeError as error:
            raise EngineError(f"the checkpoint of step {step} is of another network: {error}") from error
        self.step = step

    def _forward(self, crops: Tensor, labels: Tensor) -> Tensor:
        crops = crops.to(self._device).contiguous(memory_format=torch.channels_last)
        try:
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self.schedule.precision == "bf16"):
                logits = self.network(crops)
                taught = self._teacher(crops, logits.float(), labels.to(self._device)) if self._teacher else 0.0
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"a batch of {len(crops)} crops of {crops.shape[-1]} px leaves one value for each channel of the network's "
                "smallest layer, whose batch statistics need several: use a `batch` of 2 or more"
            ) from error
        return self._loss(logits.float(), labels.to(self._device)) + taught

    def _freeze(self, is_frozen: bool) -> None:
        """Hold what is to be held, or let it go; norms that are held do not gather statistics either."""
        if self._is_frozen == is_frozen:
            return
        self._is_frozen = is_frozen
        for name, parameter in self.network.named_parameters():
            if name in self._held:
                parameter.requires_grad_(not is_frozen)
        for name, module in self.network.named_modules():
            if isinstance(module, _NORMS) and f"{name}.running_mean" in self._held:
                module.train(not is_frozen)


def _groups(network: nn.Module, pretrained: Collection[str], schedule: Schedule) -> list[dict[str, Any]]:
    layers = list(dict.fromkeys(_layers(name for name, _ in network.named_parameters() if name in pretrained)))
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        share = 1.0
        if name in pretrained:
            below_last = len(layers) - 1 - layers.index(next(_layers([name])))
            share = schedule.pretrained_rate * schedule.layer_decay**below_last
        groups.setdefault((share, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "lr": schedule.rate * share, "weight_decay": schedule.decay if is_kernel else 0.0}
        for (share, is_kernel), parameters in groups.items()
    ]


def _layers(names: Collection[str] | Iterator[str]) -> Iterator[str]:
    """The layer of each parameter: its name up to the first number in it, as in `encoder.layer1.0`, else its module's."""
    for name in names:
        numbered = re.match(r"(?:[^.]+\.)*?\d+(?=\.)", name)
        yield numbered[0] if numbered else name.rpartition(".")[0]


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, share: float) -> None:
    """Move the average, batch statistics included, by a share of the way to the network."""
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, share)
        else:
            kept.copy_(new)
