"""A network that is an ONNX graph, computed by onnxruntime (`pip install 'earthloom[onnx]'`). Knows nothing of chips.

It computes in fp32 whatever the precision asked for, one image at a time: onnxruntime picks other kernels for other batch
sizes, and a map must not depend on those.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from earthloom.models.cards.onnx_graph import Graph, inspect
from earthloom.tiling.errors import CardError

LAYOUTS = ("nchw", "nhwc")
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
"""fp32 is not cut short, and the algorithm does not hang on a race between kernels."""


class OnnxNet(nn.Module):
    """(N, C, H, W) to (N, K, H, W).

    Args:
        in_channels, classes: C and K, which the graph must have.
        layout: order of the axes of its input and output; TensorFlow's graphs are `nhwc`.
        squash: `{"gain": g, "low": […], "high": […]}`, low and high for each channel: the graph then takes
            sigmoid(5 (log(g x + 1) - low) / high - 1) of the channel's normalised value x, negative ones as 0. Dynamic World
            (Brown et al. 2022) was trained on Sentinel-2 so, with the 30th and 70th percentile of the logarithm.
    """

    def __init__(
        self, *, in_channels: int, classes: int, layout: str = "nchw", squash: Mapping[str, Any] | None = None
    ) -> None:  # fmt: skip
        super().__init__()
        self._squash = None if squash is None else _squash_of(squash, in_channels)
        if layout not in LAYOUTS:
            raise CardError(f"layout is {' or '.join(LAYOUTS)}, got {layout!r}")
        self.in_channels, self.classes, self.layout = in_channels, classes, layout
        self._data = b""
        self._graph: Graph | None = None
        self._sessions: dict[str, Any] = {}
        self._opening = threading.Lock()

    def load_bytes(self, data: bytes, sha256: str) -> None:
        """Take a graph (`models.cards.weights.LoadsItself`).

        Raises:
            CardError: if it may not run, or has other channels than the card says.
        """
        graph = inspect(data, self.layout)
        if graph.n_bands not in (None, self.in_channels):
            raise CardError(
                f"the ONNX graph {sha256[:8]} takes {graph.n_bands} bands, the card names {self.in_channels}"
            )
        accepted = (None, self.classes, *((1,) if self.classes == 2 else ()))
        if graph.n_classes not in accepted:
            raise CardError(
                f"the ONNX graph {sha256[:8]} gives {graph.n_classes} classes, the card names {self.classes}"
            )
        self._data, self._graph = data, graph
        self._sessions.clear()

    @property
    def only_px(self) -> int | None:
        """See `models.cards.weights.LoadsItself`."""
        height, width = self._graph.size_px if self._graph else (None, None)
        return height or width

    def forward(self, x: Tensor) -> Tensor:
        """Logits, or what else the graph gives, in fp32 on the device of `x`.

        Raises:
            CardError: if the graph fails on chips of this size.
            MemoryError: if memory runs out.
        """
        if self._graph is None:
            raise CardError("an ONNX network has no weights of its own: its card must name them")
        if x.requires_grad:
            raise CardError(
                "the inside of an ONNX graph cannot be measured; give `halo` when it is imported, or leave it out and "
                "its chips are blended"
            )
        for side, only in zip(x.shape[2:], self._graph.size_px, strict=True):
            if only not in (None, side):
                raise CardError(
                    f"the ONNX graph takes chips of {self._graph.size_px[1]} x {self._graph.size_px[0]} px only, got "
                    f"{x.shape[3]} x {x.shape[2]}; leave `core` as the card has it, or export the graph with open sizes"
                )
        if self._squash is not None:
            gain, low, high = self._squash
            logs = torch.log1p(x.float().clamp_min(0) * gain)
            x = torch.sigmoid((logs - low.to(x.device)) / high.to(x.device) * 5 - 1)
        axes = (0, 2, 3, 1) if self.layout == "nhwc" else (0, 1, 2, 3)
        images = np.ascontiguousarray(x.detach().float().cpu().permute(axes).numpy())
        session = self._session(x.device.type)
        answer = torch.from_numpy(np.concatenate([self._run(session, image[None]) for image in images]))
        return (answer.permute(0, 3, 1, 2) if self.layout == "nhwc" else answer).to(x.device)

    def _run(self, session: Any, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        assert self._graph is not None
        try:
            (answer,) = session.run(None, {self._graph.input_name: image})
        except Exception as error:  # onnxruntime's exceptions have no common class
            words = str(error)
            if "allocate" in words or "bad_alloc" in words:
                raise MemoryError(words) from error
            raise CardError(f"the ONNX graph fails on an image of shape {image.shape}: {words[:300]}") from error
        if answer.ndim != 4:
            raise CardError(f"the ONNX graph answers an image of shape {image.shape} with shape {answer.shape}")
        made: np.ndarray[Any, Any] = answer
        return made

    def _session(self, kind: str) -> Any:
        """Made when the first chip comes, because only then the device and the number of threads are settled."""
        with self._opening:
            if kind not in self._sessions:
                self._sessions[kind] = _open(self._data, kind)
            return self._sessions[kind]


def _squash_of(given: Mapping[str, Any], n_channels: int) -> tuple[float, Tensor, Tensor]:
    """Gain, and low and high as (C, 1, 1) fp32."""
    if set(given) != {"gain", "low", "high"}:
        raise CardError(f"squash has gain, low and high, got {', '.join(sorted(map(str, given))) or 'nothing'}")
    low, high = (np.asarray(given[name], np.float32) for name in ("low", "high"))
    if not (low.shape == high.shape == (n_channels,) and np.isfinite(low).all() and (high > 0).all()):
        raise CardError(
            f"squash needs a low and a positive high for each of {n_channels} channels, got {low.shape} and {high.shape}"
        )
    return float(given["gain"]), torch.from_numpy(low)[:, None, None], torch.from_numpy(high)[:, None, None]


def _open(data: bytes, kind: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise CardError(
            "this model is an ONNX graph, which onnxruntime computes, and that is not installed: pip install "
            "'earthloom[onnx]' (on a GPU: pip install onnxruntime-gpu)"
        ) from error
    provider = _PROVIDERS[kind]
    if provider not in onnxruntime.get_available_providers():
        raise CardError(
            f"onnxruntime {onnxruntime.__version__} has no {provider} here: install onnxruntime-gpu in the place of "
            "onnxruntime, or use `device=cpu`"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores to others
    try:
        session = onnxruntime.InferenceSession(
            data, options, providers=[(provider, _CUDA_OPTIONS if kind == "cuda" else {})]
        )
    except Exception as error:  # onnxruntime's exceptions have no common class
        raise CardError(f"onnxruntime cannot load the graph: {str(error)[:300]}") from error
    session.disable_fallback()
    return session
