"""Several models in one pass over a block: each stage's whole window is made before the next begins, all on the device.

Windows are computed backwards: what a stage must make is what the next one reads. Every stage's chips lie on a grid
anchored on the scene, so nothing depends on the block; the scene is reflected once, at the source, by the first
stage's reach. Where all stages are exact the result is that of the composed networks on the whole scene. Knows nothing
of files, and not which bands a scene has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.answers import answer_of
from earthloom.models.inference.around import predict_footprints
from earthloom.models.inference.footprints import Footprints, Places
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block
from earthloom.models.inference.stack import Stack
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.window import Window

Context = Tensor | None
"""What a stage's network keeps of the scene (`models.networks.survey`); None where it needs none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One model of a chain, bound to the bands and the grid that it meets there."""

    cards: tuple[ModelCard, ...]
    """Several are an ensemble of segmentations: their probabilities are averaged."""
    chips: ChipGrid
    """Chips in pixels of the stage's input; their margin is what later stages read beyond the scene."""
    precision: str
    flips: bool = False
    compiled: bool = False
    """Whether its networks run as compiled programs, which round otherwise."""
    is_mask: bool = False
    """True when its classes only say which pixels become nodata."""

    @property
    def card(self) -> ModelCard:
        """The one that names bands and classes."""
        return self.cards[0]

    @property
    def chip_px(self) -> int:
        """Side of what its networks see at once."""
        answer = answer_of(self.card)
        return answer.chip_px if isinstance(answer, Footprints) else self.chips.chip_px

    @property
    def reach_px(self) -> int:
        """Pixels beyond the scene, per side, that the stage's chips are told about."""
        return self.chips.margin_px + self.chips.halo_px


@dataclass(slots=True)
class ChainResult:
    """What a chain made of one block.

    Attributes:
        made: over the core, by number of the stage, what each stage made that is wanted (`models.inference.answers`):
            a map of a segmentation, a stack of an image.
        n_computed, n_skipped: chips of all stages.
        chip_px: chip pixels that ran, of all stages.
    """

    made: dict[int, Any] = field(default_factory=dict)
    n_computed: int = 0
    n_skipped: int = 0
    chip_px: int = 0
    onward: Stack | None = None
    """What a stage that came next would see over the core; only if it was asked for."""

    @property
    def goes_on(self) -> Stack:
        assert self.onward is not None, "the chain was asked what goes on behind it"
        return self.onward

    def count(self, stage: Stage, n_computed: int, n_skipped: int) -> None:
        self.n_computed += n_computed
        self.n_skipped += n_skipped
        self.chip_px += n_computed * stage.chip_px**2


def windows(stages: Sequence[Stage], core: Window) -> list[tuple[Window, Window]]:
    """For each stage what it makes and what it reads, in pixels of its input.

    Masks behind objects are made a little beyond the core: an object counts where one of the pixels near its centre is left.

    Args:
        core: in pixels of the last stage's output.
    """
    found: list[tuple[Window, Window]] = []
    need = _around(stages, core)
    for stage in reversed(stages):
        own = need.unzoom(stage.card.scale)
        read = stage.chips.read(own)
        found.append((own, read))
        need = read & stage.chips.context
    return found[::-1]


def _around(stages: Sequence[Stage], core: Window) -> Window:
    """Where it must be known what is left, for a block to decide about its core."""
    reach_px = max(_near_px(stages, number) for number in range(len(stages)))
    return core.grow(reach_px) & stages[-1].chips.scene if reach_px else core


def _near_px(stages: Sequence[Stage], number: int) -> int:
    """How far what later masks leave reaches, for what a stage made: 0 but for objects with a mask behind them."""
    rule = stages[number].card.objects
    return rule.near_px if rule and any(stage.is_mask for stage in stages[number + 1 :]) else 0


def _widened(kept: NDArray[np.bool_], by_px: int) -> NDArray[np.bool_]:
    """(h, w): true where one within so many rows and columns is."""
    for axis in (0, 1):
        margin = [(by_px, by_px) if each == axis else (0, 0) for each in (0, 1)]
        kept = np.asarray(sliding_window_view(np.pad(kept, margin), 2 * by_px + 1, axis).any(axis=-1), np.bool_)
    return kept


def run_chain(
    stages: Sequence[Stage],
    predictors: Sequence[Sequence[Predictor]],
    contexts: Sequence[Context],
    core: Window,
    source: Stack,
    wanted: frozenset[int],
    places: Places | None = None,
    onward: frozenset[str] = frozenset(),
) -> ChainResult:
    """Send a block's pixels through all stages.

    Args:
        predictors: predictors of each stage, one per card.
        contexts: contexts of each stage, what its network keeps of the scene.
        core: what the block owns, in pixels of the last stage's output.
        source: covers the first stage's read window (`windows`), reflected at the borders by its reach.
        wanted: numbers of the stages of which what they made is a result.
        places: places of the stage that gives classes to footprints, the last one, if there is one.
        onward: bands that somebody wants of what goes on behind the last stage, which is then an image or a mask.

    Raises:
        TilingError: if the windows do not fit each other.
        CardError, EngineError: from the predictors.
    """
    result, stack = ChainResult(), source
    for number, (stage, (own, read)) in enumerate(zip(stages, windows(stages, core), strict=True)):
        stack = stack.over(read)
        answer = answer_of(stage.card)
        goes_on = stage.is_mask or bool(answer.bands)  # else nobody reads it beyond the core
        bands = stack.select(stage.card.bands)
        if isinstance(answer, Footprints):
            assert places is not None, "a plan for footprints names them"
            found = predict_footprints(predictors[number], stage.chips.scene, core, bands, places)
        else:
            found = predict_block(predictors[number], stage.chips, own if goes_on else core, bands, contexts[number])
        stack = stack.over(own)
        if stage.is_mask:
            stack = stack.hide(answer.masked(found.made))
        else:
            carried = onward | {name for later in stages[number + 1 :] for name in later.card.bands}
            stack, kept = answer.settle(stack, found.made, carried)
            if number in wanted:
                result.made[number] = kept
            del kept  # not to be held while the next stage is computed
        result.count(stage, found.n_computed, found.n_skipped)
        del found
    if onward:
        result.onward = stack.over(core)
    around = _around(stages, core)
    left = stack.over(around).valid  # masks that came later hide the rest from what was made before
    for number, part in result.made.items():
        result.made[number] = part.over(core)
        if number < len(stages) - 1:
            seen = _widened(left, _near_px(stages, number))[core.slices(around)]
            result.made[number] = result.made[number].hide(~seen)
    return result
