"""Golden pixels: our own arithmetic may not move one unless PIXEL_VERSION says so.

Every case is computed exactly, or by single operations that IEEE 754 rounds one way only, so that the hashes hold on every
processor whatever vectors it has and in whatever order a convolution adds: the networks' weights and what they see are
small multiples of powers of two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import run
from earthloom.jobs.planning.key import PIXEL_VERSION
from earthloom.models.cards.card import ModelCard, ModelClass
from earthloom.models.cards.file import write_card
from earthloom.models.cards.weights import FILE, sha256_of
from earthloom.models.device.batchnorm_folding import fold
from earthloom.models.networks import registry
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.scene import Band, Scene
from earthloom.tiling.storage.objects import ObjectRef
from tests.scenes import write_scene

GOLDEN: dict[int, dict[str, str]] = {
    7: {
        "water-index": "0b04327cb2278f22c3d80410fec70bea9a56c06275a633830237475c603ae526",
        "exact": "0f4853798ef4693485668212d137b951e6095b3eb11556e33a2ad54e19ec7859",
        "blend": "0de73d25c283290cb5d18406c3c9db25e4118cbba4c0c8bcf4caf74eae0561c4",
        "folded weights": "8c619c22445833b7fa83b1eb61fb7e2c8281067b81418c4a97db5a31cdd27f0d",
        "dehaze": "f0746b24f537636c748f2acb6b8c86e592c876ca1494a35025a1b7a0bdf066c8",
        "destripe": "40ecf334e6222f9ab389ec2f5b01fe290c981e0a3b5707ac80193a0e27c24a1e",
        "stretch": "b013bb810c8ccb0bc61736daec7ff97ce7244677af3949c10c9973ed76dcaa60",
        "warp": "31dc3197537a3aa9a64acdb6a031e7eb538a04558fe7aaf74b7918d571def86e",
    }
}
"""sha256 by case, for each PIXEL_VERSION. A new version has new hashes, and what they were goes."""


def check(case: str, *arrays: NDArray[Any]) -> None:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    assert digest.hexdigest() == GOLDEN[PIXEL_VERSION].get(case), f"the pixels of {case!r} are not what they were"


def pattern(bands: int, height: int, width: int, largest: int) -> NDArray[np.uint16]:
    """Scattered numbers from 0 to `largest` - 1, the same on every machine."""
    row, col = np.mgrid[0:height, 0:width].astype(np.uint32)
    steps = ((37, 101), (59, 17), (83, 29))[:bands]
    return np.stack([(row * down + col * across) % largest for down, across in steps]).astype(np.uint16)


def mapped(scene: Path, out: Path, *model: str, **options: Any) -> Path:
    """The folder of what is published of `scene`."""
    settings = {
        "quantity": "toa_reflectance", "shard": 512, "block": 512, "precision": "fp32", "device": "cpu", "executor": "local",
    }  # fmt: skip
    result = run(load({"scenes": (str(scene),), "model": model, "out": str(out), **settings, **options}))
    assert result.exit_code == 0, result.scenes
    return out / result.results[scene.stem].prefix


def layers(folder: Path, *files: str) -> list[NDArray[Any]]:
    found = []
    for file in files:
        with rasterio.open(folder / file) as cog:
            found.append(cog.read())
    return found


def test_water_index(tmp_path: Path) -> None:
    """Not the confidence, whose last step may differ between processors' exponentials."""
    pixels = pattern(2, 700, 600, 9973)
    pixels[:, 40:90, 200:300] = 0
    scene = write_scene(tmp_path / "known.tif", pixels, ("green", "swir16"), nodata=0)
    check(
        "water-index", *layers(mapped(scene, tmp_path / "out", "water-index", scale=1e-4, core=256), "water-index.tif")
    )


class Dyadic(nn.Module):
    """Two convolutions with norms, in numbers that fp32 holds exactly; its answers are probabilities.

    Args:
        far: the mean of the whole chip counts too, so that neighbouring chips disagree.
    """

    def __init__(self, *, in_channels: int, classes: int, far: bool = False) -> None:
        super().__init__()
        self.far = far
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6, eps=0.25), nn.ReLU(),
            nn.Conv2d(6, classes, 3, padding=1), nn.BatchNorm2d(classes, eps=0.25),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.layers(x)
        if self.far:
            answer = answer + (x.mean(dim=(1, 2, 3), keepdim=True) * 64 - 16)
        return (answer / 64).clamp(0, 1)


def fill_with_small_integers(module: nn.Module) -> None:
    """Weights of -2 to 2; norms whose variance with epsilon is 1, 1/4 or 4, and so has an exact root."""

    def numbers(like: Tensor, step: int, period: int) -> Tensor:
        return (torch.arange(like.numel()) * step % period).reshape(like.shape).float()

    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.copy_(numbers(layer.weight, 7, 5) - 2)
                if layer.bias is not None:
                    layer.bias.copy_(numbers(layer.bias, 3, 7) - 3)
            elif isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.weight.copy_(numbers(layer.weight, 2, 3) / 2 + 0.5)
                layer.bias.copy_(numbers(layer.bias, 5, 7) - 2)
                layer.running_mean.copy_(numbers(layer.running_mean, 3, 5) - 2)
                layer.running_var.copy_(torch.tensor([0.75, 3.75])[numbers(layer.running_var, 1, 2).long()])


