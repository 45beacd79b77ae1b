"""A chain in blocks is the chain over the whole scene, whatever the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from earthloom.models.cards.card import ModelCard, ModelClass
from earthloom.models.inference.chain import Stage, run_chain, windows
from earthloom.models.inference.class_map import BlockMap
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.stack import Stack
from earthloom.models.inference.transfer import to_stored
from earthloom.models.measuring.measure import framed
from earthloom.models.networks import registry
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.errors import TilingError
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.window import Window
from tests.models.nets import CPU, stack_of
from tests.scenes import landscape

CLASSES = tuple(ModelClass(value=v, name=f"c{v}", color=f"#00000{v}") for v in range(3))


class Sharper(nn.Module):
    """An image net without weights: a 5 x 5 sharpening, then pixels doubled with a twist that tells their quarters apart."""

    def __init__(self, *, in_channels: int, scale: int = 1) -> None:
        super().__init__()
        self.scale, self.n = scale, in_channels

    def forward(self, x: Tensor) -> Tensor:
        kernel = torch.full((self.n, 1, 5, 5), -0.02)
        kernel[:, :, 2, 2] = 1.5
        sharp = nn.functional.conv2d(x, kernel, padding=2, groups=self.n)
        if self.scale == 1:
            return sharp
        quarters = torch.tensor([[0.9, 1.0], [1.1, 1.2]]).repeat(x.shape[2], x.shape[3])
        return sharp.repeat_interleave(2, 2).repeat_interleave(2, 3) * quarters


class Wide(nn.Module):
    """Three classes by a 9 x 9 mean of two bands, on a pooling grid of 4."""

    def __init__(self, *, in_channels: int, classes: int) -> None:
        super().__init__()
        assert (in_channels, classes) == (2, 3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.max_pool2d(nn.functional.avg_pool2d(x, 5, 1, 2), 4)
        a, b = pooled.repeat_interleave(4, 2).repeat_interleave(4, 3)[:, :2].unbind(1)
        return 4 * torch.stack([a, b, torch.full_like(a, 0.3)], dim=1)


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.REGISTRY, "sharper", Sharper)
    monkeypatch.setitem(registry.REGISTRY, "wide", Wide)


def card(architecture: str, *, scale: int = 1, masks: tuple[int, ...] = ()) -> ModelCard:
    image = architecture == "sharper"
    return ModelCard(
        name=architecture, architecture=architecture, bands=("red", "nir"), quantities=("reflectance",),
        mean=(0.25, 0.25), std=(0.1, 0.1), gsd_m=(1, 100), classes=() if image else CLASSES,
        outputs=("red", "nir") if image else (), scale=scale, masks=masks, stride_px=1 if image else 4,
    )  # fmt: skip


def chain(
    size: tuple[int, int], cards: Sequence[ModelCard], cores: Sequence[int], *, blend: bool = False
) -> tuple[Stage, ...]:
    """The stages of a scene of (width, height) px; halos cover the nets' reach."""
    factors = [int(np.prod([one.scale for one in cards[:n]], initial=1)) for n in range(len(cards))]
    stages, need = list[Stage](), 0
    for one, core, factor in reversed(list(zip(cards, cores, factors, strict=True))):
        chips = ChipGrid(
            scene=Window(0, 0, size[0] * factor, size[1] * factor), core_px=core, halo_px=2 if one.outputs else 8,
            stride_px=one.stride_px, margin_px=ceil_div(need, one.scale), blend=blend and not one.outputs,
        )  # fmt: skip
        need = chips.margin_px + chips.halo_px
        main = not one.masks
        stages.append(Stage(cards=(one,), chips=chips, precision="fp32", is_mask=not main))
    return tuple(stages[::-1])


@dataclass(frozen=True)
class Scene:
    values: NDArray[np.uint16]
    valid: NDArray[np.bool_]

    def stack(self, read: Window, reach_px: int) -> Stack:
        scene = replace(stack_of(self.values, self.valid), names=("red", "nir")[: len(self.values)])
        return framed(scene, read, reach_px)


