"""Arithmetic whose last bit does not depend on batch size or a pixel's place in a tensor.

The number of threads is `models.inference.passes`' affair. Two habits of PyTorch break that on a CPU in fp32 (measured with
torch 2.13 on AVX-512):

* A convolution goes to oneDNN or to another kernel by its batch size, its size in memory and the number of threads.
* Sigmoid-like functions use one formula for whole vectors and another for what is left at the end of a thread's share.
  `exp` and `erf` do not, so the others are written with them.

Knows nothing of models or chips.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017, arXiv:1706.02515
_ONEDNN_ABOVE = 20480  # values in a single sample; ConvParams::use_mkldnn in ATen/native/Convolution.cpp


@contextmanager
def steady(kind: str, *, is_compiled: bool = False) -> Iterator[None]:
    """Run a network's forward pass so that equal pixels give equal bits.

    Args:
        kind: `cpu` or `cuda`. On CUDA kernels are deterministic and fp32 is not cut to TF32.
        is_compiled: the network is a program of `models.device.compiled`, whose convolutions are oneDNN's in any case.
    """
    if kind == "cpu":
        with _SteadyCpu(_POINTWISE if is_compiled else _POINTWISE | _CONVOLUTIONS):
            yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    filling: Any = torch.utils.deterministic
    cudnn: Any = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), filling.fill_uninitialized_memory
    chosen = cudnn.enabled, cudnn.benchmark, cudnn.deterministic
    torch.use_deterministic_algorithms(True)
    filling.fill_uninitialized_memory = False
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic = True, False, True
    try:
        with _no_tf32():
            yield
    finally:
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = chosen
        torch.use_deterministic_algorithms(before[0])
        filling.fill_uninitialized_memory = before[1]


@contextmanager
def _no_tf32() -> Iterator[None]:
    """Products and convolutions in IEEE fp32 on CUDA.

    PyTorch has two switches for each, `allow_tf32` and since 2.9 `fp32_precision`, and refuses to read the former where a
    program has set only the latter. So the latter are read, and both are set.
    """
    products: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    parts = products, cudnn.conv, cudnn.rnn
    before = [part.fp32_precision for part in parts]
    products.allow_tf32 = cudnn.allow_tf32 = False
    for part in parts:
        part.fp32_precision = "ieee"
    try:
        yield
    finally:
        products.allow_tf32, cudnn.allow_tf32 = before[0] == "tf32", before[1:] == ["tf32", "tf32"]
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision


def softmax(logits: Tensor) -> Tensor:
    """Probabilities (K, h, w) from fp32 logits (K, h, w), summed in channel order."""
    powers = torch.exp(logits - logits.amax(dim=0))
    total = powers[0].clone()
    for power in powers[1:]:
        total += power
    return powers.div_(total)


class _SteadyCpu(TorchFunctionMode):
    def __init__(self, replacements: dict[Any, Callable[..., Tensor]]) -> None:
        super().__init__()
        self._replacements = replacements

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        replacement = self._replacements.get(func)
        if replacement is not None and args and isinstance(args[0], Tensor) and args[0].device.type == "cpu":
            return replacement(*args, **kwargs or {})
        return func(*args, **kwargs or {})


def _sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x)) if x.dtype == torch.float32 else torch.sigmoid(x)


def _silu(x: Tensor, inplace: bool = False) -> Tensor:
    return x / (1 + torch.exp(-x)) if x.dtype == torch.float32 else F.silu(x, inplace=inplace)


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    wide = x.float()
    if approximate == "tanh":
        wide = 0.5 * wide * (1 + torch.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide * wide * wide)))
    else:
        wide = 0.5 * wide * (1 + torch.erf(wide * math.sqrt(0.5)))
    return wide.to(x.dtype)


def _softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    wide = x.float() * beta
    return torch.where(wide > threshold, wide, torch.log(1 + torch.exp(wide))).div(beta).to(x.dtype)


def _mish(x: Tensor, inplace: bool = False) -> Tensor:
    return x * torch.tanh(_softplus(x)) if x.dtype == torch.float32 else F.mish(x, inplace=inplace)


def _elu(x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    if x.dtype != torch.float32:
        return F.elu(x, alpha, inplace)
    return torch.where(x > 0, x, alpha * (torch.exp(x) - 1))


def _selu(x: Tensor, inplace: bool = False) -> Tensor:
    return _SELU_SCALE * _elu(x, _SELU_ALPHA) if x.dtype == torch.float32 else F.selu(x, inplace)


def _celu(x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    if x.dtype != torch.float32:
        return F.celu(x, alpha, inplace)
    return torch.where(x > 0, x, alpha * (torch.exp(x / alpha) - 1))


def _glu(x: Tensor, dim: int = -1) -> Tensor:
    kept, gate = x.chunk(2, dim)
    return kept * _sigmoid(gate)


def _in_place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def changed(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return x.copy_(function(x, *args, **kwargs))

    return changed


def _conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    if x.dtype != torch.float32 or isinstance(padding, str) or not torch._C._has_mkldnn:
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
    return torch.mkldnn_convolution(x, weight, bias, _pair(padding), _pair(stride), _pair(dilation), groups)


def _conv_transpose2d(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if x.dtype == torch.float32 and x.shape[0] == 1 and x.numel() <= _ONEDNN_ABOVE:
        return torch.conv_transpose2d(torch.cat([x, x]), *args, **kwargs)[:1]  # two samples always go to oneDNN
    return torch.conv_transpose2d(x, *args, **kwargs)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


_CONVOLUTIONS: dict[Any, Callable[..., Tensor]] = {torch.conv2d: _conv2d, torch.conv_transpose2d: _conv_transpose2d}
_POINTWISE: dict[Any, Callable[..., Tensor]] = {
    torch.sigmoid: _sigmoid,
    Tensor.sigmoid: _sigmoid,
    F.sigmoid: _sigmoid,
    torch.special.expit: _sigmoid,
    torch.sigmoid_: _in_place(_sigmoid),
    Tensor.sigmoid_: _in_place(_sigmoid),
    F.elu_: _in_place(_elu),
    F.selu: _selu,
    F.selu_: _in_place(_selu),
    F.celu: _celu,
    F.celu_: _in_place(_celu),
    F.glu: _glu,
    F.silu: _silu,
    F.gelu: _gelu,
    F.softplus: _softplus,
    F.mish: _mish,
    F.elu: _elu,
}
