"""Published weights become those of our own network, or are refused: never mapped wrongly."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from earthloom.models.zoo.convert.convert import onnx_to_safetensors
from earthloom.tiling.errors import CardError


class Net(nn.Module):
    """Its layers run in another order than they are named in."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.last = nn.ConvTranspose2d(width, 3, 2, stride=2)
        self.norm = nn.BatchNorm2d(width)
        self.first = nn.Conv2d(4, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(torch.relu(self.norm(nn.functional.max_pool2d(self.first(x), 2))))
        return out


def seeded(width: int = 6, seed: int = 1) -> Net:
    torch.manual_seed(seed)
    net = Net(width).eval()
    for name, buffer in net.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand_like(buffer) + 0.5 * (name.endswith("var")))
    return net


def graph_of(net: Net) -> bytes:
    """The network as an ONNX graph whose tensors have lost their names."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    state = [net.first.weight, net.first.bias, net.norm.weight, net.norm.bias, net.norm.running_mean, net.norm.running_var,
             net.last.weight, net.last.bias]  # fmt: skip
    tensors = [
        numpy_helper.from_array(part.detach().numpy(), f"t{n}") for n, part in enumerate(state) if part is not None
    ]
    nodes = [
        helper.make_node("Conv", ["x", "t0", "t1"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["b", "t2", "t3", "t4", "t5"], ["c"], name="norm"),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("ConvTranspose", ["d", "t6", "t7"], ["y"], name="up", strides=[2, 2]),
    ]
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    file = io.BytesIO()
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", shapes[:1], shapes[1:], tensors)), file)
    return file.getvalue()


def test_layers_are_matched_in_the_order_in_which_they_run(tmp_path: Path) -> None:
    published, ours = seeded(), seeded(seed=2)
    onnx_to_safetensors(graph_of(published), ours, 4, 2, tmp_path / "w.safetensors")
    fresh = Net().eval()
    fresh.load_state_dict(load_file(tmp_path / "w.safetensors"))
    x = torch.rand(1, 4, 16, 12)
    assert torch.equal(fresh(x), published(x))


def test_weights_of_another_network_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    target = tmp_path / "w.safetensors"
    with pytest.raises(CardError, match=r"layer conv of the ONNX graph \(Conv, .*\) is not the network's Conv2d"):
        onnx_to_safetensors(graph_of(seeded(8)), seeded(), 4, 2, target)
    short = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1)).eval()
    with pytest.raises(CardError, match="3 layers with weights but the network has 1"):
        onnx_to_safetensors(graph_of(seeded()), short, 4, 2, target)
    assert not target.exists()
