"""Reading and writing whole objects in a folder, an S3 bucket or a web server, with conditional writes.

A `Store` is opened on one `ObjectRef` and every key is relative to it. `create` and `replace` are the two atomic steps
that publishing is built from: one winner, and nobody ever sees half an object. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from earthloom.tiling.errors import ConfigError, EarthloomError, MissingObjectError, StorageError
from earthloom.tiling.storage import egress
from earthloom.tiling.storage.atomic import PART_BYTES, PARTIAL, locked, sync_folder, written_aside
from earthloom.tiling.storage.objects import ObjectRef

if TYPE_CHECKING:
    from zarr.storage import ObjectStore

_RETRY: Any = {"max_retries": 6, "retry_timeout": timedelta(seconds=300)}  # more than two stalls
_TIMEOUTS: Any = {"timeout": "120s", "connect_timeout": "10s"}
_MOST_PARTS = 9_000  # S3 takes 10,000; the rest is for an estimate that was too small


@dataclass(frozen=True, slots=True)
class Head:
    """What a store says of an object without sending it."""

    key: str
    """Relative to the store's reference."""
    size: int
    etag: str | None
    """Opaque version: equal means unchanged. None for local files."""
    modified_s: float
    """POSIX time of the last write, by the store's own clock."""


class Store(Protocol):
    """Objects below one reference. Every method raises StorageError; `get` raises MissingObjectError for no object."""

    ref: ObjectRef

    def get(self, key: str = "") -> bytes: ...
    def get_versioned(self, key: str = "") -> tuple[bytes, str]:
        """Bytes and the etag that `replace` wants."""
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Part of an object; shorter where the object ends."""
        ...

    def parts(self, key: str) -> Iterator[bytes]:
        """The bytes in pieces of at most 8 MiB, for objects of any size. A writer in between may mix versions."""
        ...

    def head(self, key: str = "") -> Head | None: ...
    def list(self, prefix: str = "") -> Iterator[Head]:
        """Every object below a prefix; those of one folder come one after another."""
        ...

    def leftovers(self) -> Iterator[Head] | None:
        """What writers that died have left behind; None where the store cannot tell."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write, whatever was there; readers see the old object or the new one, never a part."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Write unless the object exists. False when it did."""
        ...

    def replace(self, key: str, data: bytes, etag: str) -> bool:
        """Write only if the object still has `etag`. False when it changed."""
        ...

    def upload(self, key: str, pieces: Iterable[bytes], expected_bytes: int = 0) -> None:
        """Like `put`, of any size in little memory. An error of the pieces is passed on, and nothing is written.

        Args:
            expected_bytes: about how many will come; needed for more than 80 GB, because S3 takes 10,000 parts at most.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; no error when there is none."""
        ...

    def delete_all(self, prefix: str) -> None:
        """Remove every object below a prefix."""
        ...

    def zarr(self, prefix: str, *, read_only: bool = False) -> ObjectStore[Any]:
        """A zarr-python store below this one."""
        ...


def open_store(ref: ObjectRef) -> Store:
    """The store behind a reference; connects lazily."""
    return LocalObjects(ref) if ref.scheme == "file" else RemoteObjects(ref)


class LocalObjects:
    """A folder. Conditional writes are link(2) and flock + rename, which hold on POSIX file systems."""

    def __init__(self, ref: ObjectRef) -> None:
        self.ref = ref

    def _path(self, key: str) -> Path:
        return (self.ref / key).path if key else self.ref.path

    def get(self, key: str = "") -> bytes:
        with _os_errors(self._path(key), "read"):
            return self._path(key).read_bytes()

    def get_versioned(self, key: str = "") -> tuple[bytes, str]:
        data = self.get(key)
        return data, hashlib.sha256(data).hexdigest()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        with _os_errors(self._path(key), "read"), self._path(key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def parts(self, key: str) -> Iterator[bytes]:
        with _os_errors(self._path(key), "read"), self._path(key).open("rb") as file:
            while part := file.read(PART_BYTES):
                yield part

    def head(self, key: str = "") -> Head | None:
        path = self._path(key)
        with _os_errors(path, "look at"), suppress(FileNotFoundError):  # it may go between the two
            return _head_of(key, path) if path.is_file() else None
        return None

    def list(self, prefix: str = "") -> Iterator[Head]:
        return (head for head in self._walk(prefix) if not head.key.endswith(PARTIAL))

    def leftovers(self) -> Iterator[Head] | None:
        return (head for head in self._walk("") if head.key.endswith(PARTIAL))

    def _walk(self, prefix: str) -> Iterator[Head]:
        root = self._path(prefix)
        with _os_errors(root, "list"):
            for folder, subfolders, names in os.walk(root, onerror=_unless_gone):
                subfolders.sort()
                for name in sorted(names):
                    path = Path(folder, name)
                    with suppress(FileNotFoundError):
                        yield _head_of(path.relative_to(self.ref.path).as_posix(), path)

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with _os_errors(path, "write"), written_aside(path, data) as aside:
            aside.replace(path)
            sync_folder(path.parent)

    def create(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        with _os_errors(path, "write"), written_aside(path, data) as aside:
            try:
                path.hardlink_to(aside)
            except FileExistsError:
                return False
            sync_folder(path.parent)
            return True

    def replace(self, key: str, data: bytes, etag: str) -> bool:
        path = self._path(key)
        with _os_errors(path, "write"), locked(path), written_aside(path, data) as aside:
            if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != etag:
                return False
            aside.replace(path)
            sync_folder(path.parent)
            return True

    def upload(self, key: str, pieces: Iterable[bytes], expected_bytes: int = 0) -> None:  # noqa: ARG002 - of buckets
        path = self._path(key)
        with _os_errors(path, "write"), written_aside(path, pieces) as aside:
            aside.replace(path)
            sync_folder(path.parent)

    def delete(self, key: str) -> None:
        with _os_errors(self._path(key), "delete"):
            self._path(key).unlink(missing_ok=True)

    def delete_all(self, prefix: str) -> None:
        path = self._path(prefix)
        with _os_errors(path, "delete"):
            while path.is_dir():
                with suppress(FileNotFoundError):  # somebody else removes it too
                    shutil.rmtree(path)

    def zarr(self, prefix: str, *, read_only: bool = False) -> ObjectStore[Any]:
        from obstore.store import LocalStore

        from earthloom.tiling.storage.zarr_store import NamingStore

        path = self._path(prefix)
        if not read_only:
            with _os_errors(path, "create"):
                path.mkdir(parents=True, exist_ok=True)
        elif not path.is_dir():
            raise MissingObjectError(f"{path} does not exist")
        return NamingStore(
            LocalStore(path), partial(remote_errors, self.ref / prefix, verb="read"), read_only=read_only
        )


class RemoteObjects:
    """S3 (settings and credentials from the environment only) or a web server (reading only), by obstore."""

    def __init__(self, ref: ObjectRef) -> None:
        from obstore.store import HTTPStore

        self.ref = ref
        if ref.scheme == "s3":
            self._store: Any = _bucket(ref.bucket)
        else:
            self._store = HTTPStore(
                f"{ref.scheme}://{ref.bucket}", retry_config=_RETRY, client_options=_TIMEOUTS | web_options(ref)
            )

    def _key(self, key: str) -> str:
        return (self.ref / key).key if key else self.ref.key

    def get(self, key: str = "") -> bytes:
        with remote_errors(self.ref, key, "read"):
            return bytes(self._store.get(self._key(key)).bytes())

    def get_versioned(self, key: str = "") -> tuple[bytes, str]:
        with remote_errors(self.ref, key, "read"):
            answer = self._store.get(self._key(key))
            return bytes(answer.bytes()), str(answer.meta["e_tag"])

    def get_range(self, key: str, start: int, length: int) -> bytes:
        with remote_errors(self.ref, key, "read"):
            return bytes(self._store.get_range(self._key(key), start=start, length=length)) if length else b""

    def parts(self, key: str) -> Iterator[bytes]:
        with remote_errors(self.ref, key, "read"):
            size = self._store.head(self._key(key))["size"]
            for start in range(0, size, PART_BYTES):  # one request each, so that no time-out counts for the whole
                yield bytes(self._store.get_range(self._key(key), start=start, end=min(start + PART_BYTES, size)))

    def head(self, key: str = "") -> Head | None:
        try:
            with remote_errors(self.ref, key, "look at"):
                meta = self._store.head(self._key(key))
        except MissingObjectError:
            return None
        return _head_from(key, meta)

    def list(self, prefix: str = "") -> Iterator[Head]:
        base = f"{self.ref.key.rstrip('/')}/" if self.ref.key else ""
        with remote_errors(self.ref, prefix, "list"):
            for page in self._store.list(prefix=self._key(prefix) or None):
                for meta in page:
                    yield _head_from(meta["path"].removeprefix(base), meta)

    def leftovers(self) -> Iterator[Head] | None:
        return None  # unfinished multipart uploads are in no listing of objects

    def put(self, key: str, data: bytes) -> None:
        with remote_errors(self.ref, key, "write"):
            self._store.put(self._key(key), data, use_multipart=False)

    def create(self, key: str, data: bytes) -> bool:
        from obstore.exceptions import AlreadyExistsError

        with remote_errors(self.ref, key, "write"):
            try:
                self._store.put(self._key(key), data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            return True

    def replace(self, key: str, data: bytes, etag: str) -> bool:
        from obstore.exceptions import NotFoundError, PreconditionError

        with remote_errors(self.ref, key, "write"):
            try:
                self._store.put(self._key(key), data, mode={"e_tag": etag}, use_multipart=False)
            except (PreconditionError, NotFoundError):  # it is another one, or gone
                return False
            return True

    def upload(self, key: str, pieces: Iterable[bytes], expected_bytes: int = 0) -> None:
        part_bytes = PART_BYTES * -(-max(expected_bytes, 1) // (PART_BYTES * _MOST_PARTS))
        first, size, coming = list[bytes](), 0, iter(pieces)
        while size <= PART_BYTES and (piece := next(coming, None)) is not None:
            first.append(piece)
            size += len(piece)
        if size <= PART_BYTES:
            self.put(key, b"".join(first))
            return
        with remote_errors(self.ref, key, "write"):  # multipart, completed once; at most four parts are held
            self._store.put(self._key(key), chain(first, coming), chunk_size=part_bytes, max_concurrency=4)

    def delete(self, key: str) -> None:
        with remote_errors(self.ref, key, "delete"):
            self._store.delete(self._key(key))

    def delete_all(self, prefix: str) -> None:
        with remote_errors(self.ref, prefix, "delete"):
            for page in self._store.list(prefix=self._key(prefix)):
                self._store.delete([meta["path"] for meta in page])

    def zarr(self, prefix: str, *, read_only: bool = False) -> ObjectStore[Any]:
        from earthloom.tiling.storage.zarr_store import NamingStore

        if self.ref.scheme != "s3":
            raise ConfigError(f"{self.ref.url}: outputs go to a folder or s3://, not to a web server")
        errors = partial(remote_errors, self.ref / prefix, verb="read")
        return NamingStore(_bucket(self.ref.bucket, prefix=self._key(prefix)), errors, read_only=read_only)


def web_options(ref: ObjectRef) -> dict[str, Any]:
    """How obstore reaches the web server of a reference: through the gate to its host.

    Raises:
        ConfigError: if the host has a private address and is not listed.
        StorageError: if its name cannot be resolved.
    """
    gate = egress.proxy_for(ref.scheme, ref.bucket)
    return {"allow_http": ref.scheme == "http"} | ({"proxy_url": gate} if gate else {})


def _bucket(name: str, prefix: str | None = None) -> Any:
    """An S3 bucket; endpoint, region and credentials come from the environment."""
    from obstore.store import S3Store

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    client = _TIMEOUTS | {"allow_http": endpoint.startswith("http://")}
    by_host = not endpoint  # buckets are host names only on AWS itself; other servers are addressed by path
    return S3Store(
        name, prefix=prefix, retry_config=_RETRY, client_options=client, virtual_hosted_style_request=by_host
    )  # fmt: skip


def _unless_gone(error: OSError) -> None:
    """A folder that cannot be listed is an error: silence would mean that nothing is in it."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _head_of(key: str, path: Path) -> Head:
    stat = path.stat()
    return Head(key, stat.st_size, None, stat.st_mtime)


