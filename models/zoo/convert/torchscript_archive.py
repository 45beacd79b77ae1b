"""The tensors of a TorchScript archive, read as data: none of the program inside it is compiled or run.

Such an archive is a zip. `data.pkl` is a pickle of the module's attributes, in which tensors point to raw storages under
`data/`; `code/` holds the program, which is not opened. The pickle is read by an unpickler that knows a tensor, a
dictionary and a bare module and refuses every other name, so that no pickle can call anything. Knows nothing of models.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from earthloom.tiling.errors import CardError

_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}
_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")


def torchscript_tensors(archive: bytes) -> dict[str, Tensor]:
    """Parameters and buffers by the names that they have in a state dict.

    Raises:
        CardError: if the archive holds anything but modules and tensors.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        root = next(name for name in opened.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
        return dict(_tensors(_Reader(opened, root.removesuffix("data.pkl")).load()))


class _Module:
    """A module of the archive: its attributes and nothing it could do."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = dict(state)


class _Reader(pickle.Unpickler):
    """Reads `data.pkl`; a name that is not listed here ends the reading."""

    def __init__(self, opened: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(opened.read(f"{root}data.pkl")))
        self._opened, self._root = opened, root

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__."):  # whatever the class: only its attributes are wanted
            return _Module
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch.jit._pickle" and name in _LISTS:
            return list
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise CardError(f"the TorchScript archive asks for {module}.{name}; only modules and tensors are read")

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, _location, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not str(key).isdecimal():
            raise CardError(f"the TorchScript archive points to {kind} {key}; only its own storages are read")
        data = bytearray(self._opened.read(f"{self._root}data/{key}"))
        if len(data) != count * dtype.itemsize:
            raise CardError(f"storage {key} of the TorchScript archive has {len(data)} bytes for {count} x {dtype}")
        return torch.frombuffer(data, dtype=dtype) if count else torch.empty(0, dtype=dtype)


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return torch.as_strided(storage, size, stride, offset)  # refuses to reach past the storage


def _tensors(module: _Module, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in getattr(module, "attributes", {}).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
