"""What an ONNX file says of itself, and whether it may run here. Reads the graph as data; runs nothing.

A graph may come from anywhere. It is refused when it points to other files, uses operators beyond the ONNX standard, or
does not map one image to one image; whatever remains can only compute. Knows nothing of onnxruntime or of cards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from earthloom.tiling.errors import CardError

MAX_BYTES = 1 << 30
_MAX_NODES = 50_000
_OPSETS = (7, 26)
"""Older ones lack the operators of today's exporters; newer ones are not known to onnxruntime."""
_STANDARD = ("", "ai.onnx")
_REDUCING = {"Conv", "MaxPool", "AveragePool", "LpPool"}
_GLOBAL = {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "InstanceNormalization", "GroupNormalization"}
_FLOAT32 = 1
"""TensorProto.FLOAT"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One image in, one image out."""

    input_name: str
    n_bands: int | None
    """Channels of the input; None where the graph leaves them open."""
    n_classes: int | None
    size_px: tuple[int | None, int | None]
    """(height, width) of the only chip that it takes; None where it takes any."""
    stride_px: int
    """Product of the strides of its convolutions and poolings along the deepest path: a multiple of the total stride."""
    pools_globally: bool
    """It has a layer that looks at the whole chip, so that no halo makes its tiles exact."""


def inspect(data: bytes, layout: str) -> Graph:
    """Check a graph and say what it takes and gives.

    Args:
        data: all of an ONNX file.
        layout: `nchw` or `nhwc`, of both its input and its output.

    Raises:
        CardError: naming what is not accepted, and the way out.
    """
    import onnx

    if len(data) > MAX_BYTES:
        raise CardError(f"the ONNX file has {len(data)} bytes; at most {MAX_BYTES} are read")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own class, which has no types
        raise CardError(f"not an ONNX file, or one that was cut short: {error}") from error
    _refuse_what_is_not_standard(model)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise CardError(f"the ONNX graph breaks the standard: {str(error).splitlines()[0]}") from error
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise CardError(
            f"the ONNX graph has {len(inputs)} inputs and {len(graph.output)} outputs, and one of each is needed: the "
            "chip and its logits; export it again without the others"
        )
    taken, given = (_dims(value, layout) for value in (inputs[0], graph.output[0]))
    stride, pools_globally = _reach(graph, layout)
    return Graph(
        input_name=inputs[0].name, n_bands=taken[0], n_classes=given[0], size_px=taken[1:],
        stride_px=stride, pools_globally=pools_globally,
    )  # fmt: skip


def count_parameters(data: bytes) -> int:
    """Weights inside an ONNX file."""
    import onnx

    return sum(_n_values(tensor.dims) for tensor in onnx.load_model_from_string(data).graph.initializer)


def _refuse_what_is_not_standard(model: Any) -> None:
    opset = next((int(entry.version) for entry in model.opset_import if entry.domain in _STANDARD), 0)
    if not _OPSETS[0] <= opset <= _OPSETS[1]:
        raise CardError(
            f"the ONNX graph is of opset {opset}; {_OPSETS[0]} to {_OPSETS[1]} are read: export it again with opset 17"
        )
    if model.functions or model.training_info:
        raise CardError("the ONNX file defines functions or training steps of its own; export it for inference only")
    n_nodes = 0
    for graph in _graphs(model.graph):
        n_nodes += len(graph.node)
        if n_nodes > _MAX_NODES:
            raise CardError(f"the ONNX graph has more than {_MAX_NODES} nodes")
        for node in graph.node:
            if node.domain not in _STANDARD:
                raise CardError(
                    f"node {node.name or node.op_type} is {node.domain}.{node.op_type}, which the ONNX standard does not "
                    "know and which could be any code; export the network with standard operators only"
                )
        for tensor in _tensors(graph):
            if tensor.data_location or tensor.external_data:
                raise CardError(
                    f"tensor {tensor.name} lies in another file, and none is read at a graph's word; save the model in "
                    "one file: onnx.save(onnx.load(PATH), TARGET)"
                )


def _graphs(graph: Any) -> Iterator[Any]:
    """The graph and those inside its branches and loops."""
    waiting = [graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    sparse = list(graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            sparse += attribute.sparse_tensors
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor"):
                sparse.append(attribute.sparse_tensor)
    for tensor in sparse:
        yield tensor.values
        yield tensor.indices


def _dims(value: Any, layout: str) -> tuple[int | None, int | None, int | None]:
    """(channels, height, width) of an input or output, None where open."""
    kind = value.type.tensor_type
    if kind.elem_type != _FLOAT32:
        raise CardError(
            f"{value.name} of the ONNX graph does not hold float32; export it with inputs and outputs in float32"
        )
    dims = [int(dim.dim_value) or None for dim in kind.shape.dim]
    if len(dims) != 4 or dims[0] not in (None, 1):
        raise CardError(
            f"{value.name} of the ONNX graph has shape {dims}, but a batch of images of four axes is needed, whose first "
            "is open or 1"
        )
    return (dims[1], dims[2], dims[3]) if layout == "nchw" else (dims[3], dims[1], dims[2])


def _reach(graph: Any, layout: str) -> tuple[int, bool]:
    """The deepest product of strides, and whether a layer looks at the whole chip."""
    factors: dict[str, int] = {}
    pools = False
    axes_of = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            axes_of.update((node.output[0], held.t) for held in node.attribute if held.name == "value")
        factor = max((factors.get(name, 1) for name in node.input), default=1)
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type in _REDUCING and "strides" in attributes:
            factor *= max(attributes["strides"].ints)
        elif node.op_type == "SpaceToDepth":
            factor *= max(1, attributes["blocksize"].i)
        pools |= node.op_type in _GLOBAL or (
            node.op_type.startswith("Reduce") and _reduces_space(node, attributes, axes_of, layout)
        )
        factors |= dict.fromkeys(node.output, factor)
    return max(factors.values(), default=1), pools


def _reduces_space(node: Any, attributes: dict[str, Any], constants: dict[str, Any], layout: str) -> bool:
    """Whether a reduction may go over rows or columns. Inside a graph axes mostly follow PyTorch's order, so both count."""
    from onnx import numpy_helper

    if "axes" in attributes:
        axes = list(attributes["axes"].ints)
    elif len(node.input) > 1 and node.input[1] in constants:
        axes = numpy_helper.to_array(constants[node.input[1]]).reshape(-1).tolist()
    else:
        return True
    channels = {1, -3} if layout == "nchw" else {3, -1, 1, -3}  # converters from NHWC compute in either
    return not set(axes) <= channels


def _n_values(dims: Any) -> int:
    count = 1
    for dim in dims:
        count *= dim
    return count
