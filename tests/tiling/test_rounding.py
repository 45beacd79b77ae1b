from fractions import Fraction
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from earthloom.tiling.rounding import ceil_div, round_up

sizes, steps = st.integers(-(2**70), 2**70), st.integers(1, 2**40)


@given(size=sizes, step=steps)
def test_pieces_are_the_exact_quotient_rounded_up(size: int, step: int) -> None:
    assert ceil_div(size, step) == ceil(Fraction(size, step))


@given(size=sizes, step=steps)
def test_a_size_is_rounded_up_to_the_next_multiple(size: int, step: int) -> None:
    rounded = round_up(size, step)
    assert rounded % step == 0
    assert size <= rounded < size + step
