from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from earthloom.models.device.resolve import Device
from earthloom.models.inference.agreement import Agreement
from earthloom.models.inference.class_map import BlockMap, ClassMap
from earthloom.models.inference.passes import Threads
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block, predict_whole
from earthloom.models.inference.stack import Stack
from earthloom.models.measuring.measure import framed
from earthloom.models.zoo.rules import WATER_INDEX
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import TilingError
from earthloom.tiling.window import Window
from tests.models.nets import BF16, CPU, Case, TinyNet, card_of, landwater, seeded, stack_of
from tests.scenes import landscape, mirrored, shipped

Pixels = NDArray[np.generic]
Mask = NDArray[np.bool_]

SMP = '{"arch":"unet","decoder_channels":%s,"encoder_depth":%d,"encoder_name":"%s"}'
BLENDED = SMP % ("[32,16,8]", 3, "tu-mobilenetv3_small_100")


def grid(values: Pixels, core_px: int, halo_px: int, stride_px: int, *, blend: bool = False) -> ChipGrid:
    scene = Window(0, 0, values.shape[2], values.shape[1])
    return ChipGrid(scene=scene, core_px=core_px, halo_px=halo_px, stride_px=stride_px, blend=blend)


@dataclass(frozen=True)
class Made(BlockMap):
    """A map with the number of chips that it took."""

    n_computed: int = 0
    n_skipped: int = 0


def in_blocks(predictor: Predictor, chips: ChipGrid, values: Pixels, valid: Mask, block_px: int) -> Made:
    """The scene's map made block by block in reversed order, each from nothing but its own read window."""
    classes, confidence = (np.zeros(chips.scene.shape, np.uint8) for _ in range(2))
    computed = skipped = 0
    for core in reversed(list(chips.scene.split(block_px))):
        pixels = framed(stack_of(values, valid), chips.read(core), chips.halo_px)
        found = predict_block(predictor, chips, core, pixels)
        where = core.slices(chips.scene)
        assert found.made.window == core
        classes[where], confidence[where] = found.made.classes, found.made.confidence
        computed, skipped = computed + found.n_computed, skipped + found.n_skipped
    return Made(chips.scene, classes, confidence, computed, skipped)


def in_one_pass(predictor: Predictor, chips: ChipGrid, values: Pixels, valid: Mask) -> BlockMap:
    made: BlockMap = predict_whole(predictor, chips, framed(stack_of(values, valid), chips.extent, chips.halo_px))
    return made


def compare(tiled: BlockMap, whole: BlockMap, n_classes: int) -> Agreement:
    answer = ClassMap(label="made", n_classes=n_classes, gives_probabilities=False)
    return answer.agreement(tiled, whole, whole.classes != NODATA)


def same(a: BlockMap, b: BlockMap) -> bool:
    return np.array_equal(a.classes, b.classes) and np.array_equal(a.confidence, b.confidence)


@pytest.fixture(scope="module")
def great_salt_lake() -> tuple[Pixels, Mask]:
    """700 x 500 px from the demo scene as reflectance * 10000, with a hole."""
    import rasterio

    with rasterio.open(shipped("salt_lake")) as dataset:
        stored = mirrored(dataset.read(), 700, 500)
    valid = np.ones(stored.shape[1:], np.bool_)
    valid[40:90, 200:330] = False
    return (stored * (8000.0 / 255)).astype(np.uint16), valid


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("device", [CPU, BF16], ids=["fp32", "bf16"])
def test_landwater_tiled_is_one_pass_over_the_real_scene_bit_for_bit(
    device: Device, great_salt_lake: tuple[Pixels, Mask]
) -> None:
    predictor = landwater().predictor(device)
    chips = grid(great_salt_lake[0], 256, 96, 16)
    whole = in_one_pass(predictor, chips, *great_salt_lake)
    assert len(np.unique(whole.classes)) >= 4, "a scene of one class would prove little"
    assert same(in_blocks(predictor, chips, *great_salt_lake, 256), whole)
    assert same(in_blocks(predictor, chips, *great_salt_lake, 768), whole)