def in_blocks(
    stages: Sequence[Stage], scene: Scene, block_px: int, keep: frozenset[int] = frozenset()
) -> dict[int, Any]:
    """By stage, what is made block by block, each from nothing but its own read window, put together.

    Kept are the class map, if there is one, and the images of `keep`.
    """
    members = [[Predictor(one, None, CPU, 2) for one in stage.cards] for stage in stages]
    size = stages[-1].chips.scene.zoom(stages[-1].card.scale)
    wanted = keep | {n for n, stage in enumerate(stages) if stage.card.classes and not stage.is_mask}
    whole: dict[int, Any] = {}
    for core in reversed(list(size.split(block_px))):
        _, read = windows(stages, core)[0]
        made = run_chain(stages, members, [None] * len(stages), core, scene.stack(read, stages[0].reach_px), wanted)
        where = core.slices(size)
        assert made.made.keys() == wanted
        for number, part in made.made.items():
            assert part.window == core
            if isinstance(part, BlockMap):
                empty = np.zeros(size.shape, np.uint8)
                into = whole.setdefault(number, BlockMap(size, empty, empty.copy()))
                into.classes[where], into.confidence[where] = part.classes, part.confidence
            else:
                blank, nowhere = torch.zeros(len(part.names), *size.shape), np.zeros(size.shape, np.bool_)
                into = whole.setdefault(number, replace(part, window=size, values=blank, valid=nowhere))
                into.values[(slice(None), *where)] = part.values
                into.valid[where] = part.valid
    return whole


def map_in_blocks(stages: Sequence[Stage], scene: Scene, block_px: int) -> BlockMap:
    """The class map of a chain."""
    (found,) = in_blocks(stages, scene, block_px).values()
    assert isinstance(found, BlockMap)
    return found


def scene(width: int, height: int, seed: int = 0) -> Scene:
    valid = np.ones((height, width), np.bool_)
    valid[height // 3 : height // 2, width // 4 : width // 2] = False
    return Scene(landscape(width, height, 2, seed), valid)


SR_CHAIN = (card("wide", masks=(2,)), card("sharper", scale=2), card("wide"))


@pytest.mark.slow
@given(
    width=st.integers(3, 50), height=st.integers(3, 50), seed=st.integers(0, 3), blocks=st.sampled_from([16, 32, 48])
)
@settings(deadline=None, max_examples=15)
def test_a_chain_gives_the_same_bytes_for_every_block_and_core(width: int, height: int, seed: int, blocks: int) -> None:
    given_scene = scene(width, height, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.REGISTRY, "sharper", Sharper)
        patch.setitem(registry.REGISTRY, "wide", Wide)
        whole = in_blocks(chain((width, height), SR_CHAIN, (16, 32, 16)), given_scene, 4096, frozenset({1}))
        cut = in_blocks(chain((width, height), SR_CHAIN, (8, 8, 16)), given_scene, blocks, frozenset({1}))
    assert np.array_equal(whole[2].classes, cut[2].classes)
    assert np.array_equal(whole[2].confidence, cut[2].confidence)
    assert np.array_equal(whole[1].valid, cut[1].valid)
    known = torch.from_numpy(whole[1].valid)
    assert torch.equal(whole[1].values[:, known], cut[1].values[:, known])


def test_a_chain_is_the_composition_of_its_networks_over_the_whole_scene() -> None:
    """Against plain torch: reflect once at the source, then network after network, nodata as 0 for each of them."""
    made, size = scene(41, 37), (41, 37)
    first, second = card("sharper", scale=2), card("wide")
    stages = chain(size, (first, second), (16, 16))
    reach = stages[0].reach_px
    assert reach == 4 + 2, "the second stage's 8 px are 4 before the doubling, and the first one sees 2 more"
    extent = Window(0, 0, 41, 37).grow(reach + 16)
    pixels = made.stack(extent, reach)
    x = torch.from_numpy(
        (np.asarray(pixels.values).astype(np.float32) * np.float32(1e-4) - np.float32(0.25)) / np.float32(0.1)
    ).float()
    known = torch.from_numpy(pixels.valid)
    image = Sharper(in_channels=2, scale=2)(torch.where(known, x, 0)[None])
    finer = known.repeat_interleave(2, 0).repeat_interleave(2, 1)
    # what lies beyond the second stage's halo is told to nobody
    inner = torch.zeros_like(finer)
    rows, cols = Window(0, 0, 82, 74).grow(8).slices(extent.zoom(2))
    inner[rows, cols] = True
    logits = Wide(in_channels=2, classes=3)(torch.where(finer & inner, image, 0))[0]
    rows, cols = Window(0, 0, 82, 74).slices(extent.zoom(2))
    expected = logits[:, rows, cols].softmax(0).max(0)
    found = map_in_blocks(stages, made, 32)
    sure = finer[rows, cols].numpy()
    differs = (found.classes != expected.indices.numpy()) & sure
    assert differs.mean() < 0.002, "rounding may tip a tie, no more"
    np.testing.assert_allclose(found.confidence[sure] / 250, expected.values.numpy()[sure], atol=0.004)
    assert np.array_equal(found.classes == 255, ~sure)


def test_mutant_a_first_stage_that_makes_less_than_the_next_one_reads_is_refused() -> None:
    stages = chain((41, 37), (card("sharper", scale=2), card("wide")), (16, 16))
    short = (replace(stages[0], chips=replace(stages[0].chips, margin_px=0)), stages[1])
    with pytest.raises(TilingError, match="not inside the scene"):
        in_blocks(short, scene(41, 37), 4096)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["before", "after"])
