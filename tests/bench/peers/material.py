"""What every contender is given: one scene and one network, made by code from fixed seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

BANDS = ("red", "green", "blue")
CLASSES = ("a", "b", "c", "d")
NODATA = 0
CORNER_PX = 1024
"""The scene's upper left triangle of this side, 524,800 px, is nodata."""
_STRIP_PX = 512
_SCALES = ((512, 1.0), (128, 0.8), (32, 0.6), (8, 0.35), (2, 0.2))
"""(pixels between the points of a lattice, amplitude): relief, land cover, plots, texture, grain."""
_FIELD_PX = 48
_LOGIT_SPREAD = 4.0


def make_scene(path: Path, side_px: int, *, corner_px: int = CORNER_PX) -> Path:
    """A square RGB uint8 GeoTIFF, (3, side, side), with structure at several scales and a corner without data."""
    rng = np.random.default_rng(20240817)
    lattices = [
        rng.standard_normal((3, side_px // step + 2, side_px // step + 2), dtype=np.float32) for step, _ in _SCALES
    ]
    fields = rng.standard_normal((3, side_px // _FIELD_PX + 2, side_px // _FIELD_PX + 2), dtype=np.float32)
    profile = {
        "driver": "GTiff", "width": side_px, "height": side_px, "count": 3, "dtype": "uint8", "tiled": True,
        "blockxsize": 512, "blockysize": 512, "compress": "deflate", "interleave": "pixel", "nodata": NODATA,
        "crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5300000),
    }  # fmt: skip
    cols = np.arange(side_px)
    with rasterio.open(path, "w", **profile) as dataset:
        for top in range(0, side_px, _STRIP_PX):
            rows = np.arange(top, min(top + _STRIP_PX, side_px))
            relief = np.zeros((3, rows.size, side_px), np.float32)
            for (step, amplitude), lattice in zip(_SCALES, lattices, strict=True):
                relief += amplitude * _between(lattice, rows / step, cols / step)
            relief += 0.7 * fields[:, rows[:, None] // _FIELD_PX, cols[None, :] // _FIELD_PX]
            pixels = np.clip(np.rint(118 + 38 * relief), 1, 255).astype(np.uint8)
            pixels[:, rows[:, None] + cols[None, :] < corner_px] = NODATA
            dataset.write(pixels, window=rasterio.windows.Window(0, top, side_px, rows.size))
    return path


def _between(lattice: NDArray[np.float32], rows: NDArray[np.float64], cols: NDArray[np.float64]) -> NDArray[np.float32]:
    """The lattice (3, y, x) at fractional places, bilinear: (3, rows, cols)."""
    y, x = rows.astype(int), cols.astype(int)
    down = (rows - y).astype(np.float32)[:, None]
    right = (cols - x).astype(np.float32)
    upper = lattice[:, y][:, :, x] * (1 - right) + lattice[:, y][:, :, x + 1] * right
    lower = lattice[:, y + 1][:, :, x] * (1 - right) + lattice[:, y + 1][:, :, x + 1] * right
    answer: NDArray[np.float32] = upper * (1 - down) + lower * down
    return answer


def make_unet(folder: Path, scene: Path) -> Path:
    """A U-Net on resnet18, depth 3, as smp's `save_pretrained` writes it; values 0 to 1 in, logits of 4 classes out.

    A harsh test of seams: nothing is trained, so nothing damps what comes from far away. Its batch norms know the
    statistics of the scene's middle, and the head is scaled so that logits spread by 4 around 0 in each class.
    """
    import torch

    from earthloom.models.networks.torchvision_ops import define_missing_ops

    define_missing_ops()
    import segmentation_models_pytorch as smp

    torch.manual_seed(7)
    network: Any = smp.Unet(
        "resnet18", encoder_depth=3, encoder_weights=None, decoder_channels=(64, 32, 16), classes=len(CLASSES)
    )
    with rasterio.open(scene) as dataset:
        middle = max(dataset.width // 2 - 512, 0)
        pixels = dataset.read(window=rasterio.windows.Window(middle, middle, 1024, 1024))
    x = torch.from_numpy(pixels).float().div_(255)[None]
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain mean over all that was seen
    with torch.no_grad():
        network.train()(x)
        logits = network.eval()(x)
        head = network.segmentation_head[0]
        spread = logits.std((0, 2, 3))
        head.bias.sub_(logits.mean((0, 2, 3))).mul_(_LOGIT_SPREAD / spread)
        head.weight.mul_((_LOGIT_SPREAD / spread)[:, None, None, None])
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1
    network.save_pretrained(str(folder))
    return folder


def make_pointwise(folder: Path) -> Path:
    """A 1 x 1 convolution of 3 channels to 4: `model.safetensors`, and the same as an ONNX graph, `pointwise.onnx`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import save_file

    rng = np.random.default_rng(11)
    weight = rng.standard_normal((len(CLASSES), 3, 1, 1)).astype(np.float32) * 6
    bias = -0.46 * weight.sum((1, 2, 3))
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"weight": weight, "bias": bias}, folder / "model.safetensors")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weight", "bias"], ["y"], kernel_shape=[1, 1])],
        "pointwise",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", len(CLASSES), "h", "w"])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "pointwise.onnx"))
    return folder