@pytest.fixture(scope="module")
def resnet3(tmp_path_factory: pytest.TempPathFactory) -> Case:
    card = card_of("smp", 4, 4, 8, SMP % ("[64,32,16]", 3, "resnet18"))
    return seeded(card, tmp_path_factory.mktemp("resnet3"))


def test_a_resnet_of_depth_three_is_exact_at_its_measured_support(resnet3: Case) -> None:
    from earthloom.models.measuring.receptive_field import support, total_stride

    predictor = resnet3.predictor()
    stride = total_stride(predictor.module, 4, 8)
    radius = support(predictor.module, 4, stride)
    assert (stride, radius) == (8, 71)
    halo = 72
    scene = landscape(420, 300, 4), np.ones((300, 420), np.bool_)
    chips = grid(scene[0], 128, halo, stride)
    whole = in_one_pass(predictor, chips, *scene)
    assert len(np.unique(whole.classes)) > 1
    assert same(in_blocks(predictor, chips, *scene, 128), whole)
    short = in_blocks(predictor, grid(scene[0], 128, halo - 40, stride), *scene, 128)
    assert not same(short, whole), "a halo below the support must show, or this scene tests nothing"


@pytest.mark.slow
def test_a_resnet_of_depth_five_keeps_both_bounds_at_256_px(tmp_path: Path) -> None:
    predictor = seeded(card_of("smp", 4, 4, 32, SMP % ("[64,32,32,16,16]", 5, "resnet18")), tmp_path).predictor()
    scene = landscape(512, 256, 4), np.ones((256, 512), np.bool_)
    chips = grid(scene[0], 256, 256, 32)
    whole = in_one_pass(predictor, chips, *scene)
    found = compare(in_blocks(predictor, chips, *scene, 256), whole, 4)
    assert len(np.unique(whole.classes)) > 1
    assert found.is_seamless, found
    worse = compare(in_blocks(predictor, grid(scene[0], 256, 32, 32), *scene, 256), whole, 4)
    assert not worse.is_seamless, worse


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Case:
    from earthloom.models.networks import registry

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.REGISTRY, "tiny", TinyNet)
        return seeded(card_of("tiny", 2, 3, 2), tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny_predictor(tiny: Case) -> Predictor:
    from earthloom.models.networks import registry

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.REGISTRY, "tiny", TinyNet)
        return tiny.predictor()


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Pixels, Mask]:
    """1 … 60 px a side, with up to three rectangular holes."""
    width, height = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    valid = np.ones((height, width), np.bool_)
    for _ in range(draw(st.integers(0, 3))):
        row, col = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        valid[row : row + draw(st.integers(1, 40)), col : col + draw(st.integers(1, 40))] = False
    return landscape(width, height, 2, draw(st.integers(0, 5))), valid


