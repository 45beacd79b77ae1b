"""Folds batch norms that directly follow a convolution into it, which saves one pass over the pixels for each.

What follows what is watched, not read from names: a small pass is run and every operation on a convolution's answers
seen. A norm is folded only where it alone takes all answers of one convolution; one behind a ReLU, or one whose
convolution is used elsewhere too, stays. Arithmetic is in float64. Knows nothing of cards or devices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Convolution = nn.Conv2d | nn.ConvTranspose2d

_READS = frozenset({"dim", "size", "__get__"})
"""Questions about a tensor's form, where their answer is no tensor (`x.shape`, but not `x.data`)."""


def fold(module: nn.Module, example: Tensor) -> int:
    """Fold what can be folded, in place, and return how many norms are gone.

    In exact arithmetic the network's answers stay what they were; in fp32 they move by rounding.

    Args:
        module: in evaluation mode, in the precision that its weights were saved in.
        example: (N, C, H, W) that the network takes; its values do not matter.
    """
    norms = {layer for layer in module.modules() if _is_fixed(layer)}
    if not norms:
        return 0
    watch = _Watch()
    with ExitStack() as hooks, torch.no_grad():
        for layer in module.modules():
            if type(layer) in (nn.Conv2d, nn.ConvTranspose2d):
                hooks.callback(layer.register_forward_hook(watch.convolved).remove)
            elif layer in norms:
                hooks.callback(layer.register_forward_pre_hook(watch.before_norm).remove)
                hooks.callback(layer.register_forward_hook(watch.after_norm).remove)
        with watch:
            answer = module(example)
    watch.use(answer)
    pairs = dict(watch.pairs())
    for norm, convolution in pairs.items():
        _absorb(convolution, norm)
    for owner in list(module.modules()):
        for name, child in list(owner._modules.items()):  # named_children tells a shared layer once only
            if child in pairs:
                setattr(owner, name, nn.Identity())
    return len(pairs)


def _is_fixed(layer: nn.Module) -> bool:
    """A norm by stored statistics; of the exact type, for a subclass may do more than to normalise."""
    return type(layer) is nn.BatchNorm2d and not layer.training and layer.running_mean is not None


class _Watch(TorchFunctionMode):
    """Sees who takes the answers of each convolution during one pass."""

    def __init__(self) -> None:
        super().__init__()
        self._answers: dict[int, tuple[Tensor, Convolution]] = {}  # by id; the tensors are kept, so no id comes twice
        self._other_uses: dict[int, int] = defaultdict(int)
        self._takers: dict[int, list[nn.BatchNorm2d]] = defaultdict(list)
        self._taken: dict[nn.BatchNorm2d, list[Tensor]] = defaultdict(list)  # kept for the same reason
        self._before = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        answer = func(*args, **kwargs or {})
        if getattr(func, "__name__", "") not in _READS or any(True for _ in _tensors(answer)):
            self.use((args, kwargs))
        return answer

    def use(self, values: Any) -> None:
        for tensor in _tensors(values):
            self._other_uses[id(tensor)] += 1

    def convolved(self, layer: nn.Module, _: Any, answer: Tensor) -> None:
        assert isinstance(layer, Convolution)
        self._answers[id(answer)] = answer, layer
        self._other_uses[id(answer)] = 0

    def before_norm(self, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        self._before = self._other_uses[id(arguments[0])]

    def after_norm(self, layer: nn.Module, arguments: tuple[Any, ...], _: Tensor) -> None:
        assert isinstance(layer, nn.BatchNorm2d)
        key = id(arguments[0])
        self._other_uses[key] = self._before  # what the norm itself did with it is no other use
        self._takers[key].append(layer)
        self._taken[layer].append(arguments[0])

    def pairs(self) -> Iterator[tuple[nn.BatchNorm2d, Convolution]]:
        """Norms that took all answers of one convolution and nothing else, where nobody else took any."""
        given: dict[Convolution, list[int]] = defaultdict(list)
        for key, (_, convolution) in self._answers.items():
            given[convolution].append(key)
        for convolution, keys in given.items():
            norms = {norm for key in keys for norm in self._takers[key]}
            if len(norms) != 1 or any(self._other_uses[key] or len(self._takers[key]) != 1 for key in keys):
                continue
            (norm,) = norms
            if {id(tensor) for tensor in self._taken[norm]} == set(keys):
                yield norm, convolution


def _absorb(convolution: Convolution, norm: nn.BatchNorm2d) -> None:
    """norm(convolution(x)) = gamma * (w * x + b - mean) / sqrt(variance + eps) + beta, as another w and b."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, mean, variance = (
        part.detach().double() for part in (convolution.weight, norm.running_mean, norm.running_var)
    )
    factor = 1 / torch.sqrt(variance + norm.eps)
    if norm.weight is not None:  # None without affine, whatever torch's stubs say
        factor = factor * norm.weight.detach().double()
    offset = -mean if convolution.bias is None else convolution.bias.detach().double() - mean
    bias = offset * factor
    if norm.bias is not None:
        bias = bias + norm.bias.detach().double()
    if isinstance(convolution, nn.ConvTranspose2d):  # (in, out / groups, h, w), group by group along `in`
        grouped = weight.reshape(convolution.groups, -1, *weight.shape[1:])
        weight = (grouped * factor.reshape(convolution.groups, 1, -1, 1, 1)).flatten(0, 1)
    else:  # (out, in / groups, h, w)
        weight = weight * factor[:, None, None, None]
    dtype = convolution.weight.dtype
    convolution.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    convolution.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
