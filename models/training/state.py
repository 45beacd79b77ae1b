"""The state of a training as bytes: safetensors, which is data and never code, with a small document in its header."""

from __future__ import annotations

import json
import struct
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from earthloom.tiling.errors import CardError

_NOTE = "note"


def to_bytes(tensors: dict[str, Tensor], note: dict[str, Any]) -> bytes:
    """Tensors on the CPU and plain values, always the same bytes for the same of both."""
    return save(tensors, metadata={_NOTE: json.dumps(note, sort_keys=True)})


def from_bytes(data: bytes, where: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inverse of `to_bytes`.

    Args:
        where: what the bytes are of, for the message.

    Raises:
        CardError: if they are nothing of the kind.
    """
    try:
        (length,) = struct.unpack("<Q", data[:8])
        note = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_NOTE])
        return load(data), note
    except (SafetensorError, struct.error, ValueError, KeyError, TypeError) as error:
        raise CardError(f"{where} is damaged ({type(error).__name__}: {error}); remove it") from error
