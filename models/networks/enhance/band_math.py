"""An index of bands as a network without weights: one number for each pixel, by an expression."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from earthloom.models.cards.expression import BandName, Expression, Number, bands_of, parse
from earthloom.tiling.errors import CardError

Value = Tensor | float


class BandMath(nn.Module):
    """The expression's value at each pixel, in fp32 and in the order in which it is written.

    Args:
        in_channels: as many as there are `names`.
        expression: of bands by name (`models.cards.expression`).
        names: names of the channels.

    `forward` takes physical values (N, C, H, W) and returns (N, 1, H, W). Where the expression has no value (a division by
    0, the root of a negative number) that is NaN or infinite, and the pixel becomes nodata.

    Raises:
        CardError: if the expression is none, or names a band that is no channel.
    """

    def __init__(self, *, in_channels: int, expression: str, names: Sequence[str]) -> None:
        super().__init__()
        self.expression = parse(expression)
        self.names = tuple(names)
        if in_channels != len(self.names) or set(bands_of(self.expression)) != set(self.names):
            raise CardError(
                f"the index {expression[:80]!r} is of {', '.join(bands_of(self.expression))}, but the network gets "
                f"{in_channels} channels called {', '.join(map(str, self.names))}"
            )
        self.support_px = 0

    def forward(self, x: Tensor) -> Tensor:
        bands = dict(zip(self.names, x.float().unbind(dim=1), strict=True))
        found = _value(self.expression, bands)
        assert isinstance(found, Tensor), "an expression names a band"
        return found.unsqueeze(1)


def _value(expression: Expression, bands: Mapping[str, Tensor]) -> Value:
    if isinstance(expression, Number):
        return expression.value
    if isinstance(expression, BandName):
        return bands[expression.name]
    values = [_value(part, bands) for part in expression.parts]
    if expression.name == "-" and len(values) == 1:
        return -values[0]
    if expression.name in _OF_ONE:
        return _OF_ONE[expression.name](torch.as_tensor(values[0]))
    return functools.reduce(_OF_TWO[expression.name], values)


def _least(a: Value, b: Value) -> Value:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.minimum(a, b)
    tensor, number = _tensor_first(a, b)
    return tensor.clamp(max=number)


def _greatest(a: Value, b: Value) -> Value:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.maximum(a, b)
    tensor, number = _tensor_first(a, b)
    return tensor.clamp(min=number)


def _tensor_first(a: Value, b: Value) -> tuple[Tensor, float]:
    if isinstance(a, Tensor):
        assert not isinstance(b, Tensor)
        return a, b
    assert isinstance(b, Tensor), "constants are folded when an expression is parsed"
    return b, a


_OF_ONE: dict[str, Callable[[Tensor], Tensor]] = {"abs": torch.abs, "sqrt": torch.sqrt, "log10": torch.log10}
_OF_TWO: dict[str, Callable[[Value, Value], Value]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "**": lambda a, b: a**b, "min": _least, "max": _greatest,
}  # fmt: skip
