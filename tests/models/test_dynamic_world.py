"""Dynamic World's published network by way of a stand-in with its layers: what a user's copy becomes, and that it is that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F

from earthloom.models.cards import weights
from earthloom.models.importing.importing import import_model
from earthloom.models.importing.options import ImportOptions
from earthloom.models.importing.tensorflow_graph import to_standard
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block, predict_whole
from earthloom.models.measuring.measure import framed
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.errors import CardError
from tests.models.nets import CPU, stack_of
from tests.scenes import landscape

BANDS = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "swir16", "swir22")
CLASSES = ("water", "trees", "grass", "flooded_vegetation", "crops", "shrub_and_scrub", "built", "bare", "snow_and_ice")
LOW = [1.7417268007636313, 1.7261204997060209, 1.6798346251414997, 1.7734969472909623, 2.289154079164943, 2.382939712192371,
       2.3828939530384052, 2.1952484264967844, 1.554812948247501]  # fmt: skip
HIGH = [2.023298706048351, 2.038905204308012, 2.179592821212937, 2.2890068333026603, 2.6171674549378166, 2.773418590375327,
        2.7578332604178284, 2.789092484314204, 2.4140534947492487]  # fmt: skip
"""NORM_PERCENTILES of single_image_runner.ipynb, github.com/google/dynamicworld at 0dd288f (Apache-2.0)."""
WIDE = 12


def drawn() -> dict[str, NDArray[np.float32]]:
    dice = np.random.default_rng(4)
    shapes = {"first": (WIDE, 9, 3, 3), "deep": (WIDE, 1, 3, 3), "head": (9, 2 * WIDE, 1, 1)}
    made = {name: dice.normal(0, 0.6, shape).astype(np.float32) for name, shape in shapes.items()}
    made["first"] -= made["first"].mean(axis=(1, 2, 3), keepdims=True)  # sees contrasts, so that classes change
    return {**made, "first": 4 * made["first"]}


def stand_in(path: Path, *, opset: int = 18, kernel: str = "triangle") -> Path:
    """What tf2onnx 1.17 writes: a convolution, half as many pixels by ScaleAndTranslate, a depthwise convolution, twice as many
    again, unit vectors, and a layer of 1 x 1. Activations are Mish, as softplus and tanh."""

    def mish(name: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("Softplus", [name], [f"{name}_p"]), helper.make_node("Tanh", [f"{name}_p"], [f"{name}_t"]),
            helper.make_node("Mul", [name, f"{name}_t"], [f"{name}_m"]),
        ]  # fmt: skip

    held = {**drawn(), "half": np.array([0.5, 0.5], np.float32), "still": np.zeros(2, np.float32),
            "twice": np.array([1, 1, 2, 2], np.float32), "size": np.zeros(2, np.int32), "tiny": np.float32(1e-12),
            "axis": np.array([1])}  # fmt: skip
    nodes = [
        helper.make_node("Transpose", ["chip"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "first"], ["a"], pads=[1] * 4), *mish("a"),
        helper.make_node("Transpose", ["a_m"], ["fine"], perm=[0, 2, 3, 1]),
        helper.make_node("ScaleAndTranslate", ["fine", "size", "half", "still"], ["small"], antialias=1, kernel_type=kernel),
        helper.make_node("Transpose", ["small"], ["coarse"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["coarse", "deep"], ["b"], pads=[1] * 4, group=WIDE), *mish("b"),
        helper.make_node("Resize", ["b_m", "", "twice"], ["up"], mode="linear"),
        helper.make_node("Concat", ["up", "a_m"], ["both"], axis=1), helper.make_node("Mul", ["both", "both"], ["squared"]),
        helper.make_node("ReduceSum", ["squared", "axis"], ["sum"]), helper.make_node("Max", ["sum", "tiny"], ["most"]),
        helper.make_node("Sqrt", ["most"], ["length"]), helper.make_node("Div", ["both", "length"], ["unit"]),
        helper.make_node("Conv", ["unit", "head"], ["y"]), helper.make_node("Transpose", ["y"], ["logits"], perm=[0, 2, 3, 1]),
    ]  # fmt: skip
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "h", "w", 9]) for name in ("chip", "logits")]
    graph = helper.make_graph(
        nodes, "dw", ends[:1], ends[1:], [numpy_helper.from_array(np.asarray(v), k) for k, v in held.items()]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)
    return path


def published(stored: NDArray[np.uint16]) -> torch.Tensor:
    """(9, h, w) logits by the notebook's lines and torch's own layers, of reflectance * 10000 (9, h, w)."""
    image = np.moveaxis(stored, 0, -1).astype(np.float64)
    image = np.log(image * 0.005 + 1)
    image = (image - np.array(LOW)) / np.array(HIGH)
    image = np.exp(image * 5 - 1)
    image = image / (image + 1)
    net = {name: torch.from_numpy(value) for name, value in drawn().items()}
    fine = F.mish(
        F.conv2d(torch.from_numpy(np.moveaxis(image, -1, 0).astype(np.float32))[None], net["first"], padding=1)
    )
    small = F.interpolate(fine, scale_factor=0.5, mode="bilinear", antialias=True)
    deep = F.mish(F.conv2d(small, net["deep"], padding=1, groups=WIDE))
    both = torch.cat([F.interpolate(deep, scale_factor=2.0, mode="bilinear"), fine], dim=1)
    return F.conv2d(F.normalize(both, dim=1), net["head"])[0]


def options(**changes: object) -> ImportOptions:
    squash = {"gain": 0.005, "low": LOW, "high": HIGH}
    said = {"name": "dynamicworld", "layout": "nhwc", "stride": 2, "halo": 8, "gsd": "8,20", "bands": ",".join(BANDS),
            "quantity": "toa_reflectance", "std": ",".join(["0.0001"] * 9), "classes": ",".join(CLASSES),
            "arguments": json.dumps({"squash": squash})}  # fmt: skip
    return ImportOptions.model_validate({**said, **changes})


def test_a_users_copy_answers_by_the_published_arithmetic_which_its_card_holds(tmp_path: Path) -> None:
    card, folder = import_model(stand_in(tmp_path / "forward.onnx"), options(), tmp_path / "model")
    assert card.kwargs["squash"] == {"gain": 0.005, "low": LOW, "high": HIGH}
    assert (card.halo_px, card.stride_px, card.overlap) == (8, 2, "exact")
    stored = landscape(96, 64, 9)
    predictor = Predictor(card, weights.find(folder), CPU, 1)
    chip = predictor.normalise(stack_of(stored))
    with torch.inference_mode():
        found = predictor.module(chip[None])[0]
    torch.testing.assert_close(found, published(stored), rtol=1e-4, atol=1e-4)


def test_its_tiles_fit_without_a_seam(tmp_path: Path) -> None:
    card, folder = import_model(stand_in(tmp_path / "forward.onnx"), options(), tmp_path / "model")
    scene = stack_of(landscape(160, 128, 9))
    chips = ChipGrid(scene=scene.window, core_px=64, halo_px=8, stride_px=2)
    predictor = Predictor(card, weights.find(folder), CPU, 1)
    stack = framed(scene, chips.extent, 8)
    tiled = predict_block(predictor, chips, scene.window, stack).made
    whole = predict_whole(predictor, chips, stack)
    assert np.array_equal(tiled.classes, whole.classes)
    assert np.array_equal(tiled.confidence, whole.confidence)
    assert len(np.unique(whole.classes)) > 3


@pytest.mark.parametrize(
    ("graph", "message"),
    [({"opset": 17}, "convert it again with `--opset 18`"), ({"kernel": "lanczos3"}, "resizes by lanczos3")],
)
def test_a_graph_that_resizes_in_another_way_says_what_to_do(
    graph: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CardError, match=message):
        import_model(stand_in(tmp_path / "forward.onnx", **graph), options(), tmp_path / "model")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("squash", "message"),
    [
        ({"gain": 0.005, "low": LOW}, "squash has gain, low and high, got gain, low"),
        ({"gain": 0.005, "low": LOW[:8], "high": HIGH[:8]}, "for each of 9 channels"),
        ({"gain": 0.005, "low": LOW, "high": [*HIGH[:8], 0]}, "a positive high"),
    ],
)
def test_a_transform_that_does_not_fit_is_refused(squash: dict[str, object], message: str, tmp_path: Path) -> None:
    said = options(arguments=json.dumps({"squash": squash}))
    with pytest.raises(CardError, match=message):
        import_model(stand_in(tmp_path / "forward.onnx"), said, tmp_path / "model")


def test_a_graph_of_the_standard_keeps_its_bytes(tmp_path: Path) -> None:
    again = to_standard(stand_in(tmp_path / "forward.onnx").read_bytes())
    assert b"ScaleAndTranslate" not in again
    assert to_standard(again) == again
