"""Division and rounding of whole numbers upwards: how many pieces cover a length, and the next multiple of a step.

Exact for integers of any size, unlike `math.ceil(a / b)`, whose quotient is a float.
"""

from __future__ import annotations


def ceil_div(size: int, step: int) -> int:
    """How many pieces of `step` cover `size`; the last one may reach past the end."""
    return -(-size // step)


def round_up(size: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `size`."""
    return ceil_div(size, multiple) * multiple
