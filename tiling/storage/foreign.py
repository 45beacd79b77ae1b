"""The store in a bucket of Google Cloud Storage or a container of Azure, by fsspec: read, never written.

Each needs a package that is not installed with Earthloom; credentials are those that this package finds in its environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NoReturn

from earthloom.tiling.errors import ConfigError, EarthloomError, MissingObjectError, StorageError
from earthloom.tiling.storage.atomic import PART_BYTES
from earthloom.tiling.storage.objects import FOREIGN, Head, ObjectRef

_VERSIONS = ("etag", "ETag", "generation", "md5Hash", "content_md5")
"""How the file systems of fsspec call what changes when the bytes do."""


class ForeignObjects:
    """Objects that are only read. The first request raises a ConfigError if the package is not installed."""

    def __init__(self, ref: ObjectRef) -> None:
        self.ref = ref

    def _path(self, key: str) -> str:
        ref = self.ref / key
        return f"{ref.bucket}/{ref.key}"

    def get(self, key: str = "") -> bytes:
        return b"".join(self.parts(key))

    def get_versioned(self, key: str = "") -> tuple[bytes, str]:
        head = self.head(key)
        if head is None:
            raise MissingObjectError(f"cannot read {self.ref.scheme}://{self._path(key)}: it does not exist")
        return self.get(key), head.etag or ""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        with self._errors(key, "read"):
            return bytes(self._files().cat_file(self._path(key), start=start, end=start + length)) if length else b""

    def parts(self, key: str) -> Iterator[bytes]:
        with self._errors(key, "read"), self._files().open(self._path(key), "rb") as file:
            while part := file.read(PART_BYTES):
                yield part

    def head(self, key: str = "") -> Head | None:
        try:
            with self._errors(key, "look at"):
                info = self._files().info(self._path(key))
                return None if info.get("type") == "directory" else _head(key, info)
        except MissingObjectError:
            return None

    def list(self, prefix: str = "") -> Iterator[Head]:
        base = f"{self._path('').rstrip('/')}/"
        with self._errors(prefix, "list"):
            for path, info in sorted(self._files().find(self._path(prefix), detail=True).items()):
                yield _head(str(path).lstrip("/").removeprefix(base), info)

    def leftovers(self) -> Iterator[Head] | None:
        return None

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise ConfigError(f"{self.ref.url}: outputs go to a folder or s3://; {self.ref.scheme}:// is only read")

    put = create = replace = upload = copy = delete = delete_all = zarr = _refuse

    def _files(self) -> Any:
        import fsspec

        try:
            return fsspec.filesystem(self.ref.scheme)
        except ImportError as error:
            package = FOREIGN[self.ref.scheme]
            raise ConfigError(
                f"{self.ref.url}: {self.ref.scheme}:// needs a package that is not installed: pip install {package}; or copy "
                "the file to a folder or to s3://"
            ) from error

    @contextmanager
    def _errors(self, key: str, verb: str) -> Iterator[None]:
        """Whatever those packages raise, of which there is no list, becomes ours."""
        try:
            yield
        except EarthloomError:
            raise
        except FileNotFoundError as error:
            raise MissingObjectError(f"cannot {verb} {(self.ref / key).url}: it does not exist") from error
        except Exception as error:
            cause = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            package = FOREIGN[self.ref.scheme]
            raise StorageError(
                f"cannot {verb} {(self.ref / key).url}: {cause} (the package {package} finds "
                "credentials in its own variables and files)", transient=not isinstance(error, PermissionError),
            ) from error  # fmt: skip


def _head(key: str, info: dict[str, Any]) -> Head:
    version = next((str(info[name]) for name in _VERSIONS if info.get(name)), None)
    times = (info.get(name) for name in ("mtime", "last_modified", "updated", "LastModified", "created"))
    when = next((value for value in times if isinstance(value, datetime)), None)
    return Head(key, int(info["size"] or 0), version, when.timestamp() if when else 0.0)
