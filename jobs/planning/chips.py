"""The chip grid of each stage of a chain: cores, halos and margins. Pure arithmetic; opens nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from earthloom.jobs.config import RunConfig
from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.answers import answer_of
from earthloom.tiling.chips import ChipGrid, check_core
from earthloom.tiling.errors import CardError
from earthloom.tiling.rounding import ceil_div, round_up
from earthloom.tiling.window import Window

_SMALLEST_CORE_PX = 256
_CHIP_COST_PX = 128**2  # what starting a chip costs, in pixels
_STEP_PX = 128  # between cores of scenes of one shard: fewer shapes, each of which a GPU would have to get ready for


def chips_of(
    width: int, height: int, members: Sequence[ModelCard], config: RunConfig, *, shard_px: int, margin_px: int,
    is_last: bool,
) -> ChipGrid:  # fmt: skip
    """The stage's chip grid. Any core gives the same exact map; the one that computes the fewest pixels is taken.

    Args:
        shard_px: side of a shard of the result, in pixels of this stage's input.
    """
    card = members[0]
    for member in members:
        if member.halo_px is None:
            raise CardError(
                f"{member.label} has no measured halo; `earthloom models measure {member.name} SCENE` finds it and "
                "writes the card"
            )
    blend = any(member.overlap == "blend" for member in members)
    if config.overlap == "exact" and blend:
        raise CardError(f"{card.label} has global context, so no halo makes tiles exact; leave `overlap` at blend")
    blend = blend or (config.overlap == "blend" and not answer_of(card).exact_only and bool(card.halo_px))
    stride_px = int(np.lcm.reduce([member.stride_px for member in members]))
    halo_px = round_up(max(member.halo_px or 0 for member in members), stride_px)
    most_px = min(member.core_px for member in members)
    asked = config.core if is_last else None
    if answer_of(card).pixel_px > 1:  # the ground that a label is about
        core_px = card.core_px
    elif asked:
        check_core(asked, shard_px)
        core_px = asked
    elif blend:
        core_px = min(most_px, shard_px)
    elif not is_last:  # what a shard's block makes of this stage, its margins included
        own_width, own_height = (min(side, shard_px) + 2 * margin_px for side in (width, height))
        core_px = _cheapest_core(own_width, own_height, halo_px, _halvings(most_px, stride_px))
    else:
        core_px = min(most_px, shard_px)
        alone = max(width, height) <= shard_px  # one shard is one block, which cuts no chip whatever the core
        fitting = _steps(core_px, stride_px) if alone else divisors(shard_px, stride_px)
        sizes = [size for size in fitting if size <= core_px]
        core_px = _cheapest_core(width, height, halo_px, sizes) if sizes else core_px
    return ChipGrid(
        scene=Window(0, 0, width, height), core_px=core_px, halo_px=halo_px, stride_px=stride_px, blend=blend,
        margin_px=margin_px,
    )  # fmt: skip


def _cheapest_core(width: int, height: int, halo_px: int, sizes: list[int]) -> int:
    """`sizes` falls, and is not empty."""

    def cost(size: int) -> int:
        n_chips = ceil_div(width, size) * ceil_div(height, size)
        return n_chips * ((size + 2 * halo_px) ** 2 + _CHIP_COST_PX)

    return min([size for size in sizes if size >= _SMALLEST_CORE_PX] or sizes[:1], key=cost)


def divisors(shard_px: int, stride_px: int) -> list[int]:
    """Cores that divide the shard, largest first."""
    return [core for core in range(shard_px, 0, -stride_px) if shard_px % core == 0 and core % stride_px == 0]


def _steps(core_px: int, stride_px: int) -> list[int]:
    """Whole steps up to the card's core, largest first, and that core."""
    step = int(np.lcm(_STEP_PX, stride_px))
    return list(dict.fromkeys([core_px, *range(core_px // step * step, 0, -step)]))


def _halvings(core_px: int, stride_px: int) -> list[int]:
    """The card's core, its half, … as far as the stride divides them."""
    sizes = [core_px]
    while sizes[-1] % (2 * stride_px) == 0 and sizes[-1] > _SMALLEST_CORE_PX:
        sizes.append(sizes[-1] // 2)
    return sizes


def undecided(card: ModelCard, width: int, height: int) -> str | None:
    """In words, how many chips are left undecided because of how little of them lies in a scene; None where none is."""
    if card.labels is None or card.labels.footprints:
        return None
    side, least_px = card.core_px, card.labels.least_px(card.core_px)
    within = [[(side, size // side), (size % side, int(size % side > 0))] for size in (width, height)]
    n_cut = sum(n * m for w, n in within[0] for h, m in within[1] if w * h < least_px)
    if not n_cut:
        return None
    n_chips = ceil_div(width, side) * ceil_div(height, side)
    return (
        f"{card.label} leaves {n_cut} of {n_chips} chips undecided at the right and lower edge, where less "
        f"than {card.labels.least_valid:.0%} of their {side} x {side} px lies in the scene"
    )
