"""What pins the bytes of a file: an ETag and size in object storage, a sha256 on disk.

A scene is planned once and read many times, by many workers; the identity says whether they all read the same bytes.
Knows nothing of rasters.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from earthloom.tiling.cache import cache_folder
from earthloom.tiling.errors import EarthloomError, SceneError, StorageError
from earthloom.tiling.scene import Asset
from earthloom.tiling.storage.objects import FOREIGN, ObjectRef
from earthloom.tiling.storage.remote import RemoteObjects, whole
from earthloom.tiling.storage.store import open_store

_STRONG_ETAG = re.compile(r'^"?([\x21\x23-\x7e]+)"?$')  # RFC 9110, 8.8.3: no quotes or blanks; weak ones are W/"…"
_SETTLED_S = 2.0  # file systems may stamp two writes within this time alike
_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_seen: dict[tuple[int, int, int, int], str] = {}

Memory = tuple[tuple[int, int, int, int], str]
"""Device, inode, time of change in ns and size of a local file, with the sha256 that it had then."""


def pin(ref: ObjectRef) -> Asset:
    """Fix which bytes a reference stands for.

    S3 objects and web files with a strong ETag are pinned where they are. A web file without one could change between
    two range requests unnoticed, so it is fetched once into the cache folder and pinned there; so is one whose server
    refuses HEAD or ranges, and whatever fsspec reads.

    Returns:
        The asset to read; its `ref` is the cached copy's where one was needed.

    Raises:
        SceneError: if there is no such file, or an S3 server gives no ETag.
        StorageError: if the storage does not answer.
    """
    if ref.scheme == "file":
        return Asset(ref=ref, identity=f"sha256:{_sha256_of_file(ref.path)}")
    head = open_store(ref).head()
    if head is None:
        raise SceneError(f"{ref.url} does not exist, or these credentials may not see it; check the spelling")
    strong = _STRONG_ETAG.match(head.etag or "")
    if strong and (ref.scheme == "s3" or (ref.scheme in ("http", "https") and RemoteObjects(ref).in_place())):
        return Asset(ref=ref, identity=f"etag:{strong[1]}:{head.size}")
    if ref.scheme == "s3":
        raise SceneError(
            f"{ref.url}: the server gives the ETag {head.etag!r}, which cannot pin the object's bytes; "
            "copy it to a local file"
        )
    # a server that tells neither says nothing by which yesterday's copy could be known
    version = f"{head.etag} {head.size} {head.modified_s!r}" if head.etag or head.modified_s else None
    return pin(_fetched(ref, version))


def etag(asset: Asset) -> str | None:
    """The strong ETag that pins an asset, without quotes; None for a local file."""
    kind, _, rest = asset.identity.partition(":")
    return rest.rpartition(":")[0] if kind == "etag" else None


def size_bytes(asset: Asset) -> int:
    """Length of the asset's bytes."""
    if asset.ref.scheme == "file":
        return asset.ref.path.stat().st_size
    return int(asset.identity.rpartition(":")[2])


def verify_local(asset: Asset) -> None:
    """Check that a local file is still the one that was pinned. Costs a `stat` when it is.

    Raises:
        SceneError: if its bytes changed, or it is gone.
    """
    found = f"sha256:{_sha256_of_file(asset.ref.path, trust_clock=True)}"
    if found != asset.identity:
        raise SceneError(
            f"{asset.ref.url} changed since it was checked: it was {asset.identity[:19]}… and is {found[:19]}…; "
            "run again when nothing writes to it"
        )


def memory_of(asset: Asset) -> Memory | None:
    """What this process knows of a local file that it pinned, for another process of this machine to `remember`."""
    digest = asset.identity.partition(":")[2]
    return next(((key, known) for key, known in reversed(_seen.items()) if known == digest), None)


def remember(memory: Memory | None) -> None:
    """Take over what the parent process knows, so that a large file is not hashed once more."""
    if memory is not None:
        _seen[memory[0]] = memory[1]


def _sha256_of_file(path: Path, *, trust_clock: bool = False) -> str:
    """sha256 of a file, remembered on disk and in this process.

    Args:
        path: the file.
        trust_clock: believe this process's memory even of a file that was written a moment ago.
    """
    try:
        if path.is_dir():
            raise SceneError(f"{path} is a folder, not a file; end it with / to take every TIFF below it")
        if path.exists() and not path.is_file():
            raise SceneError(f"{path} is not a regular file")  # reading a pipe or a device might never end
        key = _stat_key(path)
        settled = time.time() - key[2] / 1e9 >= _SETTLED_S
        if key in _seen and (settled or trust_clock):
            return _seen[key]
        note = cache_folder() / "hashes" / "-".join(map(str, key))
        digest = _recall(note) if settled else None
        if digest is None:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if _stat_key(path) != key:
                raise SceneError(f"{path} was written to while it was read; run again when it is complete")
    except FileNotFoundError:
        raise SceneError(f"{path} does not exist; check the spelling") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    _seen[key] = digest
    if settled:
        with suppress(StorageError):  # a cache that cannot be written costs time, not correctness
            open_store(_local(note)).put("", digest.encode())
    return digest


def _stat_key(path: Path) -> tuple[int, int, int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_ctime_ns, stat.st_size  # mtime is copied along by cp -p, tar and rsync


def _recall(note: Path) -> str | None:
    try:
        text = note.read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return text if _SHA256.match(text) else None


def _fetched(ref: ObjectRef, version: str | None) -> ObjectRef:
    """The cached copy of a file that is not read in place, fetched unless this version is there; always without a version."""
    folder = cache_folder() / "downloads"
    name = hashlib.sha256(f"{ref.url}\0{version}".encode()).hexdigest()
    target = folder / f"{name}.tif"
    if version and target.is_file():
        return _local(target)
    partial = folder / f"{token_hex(12)}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            for part in open_store(ref).parts("") if ref.scheme in FOREIGN else whole(ref):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        if version is None:  # known by what it holds: a copy that another run reads stays what it is
            with partial.open("rb") as file:
                target = folder / f"{hashlib.file_digest(file, 'sha256').hexdigest()}.tif"
        partial.replace(target)
    except EarthloomError:
        raise
    except OSError as error:
        raise StorageError(
            f"cannot keep {ref.url} in {folder}: {error.strerror or error}; "
            "point EARTHLOOM_CACHE at a folder with space"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return _local(target)


def _local(path: Path) -> ObjectRef:
    return ObjectRef.parse(str(path))
