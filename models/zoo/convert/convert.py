"""Published weights into safetensors for our own networks. Knows nothing of where a file came from.

Two ways, because publishers keep two kinds of names. Where a graph has lost them, its layers and the network's are
matched in the order of execution, kind by kind and shape by shape; where it has kept the state dict's names, tensors are
taken by name. Either way weights of another network are refused rather than mapped wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from earthloom.tiling.errors import CardError

_KINDS: dict[str, type[nn.Module]] = {
    "Conv": nn.Conv2d,
    "ConvTranspose": nn.ConvTranspose2d,
    "BatchNormalization": nn.BatchNorm2d,
}


def onnx_to_safetensors(graph: bytes, module: nn.Module, in_channels: int, stride_px: int, target: Path) -> None:
    """Write the weights of a graph that lost its names as the state dict of `module`.

    Args:
        graph: an ONNX model with its weights inside.
        module: the same network; filled as a side effect.
        in_channels, stride_px: of the module, for the pass that finds the order of its layers.

    Raises:
        CardError: if the graph's layers are not the module's.
    """
    import onnx
    from safetensors.torch import save_file

    tensors = onnx_tensors(graph)
    nodes = [node for node in onnx.load_model_from_string(graph).graph.node if node.op_type in _KINDS]
    layers = _in_order(module, in_channels, stride_px, tuple(_KINDS.values()))
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


def onnx_tensors(graph: bytes) -> dict[str, Tensor]:
    """The weights inside an ONNX model by their names, in the precision in which they were published."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(graph)
    return {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}


def state_to_safetensors(
    tensors: Mapping[str, Tensor], module: nn.Module, in_channels: int, stride_px: int, target: Path
) -> None:
    """Write tensors that carry the names of `module`'s state dict, in the precision in which they come.

    Exporters drop what has no part in the answer: layers that are never run (an encoder's unused head) and the counters
    of batch normalisation. Those, and no others, may be missing; they are written as zeros.

    Args:
        tensors: by name.
        module: the same network; not changed.
        in_channels, stride_px: of the module, for the pass that finds which of its layers run.

    Raises:
        CardError: if a tensor that takes part in the answer is missing, or one is unknown or of another shape.
    """
    from safetensors.torch import save_file

    wanted = module.state_dict()
    running = _in_order(module, in_channels, stride_px, (nn.Module,))
    names = {id(layer): name for name, layer in module.named_modules()}
    used = {
        f"{names[id(layer)]}.{name}".lstrip(".")
        for layer in running
        for name, _ in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        if name != "num_batches_tracked"
    }
    missing = sorted(used - tensors.keys())
    unknown = sorted(tensors.keys() - wanted.keys())
    misshapen = sorted(name for name in tensors.keys() & wanted.keys() if tensors[name].shape != wanted[name].shape)
    if missing or unknown or misshapen:
        raise CardError(
            f"these are not the weights of this network: {len(missing)} missing {missing[:3]}, "
            f"{len(unknown)} unknown {unknown[:3]}, {len(misshapen)} of another shape {misshapen[:3]}"
        )
    save_file({name: tensors.get(name, torch.zeros_like(value)).contiguous() for name, value in wanted.items()}, target)


def _tensors(layer: nn.Module) -> list[Tensor]:
    names = ("weight", "bias", "running_mean", "running_var")
    return [tensor for name in names if (tensor := getattr(layer, name, None)) is not None]


def _in_order(
    module: nn.Module, in_channels: int, stride_px: int, kinds: tuple[type[nn.Module], ...]
) -> list[nn.Module]:
    """Layers of some kinds as they run on a small image."""
    seen: list[nn.Module] = []
    hooks = [
        layer.register_forward_hook(lambda layer, _inputs, _output: seen.append(layer))
        for layer in module.modules()
        if isinstance(layer, kinds)
    ]
    with torch.inference_mode():
        module.eval()(torch.zeros(1, in_channels, 4 * stride_px, 4 * stride_px))
    for hook in hooks:
        hook.remove()
    return seen
