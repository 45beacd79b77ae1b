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
_MAX_BYTES = 1 << 30
_MAX_MODULES = 20_000


def torchscript_tensors(archive: bytes) -> dict[str, Tensor]:
    """Parameters and buffers by the names that they have in a state dict.

    Raises:
        CardError: if the bytes are no TorchScript archive, are damaged, or hold anything but modules and tensors.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            root = next((n for n in opened.namelist() if n.count("/") == 1 and n.endswith("/data.pkl")), None)
            if root is None:
                raise CardError("not a TorchScript archive: it holds no data.pkl")
            if sum(member.file_size for member in opened.infolist()) > _MAX_BYTES:
                raise CardError(f"the TorchScript archive would unpack to more than {_MAX_BYTES} bytes")
            top = _Reader(opened, root.removesuffix("data.pkl")).load()
    except CardError:
        raise
    except Exception as error:  # a damaged pickle raises whatever the opcode at hand happens to
        raise CardError(f"not a whole TorchScript archive: {type(error).__name__}: {error}") from error
    if not isinstance(top, _Module):
        raise CardError(f"the TorchScript archive holds {type(top).__name__}, not a module")
    return _state(top)


class _Module:
    """A module of the archive: its attributes and nothing it could do."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = dict(state)


class _Reader(pickle._Unpickler):  # the one in Python: C's makes room for whatever place a memo entry claims
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


def _state(top: _Module) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    waiting = [("", top)]
    for _ in range(_MAX_MODULES):
        if not waiting:
            return found
        prefix, module = waiting.pop()
        for name, value in getattr(module, "attributes", {}).items():
            if isinstance(value, Tensor):
                found[prefix + name] = value
            elif isinstance(value, _Module):
                waiting.append((f"{prefix}{name}.", value))
    raise CardError(f"the TorchScript archive has more than {_MAX_MODULES} modules, or one that contains itself")
