"""A network that is a program: TorchScript, or a `torch.export` archive (.pt2). It runs only where an operator trusts it.

Such a file is code. It can read files, fill memory or never end, and nothing inspects that. So it is loaded only when its
sha256 is in the environment variable EARTHLOOM_TRUST_CODE of the process that runs it: neither a card, nor a config, nor
a folder in object storage can set that. Knows nothing of chips.

It computes in fp32 whatever the precision asked for, because traced programs hold constants of their own precision, and
one image at a time, because torch picks other kernels for other batch sizes.
"""

from __future__ import annotations

import io
import os
import zipfile
from typing import Any

import torch
from torch import Tensor, nn

from earthloom.tiling.errors import CardError

TRUST = "EARTHLOOM_TRUST_CODE"
"""sha256 digests, separated by commas."""


class TorchscriptNet(nn.Module):
    """(N, C, H, W) to (N, K, H, W).

    Args:
        in_channels, classes: C and K, checked on the answers.
    """

    def __init__(self, *, in_channels: int, classes: int) -> None:
        super().__init__()
        self.in_channels, self.classes = in_channels, classes
        self._programs: dict[str, Any] = {}  # by device; hidden in a dict, so that nobody casts its parameters
        self._data = b""

    @property
    def only_px(self) -> int | None:
        """See `models.cards.weights.LoadsItself`; a program does not say."""
        return None

    def load_bytes(self, data: bytes, sha256: str) -> None:
        """Take a program (`models.cards.weights.LoadsItself`).

        Raises:
            CardError: if nobody vouched for it, or it is no such program.
        """
        if sha256 not in trusted():
            raise CardError(
                f"this model is a program (TorchScript), which could do anything on this machine; it is not in {TRUST}. If "
                f"you know where it comes from, set {TRUST}={sha256} for every worker; else have it exported as ONNX or "
                "as a state dict"
            )
        self._data = data
        self._programs = {"cpu": _load(data, "cpu")}

    def forward(self, x: Tensor) -> Tensor:
        """Logits, or what else the program gives, in fp32.

        Raises:
            CardError: if its answer is not one tensor.
        """
        if not self._data:
            raise CardError("a TorchScript network has no weights of its own: its card must name them")
        if x.requires_grad:
            raise CardError(
                "the inside of a TorchScript program cannot be measured; give `halo` when it is imported, or leave it "
                "out and its chips are blended"
            )
        kind = x.device.type
        if kind not in self._programs:
            self._programs[kind] = _load(self._data, kind)
        answers = [self._programs[kind](image[None].contiguous()) for image in x.float()]
        if not all(isinstance(answer, Tensor) for answer in answers):
            raise CardError(f"the program answers with {type(answers[0]).__name__}; one tensor of logits is needed")
        return torch.cat(answers)


def trusted() -> frozenset[str]:
    """Digests of the programs that the operator of this process vouches for."""
    return frozenset(word.strip().lower() for word in os.environ.get(TRUST, "").split(",") if word.strip())


def _load(data: bytes, kind: str) -> Any:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            is_script = any(name.split("/")[1:2] == ["code"] for name in opened.namelist())
        if is_script:
            load: Any = torch.jit.load  # torch gives it no types
            return load(io.BytesIO(data), map_location=kind).eval()
        program = torch.export.load(io.BytesIO(data))
        if kind != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, kind)
        return program.module()
    except Exception as error:  # loading a program fails in as many ways as there are programs
        raise CardError(
            f"not a TorchScript or torch.export archive that torch {torch.__version__} reads: {error}"
        ) from error
