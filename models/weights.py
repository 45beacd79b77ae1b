"""Weights files: found, fetched, verified and loaded. Only safetensors is read, because it is data and never code.

Knows nothing of where cards come from. torch is imported only to load.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiling.errors import CardError, MissingObjectError
from tiling.objects import ObjectRef
from tiling.store import open_store

if TYPE_CHECKING:
    from torch import nn

FILE = "weights.safetensors"
SMP_FILE = "model.safetensors"
"""The name that smp's `save_pretrained` gives."""

_MAX_BYTES = 16 << 30
_MAX_HEADER_BYTES = 64 << 20


def cache_dir() -> Path:
    """Where fetched models live: EARTHLOOM_CACHE, else ~/.cache/earthloom."""
    return Path(os.environ.get("EARTHLOOM_CACHE") or Path.home() / ".cache" / "earthloom").expanduser().absolute()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(folder: ObjectRef, sha256: str, cache: Path | None = None) -> Path:
    """Local path of the weights of a card folder; those in object storage are downloaded once, by sha256.

    Raises:
        CardError: if the folder holds no weights, or they are not those that the card names.
        StorageError: if the storage fails.
    """
    if folder.scheme == "file":
        for name in (FILE, SMP_FILE):
            if (path := folder.path / name).is_file():
                return path
        raise CardError(f"{folder.url} holds neither {FILE} nor {SMP_FILE}, but its card names weights {sha256}")
    target = (cache or cache_dir()) / "weights" / f"{sha256}.safetensors"
    if target.is_file() and sha256_of(target) == sha256:
        return target
    data = _download(folder, sha256)
    _verify(hashlib.sha256(data).hexdigest(), sha256, folder.url)
    open_store(ObjectRef.parse(str(target.parent))).put(target.name, data)  # atomic: several workers may fetch at once
    return target


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


def _download(folder: ObjectRef, sha256: str) -> bytes:
    store = open_store(folder)
    for name in (FILE, SMP_FILE):
        try:
            head = store.head(name)
            if head is None:
                continue
            if head.size > _MAX_BYTES:
                raise CardError(f"{(folder / name).url} has {head.size} bytes; at most {_MAX_BYTES} are read")
            return store.get(name)
        except MissingObjectError:
            continue
    raise CardError(f"{folder.url} holds neither {FILE} nor {SMP_FILE}, but its card names weights {sha256}")


def _verify(found: str, wanted: str, where: str) -> None:
    if found != wanted:
        raise CardError(
            f"{where}: the weights have sha256 {found} but the card names {wanted}; they were changed or damaged. "
            "Fetch them again, or write a new card with earthloom models measure"
        )


def _differences(found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> str:
    told = []
    for words, names in (
        ("missing", sorted(wanted.keys() - found.keys())),
        ("unexpected", sorted(found.keys() - wanted.keys())),
        ("of another shape", sorted(n for n in wanted.keys() & found.keys() if wanted[n] != found[n])),
    ):
        if names:
            shown = ", ".join(
                f"{n} {found.get(n, '')}{' for ' if n in found else ''}{wanted.get(n, '')}" for n in names[:3]
            )
            told.append(f"{len(names)} {words} ({shown}{', …' if len(names) > 3 else ''})")
    return "; ".join(told)
