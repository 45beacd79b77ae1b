"""TinyNet as ONNX graphs, good and bad, made by code: no exporter takes part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.models.nets import TinyNet

BANDS, CLASSES = ("red", "nir"), ("land", "water", "cloud")


def tiny() -> TinyNet:
    torch.manual_seed(3)
    return TinyNet(in_channels=len(BANDS), classes=len(CLASSES)).eval()


def tiny_onnx(
    path: Path, *, layout: str = "nchw", side_px: int | None = None, opset: int = 17, elem_type: int = TensorProto.FLOAT,
    domain: str = "", before: tuple[Any, ...] = (), n_outputs: int = 1,
) -> Path:  # fmt: skip
    """Write `tiny()` as a graph.

    Args:
        side_px: of the only chip that it takes; open when None.
        domain: of its first convolution.
        before: nodes that end in `x` and start from `x0`.
    """
    weights = {name: numpy_helper.from_array(value.numpy(), name) for name, value in tiny().state_dict().items()}
    inside = [
        helper.make_node("Conv", ["x", "first.weight", "first.bias"], ["a"], pads=[1] * 4, domain=domain),
        helper.make_node("Relu", ["a"], ["fine"]),
        helper.make_node("MaxPool", ["fine"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["pooled", "second.weight", "second.bias"], ["b"], pads=[1] * 4),
        helper.make_node("Relu", ["b"], ["coarse"]),
        helper.make_node(
            "Resize", ["coarse", "", "scales"], ["up"], mode="nearest", coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        helper.make_node("Concat", ["fine", "up"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "head.weight", "head.bias"], ["y"]),
    ]  # fmt: skip
    if layout == "nhwc":
        inside = [helper.make_node("Transpose", ["x0"], ["x"], perm=[0, 3, 1, 2]), *inside]
        inside.append(helper.make_node("Transpose", ["y"], ["out"], perm=[0, 2, 3, 1]))
    names = ("x0" if layout == "nhwc" or before else "x", "out" if layout == "nhwc" else "y")
    height, width = (side_px, side_px) if side_px else ("h", "w")
    shapes = [
        ["n", count, height, width] if layout == "nchw" else ["n", height, width, count]
        for count in (len(BANDS), len(CLASSES))
    ]
    graph = helper.make_graph(
        [*before, *inside],
        "tiny",
        [helper.make_tensor_value_info(names[0], elem_type, shapes[0])],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, shapes[1])] * n_outputs,
        [*weights.values(), numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")],
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return path


def with_outside_weights(path: Path) -> Path:
    """A graph that takes a tensor from a file of this machine."""
    model = onnx.load(tiny_onnx(path))
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    path.write_bytes(model.SerializeToString())
    return path
