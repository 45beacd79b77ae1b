"""Arithmetic of bands by name: `(nir - red) / (nir + red)` as a tree of values. Parsed, checked, and never run as code.

What may stand in an expression: numbers, names of bands, + - * / **, a minus sign, parentheses, and min, max, abs, sqrt and
log10. Knows nothing of pixels; a tree is computed by `models.networks.enhance.band_math`.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from earthloom.tiling.errors import CardError

FUNCTIONS = {"abs": 1, "sqrt": 1, "log10": 1, "min": 2, "max": 2}
"""Names, with the least number of arguments; min and max take more."""
OPERATORS = ("+", "-", "*", "/", "**")

_MOST_CHARACTERS = 1000
_MOST_PARTS = 200
_LARGEST = 1e9
_TOKENS = re.compile(r"(?:\s+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])|[A-Za-z_]\w*|\*\*|[-+*/(),])*", re.ASCII)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**",
}  # fmt: skip
_RULE = f"an index is made of numbers, bands by name, {' '.join(OPERATORS)}, parentheses and {', '.join(FUNCTIONS)}"


@dataclass(frozen=True, slots=True)
class Number:
    """A constant."""

    value: float

    def __str__(self) -> str:
        return f"{self.value:g}" if float(f"{self.value:g}") == self.value else repr(self.value)


@dataclass(frozen=True, slots=True)
class BandName:
    """The value of a band."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator or a function of parts."""

    name: str
    """One of OPERATORS or FUNCTIONS, or `-` with one part: its negative."""
    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        if self.name in FUNCTIONS:
            return f"{self.name}({', '.join(map(str, self.parts))})"
        if len(self.parts) == 1:
            return f"(-{self.parts[0]})"
        return f"({self.parts[0]} {self.name} {self.parts[1]})"


Expression = Number | BandName | Operation


def parse(text: str) -> Expression:
    """The tree of a text. Its `str` is one spelling for all texts that mean the same tree.

    Raises:
        CardError: naming what may not stand there.
    """
    if len(text) > _MOST_CHARACTERS:
        raise CardError(f"an index of {len(text)} characters: at most {_MOST_CHARACTERS} are read")
    known = _TOKENS.match(text)
    if known is None or known.end() < len(text):
        place = text[known.end() if known else 0 :]
        raise CardError(f"cannot read {place[:20]!r} in the index {text[:80]!r}; {_RULE}")
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply"
        raise CardError(f"cannot read the index {text[:80]!r}: {reason}; {_RULE}") from None
    if (n_parts := sum(1 for _ in ast.walk(body))) > _MOST_PARTS:
        raise CardError(f"the index {text[:80]!r} has {n_parts} parts, and at most {_MOST_PARTS} are computed")
    found = _tree(body, text)
    if not bands_of(found):
        raise CardError(f"the index {text[:80]!r} names no band, so it would be the same everywhere; {_RULE}")
    return found


def bands_of(expression: Expression) -> tuple[str, ...]:
    """Names of its bands, each once, in the order in which they stand."""
    if isinstance(expression, BandName):
        return (expression.name,)
    if isinstance(expression, Number):
        return ()
    return tuple(dict.fromkeys(name for part in expression.parts for name in bands_of(part)))


def values_held(expression: Expression) -> int:
    """Most arrays that are held at once while it is computed, the result included and the bands not."""
    if not isinstance(expression, Operation):
        return 0
    made, most = 0, 0
    for part in expression.parts:
        most = max(most, made + values_held(part))
        made += isinstance(part, Operation)
    return max(most, made + 1)


def _tree(node: ast.expr, text: str) -> Expression:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if not abs(value) <= _LARGEST:
                raise CardError(f"{ast.unparse(node)} in the index {text[:80]!r} is beyond {_LARGEST:g}")
            return Number(float(value))
        case ast.Name(id=name):
            if name in FUNCTIONS or not _NAME.match(name):
                raise CardError(
                    f"{name[:40]!r} in the index {text[:80]!r} is no name of a band; those are lower case: nir, swir16"
                )
            return BandName(name)
        case ast.UnaryOp(op=ast.USub(), operand=part):
            return _folded("-", (_tree(part, text),), text)
        case ast.UnaryOp(op=ast.UAdd(), operand=part):
            return _tree(part, text)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _BINARY:
            return _folded(_BINARY[type(operator)], (_tree(left, text), _tree(right, text)), text)
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]) if name in FUNCTIONS:
            least = FUNCTIONS[name]
            if len(parts) < least or (least == 1 and len(parts) > 1) or any(isinstance(p, ast.Starred) for p in parts):
                wanted = "one value" if least == 1 else f"{least} values or more"
                raise CardError(f"{name} in the index {text[:80]!r} takes {wanted}, got {len(parts)}")
            return _folded(name, tuple(_tree(part, text) for part in parts), text)
    raise CardError(f"{ast.unparse(node)[:60]!r} may not stand in the index {text[:80]!r}: {_RULE}")


def _folded(name: str, parts: tuple[Expression, ...], text: str) -> Expression:
    """An operation; of constants alone, the constant that it comes to."""
    values = [part.value for part in parts if isinstance(part, Number)]
    if len(values) < len(parts):
        if name in ("min", "max") and len(values) > 1:
            parts = (Number(compute(name, values)), *(part for part in parts if not isinstance(part, Number)))
        return Operation(name, parts)
    try:
        found = compute(name, values)
    except (ArithmeticError, ValueError):
        found = math.nan
    if isinstance(found, complex) or not abs(found) <= _LARGEST:
        raise CardError(f"{Operation(name, parts)} in the index {text[:80]!r} is no number up to {_LARGEST:g}")
    return Number(float(found))


_ARITHMETIC: dict[str, Callable[..., float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow, "min": min,
    "max": max, "abs": abs, "sqrt": math.sqrt, "log10": math.log10,
}  # fmt: skip


def compute(name: str, values: list[float]) -> float:
    """One operation on numbers."""
    if name == "-" and len(values) == 1:
        return -values[0]
    return _ARITHMETIC[name](*values)