def _head_from(key: str, meta: Any) -> Head:
    return Head(key, meta["size"], meta["e_tag"], meta["last_modified"].timestamp())


@contextmanager
def _os_errors(path: Path, verb: str) -> Iterator[None]:
    try:
        yield
    except EarthloomError:  # of what was being written
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and verb != "write":
            raise MissingObjectError(f"cannot {verb} {path}: it does not exist") from error
        raise StorageError(f"cannot {verb} {path}: {error.strerror or error}") from error


_HOPELESS = ("PermissionDeniedError", "UnauthenticatedError", "InvalidPathError", "UnknownConfigurationKeyError")


@contextmanager
def remote_errors(ref: ObjectRef, key: str, verb: str) -> Iterator[None]:
    """obstore's errors become ours, with the object's URL and the remedy."""
    from obstore.exceptions import BaseError

    try:
        yield
    except EarthloomError:  # of what was being written
        raise
    except FileNotFoundError as error:
        raise MissingObjectError(f"cannot {verb} {(ref / key if key else ref).url}: it does not exist") from error
    except (BaseError, PermissionError, OSError) as error:
        if ref.scheme in ("http", "https") and (why := egress.refusal(ref.scheme, ref.bucket)):
            raise StorageError(
                f"cannot {verb} {ref.url}: {why}; name the file's own address, if you trust it"
            ) from error
        name = type(error).__name__
        denied = name in _HOPELESS or isinstance(error, PermissionError)
        remedy = (
            "check the AWS_* credentials and the bucket's policy" if denied else "earthloom doctor tests the endpoint"
        )
        cause = re.sub(r"\?\S*", "?…", str(error).partition("\n")[0])[:300]  # a signed query is a secret
        where = (ref / key if key else ref).url
        raise StorageError(f"cannot {verb} {where}: {cause} ({remedy})", transient=not denied) from error
