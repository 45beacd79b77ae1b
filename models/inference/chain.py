"""Several models in one pass over a block: each stage's whole window is made before the next begins, all on the device.

Windows are computed backwards: what a stage must make is what the next one reads. Every stage's chips lie on a grid
anchored on the scene, so nothing depends on the block; the scene is reflected once, at the source, by the first
stage's reach. Where all stages are exact the result is that of the composed networks on the whole scene. Knows nothing
of files, and not which bands a scene has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import BlockMap, enhance_block, predict_block
from earthloom.models.inference.stack import Stack
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.window import Window

Context = Tensor | None
"""What a stage's network keeps of the scene's survey; None where it needs none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One model of a chain, bound to the bands and the grid that it meets there."""

    cards: tuple[ModelCard, ...]
    """Several are an ensemble of segmentations: their probabilities are averaged."""
    chips: ChipGrid
    """In pixels of the stage's input; its margin is what later stages read beyond the scene."""
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
    def reach_px(self) -> int:
        """Pixels beyond the scene, per side, that the stage's chips are told about."""
        return self.chips.margin_px + self.chips.halo_px


@dataclass(slots=True)
class ChainResult:
    """What a chain made of one block.

    Attributes:
        map: of the segmentation, if the chain has one.
        images: (name of the stage, stack over the core) of every image that is wanted.
        n_computed, n_skipped: chips of all stages.
        chip_px: chip pixels that ran, of all stages.
    """

    map: BlockMap | None = None
    images: dict[int, Stack] = field(default_factory=dict)
    n_computed: int = 0
    n_skipped: int = 0
    chip_px: int = 0

    def count(self, stage: Stage, n_computed: int, n_skipped: int) -> None:
        self.n_computed += n_computed
        self.n_skipped += n_skipped
        self.chip_px += n_computed * stage.chips.chip_px**2


def windows(stages: Sequence[Stage], core: Window) -> list[tuple[Window, Window]]:
    """For each stage what it makes and what it reads, in pixels of its input.

    Args:
        core: in pixels of the last stage's output.
    """
    found: list[tuple[Window, Window]] = []
    need = core
    for stage in reversed(stages):
        own = need.unzoom(stage.card.scale)
        read = stage.chips.read(own)
        found.append((own, read))
        need = read & stage.chips.context
    return found[::-1]


def run_chain(
    stages: Sequence[Stage],
    predictors: Sequence[Sequence[Predictor]],
    contexts: Sequence[Context],
    core: Window,
    source: Stack,
    wanted: frozenset[int],
) -> ChainResult:
    """Send a block's pixels through all stages.

    Args:
        predictors: of each stage, one per card.
        contexts: of each stage, what its network keeps of the scene's survey.
        core: what the block owns, in pixels of the last stage's output.
        source: covers the first stage's read window (`windows`), reflected at the borders by its reach.
        wanted: numbers of the stages whose images are results.

    Raises:
        TilingError: if the windows do not fit each other.
        CardError, EngineError: from the predictors.
    """
    result, stack = ChainResult(), source
    for number, (stage, (own, read)) in enumerate(zip(stages, windows(stages, core), strict=True)):
        stack = stack.over(read)
        given = stack.select(stage.card.bands)
        if stage.card.outputs:
            (predictor,) = predictors[number]
            image, n_computed, n_skipped = enhance_block(
                predictor, stage.chips, own, read, given.values, given.valid, given.gain, given.bias, contexts[number]
            )
            carried = {name for later in stages[number + 1 :] for name in later.card.bands}
            stack = stack.over(own).put(stage.card.outputs, image, stage.card.scale, carried)
            if number in wanted:
                result.images[number] = stack
        else:
            made = predict_block(
                predictors[number], stage.chips, own if stage.is_mask else core, read, given.values, given.valid,
                given.gain, given.bias,
            )  # fmt: skip
            n_computed, n_skipped = made.n_computed, made.n_skipped
            stack = stack.over(own)
            if stage.is_mask:
                hidden = np.isin(made.classes, stage.card.masks)
                stack = stack.hide(hidden)
                if result.map is not None:
                    result.map = _without(result.map, hidden[core.slices(own)])
            else:
                result.map = made
        result.count(stage, n_computed, n_skipped)
    for number, image_stack in result.images.items():
        masked = image_stack.over(core)
        result.images[number] = replace(masked, valid=masked.valid & stack.over(core).valid)
    return result


def _without(made: BlockMap, hidden: NDArray[np.bool_]) -> BlockMap:
    classes, confidence = (np.where(hidden, NODATA, part).astype(np.uint8) for part in (made.classes, made.confidence))
    return replace(made, classes=classes, confidence=confidence)
