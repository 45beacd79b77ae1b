"""Published ONNX graphs into safetensors for our own networks. Knows nothing of where the graph came from.

The graph's layers with weights and the network's are matched in the order of execution, kind by kind and shape by
shape, so a graph of another network is refused rather than mapped wrongly.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from tiling.errors import CardError

_KINDS: dict[str, type[nn.Module]] = {
    "Conv": nn.Conv2d,
    "ConvTranspose": nn.ConvTranspose2d,
    "BatchNormalization": nn.BatchNorm2d,
}


def onnx_to_safetensors(graph: bytes, module: nn.Module, in_channels: int, stride_px: int, target: Path) -> None:
    """Write the graph's weights as the state dict of `module`.

    Args:
        graph: an ONNX model with its weights inside.
        module: the same network; filled as a side effect.
        in_channels, stride_px: of the module, for the pass that finds the order of its layers.

    Raises:
        CardError: if the graph's layers are not the module's.
    """
    import onnx
    from onnx import numpy_helper
    from safetensors.torch import save_file

    model = onnx.load_model_from_string(graph)
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in _KINDS]
    layers = _in_order(module, torch.zeros(1, in_channels, 4 * stride_px, 4 * stride_px))
    if len(nodes) != len(layers):
        raise CardError(f"the ONNX graph has {len(nodes)} layers with weights but the network has {len(layers)}")
    for node, layer in zip(nodes, layers, strict=True):
        found = [tensors[name] for name in node.input if name in tensors]
        wanted = _tensors(layer)
        if not isinstance(layer, _KINDS[node.op_type]) or [t.shape for t in found] != [t.shape for t in wanted]:
            raise CardError(
                f"layer {node.name} of the ONNX graph ({node.op_type}, {[tuple(t.shape) for t in found]}) is not the "
                f"network's {type(layer).__name__} ({[tuple(t.shape) for t in wanted]})"
            )
        with torch.no_grad():
            for ours, theirs in zip(wanted, found, strict=True):
                ours.copy_(theirs)
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, target)


def _tensors(layer: nn.Module) -> list[Tensor]:
    names = ("weight", "bias", "running_mean", "running_var")
    return [tensor for name in names if (tensor := getattr(layer, name, None)) is not None]


def _in_order(module: nn.Module, example: Tensor) -> list[nn.Module]:
    seen: list[nn.Module] = []
    hooks = [
        layer.register_forward_hook(lambda layer, _inputs, _output: seen.append(layer))
        for layer in module.modules()
        if isinstance(layer, tuple(_KINDS.values()))
    ]
    with torch.inference_mode():
        module.eval()(example)
    for hook in hooks:
        hook.remove()
    return seen