@pytest.fixture
def dyadic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], str]:
    """Writes the network and its card, and says where."""
    monkeypatch.setitem(registry.REGISTRY, "dyadic", Dyadic)

    def write(far: bool) -> str:
        card = ModelCard(
            name="far" if far else "near", architecture="dyadic", arguments=f'{{"far":{str(far).lower()}}}',
            bands=("green", "red", "nir"), quantities=("toa_reflectance",), mean=(0.0, 0.0, 0.0), std=(0.25, 0.5, 1.0),
            gsd_m=(1.0, 100.0), activation="none", stride_px=8, halo_px=16, core_px=64, overlap="blend" if far else "exact",
            classes=tuple(ModelClass(value=v, name=f"class {v}", color=f"#0000{v:02x}") for v in range(4)),
        )  # fmt: skip
        module = registry.build(card)
        fill_with_small_integers(module)
        folder = tmp_path / card.name
        folder.mkdir()
        save_file(module.state_dict(), folder / FILE)
        pinned = {name: getattr(card, name) for name in card.__dataclass_fields__} | {
            "weights": sha256_of(folder / FILE)
        }
        write_card(folder, ModelCard(**pinned))
        return str(folder)

    return write


@pytest.mark.parametrize("far", [False, True], ids=["fold", "blend"])
def test_a_network_with_norms(far: bool, dyadic: Callable[[bool], str], tmp_path: Path) -> None:
    pixels = pattern(3, 600, 560, 251).astype(np.uint8)
    pixels[:, 100:180, 300:460] = 255
    scene = write_scene(tmp_path / "known.tif", pixels, ("green", "red", "nir"), nodata=255)
    folder = mapped(scene, tmp_path / "out", dyadic(far), scale=2**-8)
    name = "far" if far else "near"
    classes, confidence = layers(folder, f"{name}.tif", f"{name}-confidence.tif")
    assert len(np.unique(classes)) == 5, "each class wins somewhere, and there is nodata"
    assert len(np.unique(confidence)) > 50
    check("blend" if far else "exact", classes, confidence)


def test_folded_weights() -> None:
    """Every rounding on the way from a norm to the convolution before it."""

    def numbers(like: Tensor, step: int, period: int) -> Tensor:
        whole = torch.arange(1, like.numel() + 1) * step % period + 1
        return (whole.double() / 97).float().reshape(like.shape)

    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 6, 2, groups=2, bias=False),
        nn.BatchNorm2d(6, affine=False), nn.Conv2d(6, 4, 1), nn.ReLU(), nn.BatchNorm2d(4),
    ).eval()  # fmt: skip
    with torch.no_grad():
        for number, value in enumerate(module.state_dict().values()):
            if value.is_floating_point():
                value.copy_(numbers(value, 37 + 2 * number, 89))
    assert fold(module, torch.zeros(1, 3, 12, 12)) == 2
    state = module.state_dict()
    check("folded weights", *(state[name].numpy() for name in sorted(state)))


@pytest.mark.parametrize("model", ["dehaze", "destripe", "stretch"])
def test_images(model: str, tmp_path: Path) -> None:
    rows, cols = np.mgrid[0:600, 0:560]
    pixels = pattern(3, 600, 560, 199) + (400 + 3 * rows + 2 * cols).astype(
        np.uint16
    )  # hills, so that there is contrast
    pixels[:, :, 77] += 60  # a stripe
    pixels[:, 100:180, 300:460] = 0
    scene = write_scene(tmp_path / "known.tif", pixels, ("green", "red", "nir"), nodata=0)
    check(model, *layers(mapped(scene, tmp_path / "out", model, scale=1e-4), f"{model}.tif"))


def test_a_warp(tmp_path: Path) -> None:
    """Pixels of 20 m, multiples of 16, onto 10 m: every bilinear mean is a whole number."""
    pixels = pattern(2, 300, 280, 601) * 16
    pixels[:, 100:120, 130:170] = 65535
    transform = rasterio.Affine(20, 0, 300000, 0, -20, 4500000)
    path = write_scene(tmp_path / "coarse.tif", pixels, transform=transform, nodata=65535)
    grid = Grid(crs="EPSG:32617", transform=(10, 0, 300000, 0, -10, 4500000), width=555, height=590)
    bands = tuple(
        Band(name=f"b{n}", asset=0, index=n, dtype="uint16", nodata=65535.0, resampling="bilinear") for n in (1, 2)
    )
    asset = pin(ObjectRef.parse(str(path)))
    source = Scene(id="s", grid=grid, assets=(asset,), bands=bands, quantity="dn")
    found = read_pixels(source, bands, grid.window, 32)
    check("warp", np.where(found.valid, found.values, 0), found.valid)
