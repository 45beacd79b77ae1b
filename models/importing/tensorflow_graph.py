"""Replaces the operators of TensorFlow that tf2onnx leaves in a graph by those of the ONNX standard that compute the same.

`tf.image.resize(…, antialias=True)` is TensorFlow's operator ScaleAndTranslate, which tf2onnx 1.17 passes on by that name.
Reads and writes bytes; runs nothing.
"""

from __future__ import annotations

from typing import Any

from earthloom.tiling.errors import CardError

_LEFT = "ScaleAndTranslate"
_OPSET = 18
"""The first whose Resize filters before it makes smaller."""


def to_standard(data: bytes) -> bytes:
    """The graph with antialiased resizing as `Resize`; the same bytes where there is nothing to be changed.

    Both filter by a triangle that is as much wider as the image becomes smaller, with pixels' centres at halves.

    Args:
        data: of an ONNX file. One that cannot be parsed is given back: `models.cards.onnx_graph.inspect` says why.

    Raises:
        CardError: if the graph is of an opset that has no such Resize, or resizes in another way.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf's own class, which has no types
        return data
    graph = model.graph
    if not any(node.op_type == _LEFT for node in graph.node):
        return data
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < _OPSET:
        raise CardError(
            f"the ONNX graph resizes by TensorFlow's {_LEFT}, which ONNX can say from opset {_OPSET} on, and it is of opset "
            f"{opset}: convert it again with `--opset {_OPSET}`"
        )
    made = []
    for node in graph.node:
        if node.op_type != _LEFT:
            made.append(node)
            continue
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        kernel, antialias = attributes.get("kernel_type", b""), attributes.get("antialias")
        moved = _constant(graph, node.input[3])
        if kernel != b"triangle" or not antialias or moved is None or moved.any():
            raise CardError(
                f"{node.name} resizes by {kernel.decode()} with antialias {antialias}; only "
                "tf.image.resize(…, antialias=True) has a counterpart in ONNX: leave this layer out of the network"
            )
        image, _, scale, _ = node.input
        own = f"{node.output[0]}/standard"
        graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), f"{own}/ones"))
        made += [
            helper.make_node("Transpose", [image], [f"{own}/taken"], perm=[0, 3, 1, 2]),
            helper.make_node("Concat", [f"{own}/ones", scale], [f"{own}/scales"], axis=0),
            helper.make_node(
                "Resize", [f"{own}/taken", "", f"{own}/scales"], [f"{own}/made"], name=node.name, antialias=1,
                mode="linear", exclude_outside=1, coordinate_transformation_mode="half_pixel",
            ),
            helper.make_node("Transpose", [f"{own}/made"], list(node.output), perm=[0, 2, 3, 1]),
        ]  # fmt: skip
    del graph.node[:], graph.value_info[:]  # shapes that were inferred for what was there
    graph.node.extend(made)
    standard: bytes = model.SerializeToString()
    return standard


def _constant(graph: Any, name: str) -> Any:
    """The value of a constant or weight; None of anything that is computed."""
    from onnx import numpy_helper

    held = [tensor for tensor in graph.initializer if tensor.name == name]
    for node in graph.node:
        if node.op_type == "Constant" and name in node.output:
            held += [each.t for each in node.attribute if each.name == "value"]
    return numpy_helper.to_array(held[0]) if held else None