@given(scene=scenes(), core=st.sampled_from([8, 12, 32]), k=st.integers(1, 3), batch=st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_any_shape_tiled_is_one_pass(
    tiny_predictor: Predictor, scene: tuple[Pixels, Mask], core: int, k: int, batch: int
) -> None:
    chips = grid(scene[0], core, 6, 2)
    tiny_predictor.batch = batch
    found = in_blocks(tiny_predictor, chips, *scene, core * k)
    assert same(found, in_one_pass(tiny_predictor, chips, *scene))
    assert np.array_equal(found.classes == NODATA, ~scene[1])
    assert np.array_equal(found.confidence == NODATA, ~scene[1])
    cores = list(chips.scene.align(core).split(core))
    empty = sum(not scene[1][(c & chips.scene).slices(chips.scene)].any() for c in cores)
    assert (found.n_computed, found.n_skipped) == (len(cores) - empty, empty)


@given(scene=scenes(), core=st.sampled_from([16, 20, 32]), k=st.integers(1, 4), batch=st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_blended_chips_give_the_same_bytes_however_the_scene_is_cut(
    tiny_predictor: Predictor, scene: tuple[Pixels, Mask], core: int, k: int, batch: int
) -> None:
    chips = grid(scene[0], core, 4, 2, blend=True)
    tiny_predictor.batch = 1
    whole = in_blocks(tiny_predictor, chips, *scene, core * 100)
    tiny_predictor.batch = batch
    assert same(in_blocks(tiny_predictor, chips, *scene, core * k), whole)
    assert np.array_equal(whole.classes == NODATA, ~scene[1])


@pytest.mark.slow
def test_a_network_with_global_context_is_blended_to_the_same_bytes_in_any_batch_and_cut(tmp_path: Path) -> None:
    case = seeded(card_of("smp", 4, 4, 8, BLENDED), tmp_path)
    scene = landscape(330, 210, 4), np.ones((210, 330), np.bool_)
    scene[1][:130, :200] = False
    chips = grid(scene[0], 64, 16, 8, blend=True)
    first = in_blocks(case.predictor(), chips, *scene, 1000)
    assert first.n_skipped > 0
    assert len(np.unique(first.classes)) > 2
    for batch, passes, block in ((1, 1, 64), (2, 2, 128), (3, 1, 192), (1, 3, 128)):
        predictor = Predictor(case.card, case.path, CPU, batch, threads=Threads(passes))
        assert same(in_blocks(predictor, chips, *scene, block), first)


@pytest.mark.slow
@pytest.mark.parametrize("device", [CPU, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("arch", ["fpn", "segformer"])
def test_neither_passes_nor_blocks_change_a_bit_of_what_more_threads_would(
    arch: str, device: Device, tmp_path: Path
) -> None:
    """Both heads interpolate, which PyTorch does otherwise where several threads share a tensor."""
    case = seeded(card_of("smp", 4, 3, 32, f'{{"arch":"{arch}","encoder_name":"resnet18"}}'), tmp_path)
    scene = landscape(384, 256, 4), np.ones((256, 384), np.bool_)
    chips = grid(scene[0], 128, 32, 32)
    maps = [
        in_blocks(Predictor(case.card, case.path, device, 1, threads=Threads(passes)), chips, *scene, block_px)
        for passes, block_px in ((1, 256), (4, 128), (4, 512), (2, 256))
    ]
    assert len(np.unique(maps[0].confidence)) > 10
    assert all(same(one, maps[0]) for one in maps)


def test_a_blend_is_the_weighted_mean_of_its_chips(tiny_predictor: Predictor) -> None:
    """Against plain numpy: half-cosine ramps over [edge - h, edge + h), 1 between, divided by what was added."""
    values, valid = landscape(40, 33, 2), np.ones((33, 40), np.bool_)
    valid[16:32, :16] = False  # all of one chip's core, which still fades into its neighbours
    chips = grid(values, 16, 4, 2, blend=True)
    total, weights = np.zeros((3, 33, 40)), np.zeros((33, 40))
    for core in chips.scene.align(16).split(16):
        alone = core.grow(4)
        pixels = framed(stack_of(values, valid), alone, 4)

        def fill(_: Window, out: Tensor, pixels: Stack = pixels) -> None:
            out.copy_(tiny_predictor.normalise(pixels))

        ((_, logits),) = tiny_predictor.run([core], fill, alone.shape)
        rows, cols = np.mgrid[0:33, 0:40]

        def ramp(position: NDArray[np.int_], start: int) -> NDArray[np.float64]:
            inside = np.minimum(position + 0.5 - (start - 4), (start + 20) - (position + 0.5))
            return np.where(inside <= 0, 0, (1 - np.cos(np.pi * np.clip(inside, 0, 8) / 8)) / 2)

        weight = ramp(rows, core.row_off) * ramp(cols, core.col_off)
        part = alone & chips.scene
        probability = logits.softmax(0).numpy()[(slice(None), *part.slices(alone))]
        total[(slice(None), *part.slices(chips.scene))] += probability * weight[part.slices(chips.scene)]
        weights += weight
    expected = total / weights
    found = in_blocks(tiny_predictor, chips, values, valid, 16)
    assert weights.min() > 0.2
    np.testing.assert_allclose(found.confidence[valid], expected.max(0)[valid] * 250, atol=0.51)
    clear = valid & (np.sort(expected, 0)[-1] - np.sort(expected, 0)[-2] > 1e-4)
    assert np.array_equal(found.classes[clear], expected.argmax(0)[clear])


def test_a_chip_without_a_valid_pixel_costs_nothing(tiny_predictor: Predictor) -> None:
    values, valid = landscape(64, 64, 2), np.zeros((64, 64), np.bool_)
    found = in_blocks(tiny_predictor, grid(values, 16, 6, 2), values, valid, 32)
    assert (found.n_computed, found.n_skipped) == (0, 16)
    assert (found.classes == NODATA).all()


def test_ties_go_to_the_lowest_class_and_confidence_is_in_250ths() -> None:
    predictor = Predictor(WATER_INDEX[1], None, CPU)
    values = np.array([[[3000, 3000, 1000]], [[3000, 1000, 3000]]], np.uint16)
    found = in_blocks(predictor, grid(values, 4, 0, 1), values, np.ones((1, 3), np.bool_), 4)
    sure = round(250 / (1 + np.exp(-10)))
    assert found.classes.tolist() == [[0, 1, 0]]
    assert found.confidence.tolist() == [[125, sure, sure]]


def test_a_weightless_model_is_the_same_in_bf16() -> None:
    scene = landscape(50, 40, 2), np.ones((40, 50), np.bool_)
    chips = grid(scene[0], 16, 0, 1)
    a, b = (in_blocks(Predictor(WATER_INDEX[0], None, device), chips, *scene, 16) for device in (CPU, BF16))
    assert same(a, b)


def test_mutant_a_halo_off_the_stride_is_refused() -> None:
    with pytest.raises(TilingError, match="not a multiple of the model's stride"):
        grid(landscape(64, 64, 2), 32, 5, 2)


def test_mutant_a_chip_grid_anchored_on_the_block_is_noticed(resnet3: Case) -> None:
    """Blocks that start off the pooling grid: what a tiler gives that cuts chips from each block's own corner."""
    predictor = resnet3.predictor()
    values, valid = landscape(256, 132, 4), np.ones((132, 256), np.bool_)
    whole = in_one_pass(predictor, grid(values, 128, 72, 8), values, valid)
    shifted = values[:, :, 5:], valid[:, 5:]
    found = in_blocks(predictor, grid(shifted[0], 128, 72, 8), *shifted, 128)
    inner = np.s_[:, 100:]  # away from the border that the shift also moved
    assert not np.array_equal(found.classes[inner], whole.classes[:, 5:][inner])


def test_mutant_a_dropped_last_row_is_noticed(tiny_predictor: Predictor) -> None:
    values, valid = landscape(40, 41, 2), np.ones((41, 40), np.bool_)
    chips = grid(values, 8, 6, 2)
    found = in_blocks(tiny_predictor, chips, values, valid, 8)
    last = np.where(np.arange(41)[:, None] == 40, NODATA, found.classes).astype(np.uint8)
    whole = in_one_pass(tiny_predictor, chips, values, valid)
    assert not compare(replace(found, classes=last), whole, 3).is_seamless


def test_windows_and_arrays_that_do_not_fit_are_refused(tiny_predictor: Predictor) -> None:
    values, valid = landscape(64, 64, 2), np.ones((64, 64), np.bool_)
    chips = grid(values, 16, 6, 2)
    core = Window(0, 0, 32, 32)
    for read in (core, chips.read(core)):
        with pytest.raises(TilingError, match=r"was loaded|do not cover"):
            predict_block(tiny_predictor, chips, core, replace(stack_of(values, valid), window=read))
    with pytest.raises(TilingError, match="not inside the scene"):
        predict_block(
            tiny_predictor, chips, Window(32, 32, 64, 64), replace(stack_of(values, valid), window=chips.extent)
        )
