"""Weights files: found, fetched, verified and loaded.

Tensors are read from safetensors only, because it is data and never code. A network that is its own file (an ONNX graph,
a TorchScript program) loads that itself, from the bytes that were verified here. Knows nothing of where cards come from
or of what such a file holds. torch is imported only to load.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from earthloom.tiling.cache import cache_folder
from earthloom.tiling.errors import CardError, MissingObjectError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store

if TYPE_CHECKING:
    from torch import Tensor, nn

FILE = "weights.safetensors"
SMP_FILE = "model.safetensors"
"""The name that smp's `save_pretrained` gives."""
ONNX_FILE = "weights.onnx"
TORCHSCRIPT_FILE = "weights.pt"
NAMES = (FILE, SMP_FILE, ONNX_FILE, TORCHSCRIPT_FILE)
"""What the weights of a card folder may be called, the first that is there counts."""

_MAX_BYTES = 16 << 30
_MAX_HEADER_BYTES = 64 << 20
_WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys under which training loops save a state dict among other things."""


@runtime_checkable
class LoadsItself(Protocol):
    """A network whose weights file is the whole network: `models.networks.onnx_net`, `models.networks.torchscript_net`."""

    @property
    def only_px(self) -> int | None:
        """Side of the only chip that it takes; None where it takes any."""

    def load_bytes(self, data: bytes, sha256: str) -> None:
        """Become the network of a file.

        Args:
            data: all of the file, which has the sha256 that the card names.
            sha256: digest of `data`, in lower-case hex.

        Raises:
            CardError: if it is no such file, or must not be loaded here.
        """


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(folder: ObjectRef, sha256: str, cache: Path | None = None, *, spare: ObjectRef | None = None) -> Path:
    """Local path of the weights of a card folder; those in object storage are downloaded once, by sha256.

    Args:
        spare: another folder with the same weights, for a machine on which the first one does not hold them.

    Raises:
        CardError: if the folder holds no weights, or they are not those that the card names.
        StorageError: if the storage fails.
    """
    if folder.scheme == "file":
        path = find(folder.path)
        if path is not None and (spare is None or sha256_of(path) == sha256):
            return path
        if spare is not None:
            return fetch(spare, sha256, cache)
        raise _no_weights(folder, sha256)
    kept = (cache or cache_folder()) / "weights"
    for suffix in dict.fromkeys(Path(name).suffix for name in NAMES):
        target = kept / f"{sha256}{suffix}"
        if target.is_file() and sha256_of(target) == sha256:
            return target
    name, data = _download(folder, sha256)
    _verify(hashlib.sha256(data).hexdigest(), sha256, folder.url)
    target = kept / f"{sha256}{Path(name).suffix}"
    open_store(ObjectRef.parse(str(kept))).put(target.name, data)  # atomic: several workers may fetch at once
    return target


def find(folder: Path) -> Path | None:
    """The weights file of a local folder, None when it holds none."""
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def size_bytes(folder: ObjectRef) -> int:
    """Size of a card folder's weights file, local or not; 0 if it holds none.

    Raises:
        StorageError: if the storage fails.
    """
    store = open_store(folder)
    return next((head.size for head in map(store.head, NAMES) if head is not None), 0)


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """Tensors that a safetensors file declares: name -> {"dtype", "shape", "data_offsets"}. Reads no tensor.

    Raises:
        CardError: if the file is not safetensors, is cut short, or declares more than it holds.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_MAX_HEADER_BYTES, size):
                raise CardError(
                    f"{path} is not a whole safetensors file: its header would take {length} of {size} bytes"
                )
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        declared = max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
        if any(type(length) is not int for tensor in header.values() for length in tensor["shape"]):
            raise ValueError("a shape is no list of whole numbers")
    except OSError as error:
        raise CardError(f"cannot read {path}: {error.strerror or error}") from error
    except (struct.error, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise CardError(f"{path} is not a safetensors file ({error}); only that format is read") from error
    if declared != size - 8 - length or size > _MAX_BYTES:
        raise CardError(
            f"{path} declares {declared} bytes of tensors but holds {size - 8 - length} (at most {_MAX_BYTES} are read); "
            "the file is cut short or damaged: fetch it again"
        )
    return dict(header)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors of a weights file, also where a training loop has wrapped them.

    Args:
        path: safetensors, or what torch saved; a pickle is read by torch's reader that builds nothing but tensors.

    Raises:
        CardError: if it cannot be read, or holds none.
    """
    import torch
    from safetensors.torch import load_file

    if path.suffix.lower() == ".safetensors":
        read_header(path)
        return dict(load_file(path))
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CardError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # a pickle fails in as many ways as there are pickles
        raise CardError(
            f"{path} is no state dict: it holds more than tensors, or is damaged ({type(error).__name__}); only tensors are "
            "read, because anything else in a pickle is code: save it again with torch.save(model.state_dict(), PATH)"
        ) from error
    while isinstance(found, Mapping) and (inside := [n for n in _WRAPPERS if isinstance(found.get(n), Mapping)]):
        found = found[inside[0]]
    named = found if isinstance(found, Mapping) else {}
    tensors = {str(name): value for name, value in named.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise CardError(f"{path} holds no named tensors")
    return tensors


def load_network(module: nn.Module, path: Path, sha256: str) -> None:
    """Verify a weights file and load it: as the network itself where the module is `LoadsItself`, else as its tensors.

    Raises:
        CardError: if the file is not the one the card names, is damaged, does not fit the network or must not be loaded.
    """
    if not isinstance(module, LoadsItself):
        load_into(module, path, sha256)
        return
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CardError(f"{path} has {path.stat().st_size} bytes; at most {_MAX_BYTES} are read")
        data = path.read_bytes()  # verified and loaded from one reading: nothing can be exchanged in between
    except OSError as error:
        raise CardError(f"cannot read the weights {path}: {error.strerror or error}") from error
    _verify(hashlib.sha256(data).hexdigest(), sha256, str(path))
    module.load_bytes(data, sha256)


def load_into(module: nn.Module, path: Path, sha256: str) -> None:
    """Verify the file, then fill the module with exactly its tensors.

    Raises:
        CardError: if the file is not the one the card names, is damaged, or does not fit the network.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        _verify(sha256_of(path), sha256, str(path))
    except OSError as error:
        raise CardError(f"cannot read the weights {path}: {error.strerror or error}") from error
    found = {name: tuple(tensor["shape"]) for name, tensor in read_header(path).items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if found != wanted:
        raise CardError(f"{path} does not fit the card's network: {_differences(found, wanted)}")
    try:
        module.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise CardError(f"{path} does not fit the card's network: {error}") from error
    if not all(bool(torch.isfinite(value).all()) for value in module.state_dict().values()):
        raise CardError(f"{path} holds NaN or infinite weights; the model was saved from a failed training run")


def _download(folder: ObjectRef, sha256: str) -> tuple[str, bytes]:
    store = open_store(folder)
    for name in NAMES:
        try:
            head = store.head(name)
            if head is None:
                continue
            if head.size > _MAX_BYTES:
                raise CardError(f"{(folder / name).url} has {head.size} bytes; at most {_MAX_BYTES} are read")
            return name, store.get(name)
        except MissingObjectError:
            continue
    raise _no_weights(folder, sha256)


def _no_weights(folder: ObjectRef, sha256: str) -> CardError:
    return CardError(
        f"{folder.url} holds neither {FILE} nor {', '.join(NAMES[1:])}, but its card names weights {sha256}"
    )


def _verify(found: str, wanted: str, where: str) -> None:
    if found != wanted:
        raise CardError(
            f"{where}: the weights have sha256 {found} but the card names {wanted}; they were changed or damaged. "
            "Fetch, import or train them again, or write a new card with earthloom models measure"
        )


def _differences(found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> str:
    parts = []
    for words, names in (
        ("missing", sorted(wanted.keys() - found.keys())),
        ("unexpected", sorted(found.keys() - wanted.keys())),
        ("of another shape", sorted(n for n in wanted.keys() & found.keys() if wanted[n] != found[n])),
    ):
        if names:
            shown = ", ".join(
                f"{n} {found.get(n, '')}{' for ' if n in found else ''}{wanted.get(n, '')}" for n in names[:3]
            )
            parts.append(f"{len(names)} {words} ({shown}{', …' if len(names) > 3 else ''})")
    return "; ".join(parts)