def test_a_mask_hides_pixels_before_and_after(order: str) -> None:
    made, size = scene(120, 100), (120, 100)
    mask, plain = card("wide", masks=(0,)), card("wide")
    cards = (mask, plain) if order == "before" else (plain, mask)
    found = map_in_blocks(chain(size, cards, (16, 16)), made, 16)
    alone = map_in_blocks(chain(size, (plain,), (16,)), made, 16)
    hidden = alone.classes == 0
    assert 0.1 < hidden.mean() < 0.9
    assert np.array_equal(found.classes == 255, hidden | ~made.valid)
    if order == "after":
        assert np.array_equal(found.classes[~hidden], alone.classes[~hidden])


@pytest.mark.slow
def test_a_blended_mask_does_not_depend_on_the_block() -> None:
    made = scene(60, 44)
    stages = chain((60, 44), (card("wide", masks=(0,)), card("wide")), (16, 16), blend=True)
    whole, cut = map_in_blocks(stages, made, 4096), map_in_blocks(stages, made, 16)
    assert np.array_equal(whole.classes, cut.classes)
    assert np.array_equal(whole.confidence, cut.confidence)


def test_an_ensemble_is_the_mean_of_its_members_probabilities() -> None:
    made = scene(40, 40)
    (stage,) = chain((40, 40), (card("wide"),), (16,))
    other = replace(stage.card, mean=(0.2, 0.3))
    found = map_in_blocks((replace(stage, cards=(stage.card, other)),), made, 16)
    one, two = (map_in_blocks((replace(stage, cards=(c,)),), made, 16) for c in (stage.card, other))
    agree = (one.classes == two.classes) & made.valid
    mean = (one.confidence[agree].astype(int) + two.confidence[agree]) / 2
    np.testing.assert_allclose(found.confidence[agree], mean, atol=1.01)
    assert np.array_equal(found.classes[agree], one.classes[agree])


def test_flips_keep_the_map_free_of_seams_and_symmetric() -> None:
    made = scene(40, 40)
    (stage,) = chain((40, 40), (card("wide"),), (16,))
    predictor = Predictor(stage.card, None, CPU, 1, flips=True)

    def run(block: int, of: Scene) -> NDArray[np.uint8]:
        out = np.zeros((40, 40), np.uint8)
        for core in Window(0, 0, 40, 40).split(block):
            _, read = windows((stage,), core)[0]
            part = run_chain((stage,), [[predictor]], [None], core, of.stack(read, stage.reach_px), frozenset({0}))
            out[core.slices(Window(0, 0, 40, 40))] = part.made[0].confidence
        return out

    whole = run(4096, made)
    assert np.array_equal(run(16, made), whole)


def test_what_a_stage_wants_and_nobody_made_is_refused() -> None:
    stack = scene(20, 20).stack(Window(0, 0, 20, 20), 0)
    with pytest.raises(TilingError, match="wants blue, but only red, nir have come so far"):
        stack.select(("red", "blue"))


@given(
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    nodata=st.sampled_from([0.0, 100.0]),
    values=st.lists(st.floats(-2, 8), min_size=4, max_size=4),
)
@settings(deadline=None)
def test_stored_values_are_the_nearest_ones_and_never_nodata_where_valid(
    dtype: str, nodata: float, values: list[float]
) -> None:
    valid = np.array([[True, True], [True, False]])
    image = torch.tensor(values, dtype=torch.float32).reshape(1, 2, 2)
    stack = Stack(Window(0, 0, 2, 2), ("red",), image, valid, np.ones(1, np.float32), np.zeros(1, np.float32))
    (stored,) = to_stored(stack, gain=(0.02,), bias=(-0.1,), dtype=dtype, nodata=nodata)
    assert stored.dtype == dtype
    assert stored[1, 1] == nodata
    wanted = (image[0].numpy().astype(np.float64) + 0.1) / 0.02
    if dtype != "float32":
        assert (stored[valid] != nodata).all()
        info = np.iinfo(dtype)
        unrounded, wanted = wanted, np.clip(np.rint(wanted), info.min, info.max)
        near = valid & (wanted != nodata)  # a half may go either way in fp32, and what would be nodata moves by one
        assert (np.abs(stored.astype(float) - wanted)[valid] <= 1).all()
        halves = np.abs(np.abs(unrounded - np.floor(unrounded)) - 0.5) < 1e-3
        assert (stored[near & ~halves] == wanted[near & ~halves]).all()
    else:
        np.testing.assert_allclose(stored[valid], wanted[valid], rtol=1e-5, atol=1e-4)
