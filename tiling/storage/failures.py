"""Failures of storage become this project's errors: what was done, where, why it failed and what would help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from earthloom.tiling.errors import EarthloomError, MissingObjectError, StorageError
from earthloom.tiling.storage import egress
from earthloom.tiling.storage.objects import ObjectRef

_HOPELESS = ("PermissionDeniedError", "UnauthenticatedError", "InvalidPathError", "UnknownConfigurationKeyError")


@contextmanager
def os_errors(path: Path, verb: str) -> Iterator[None]:
    """The system's errors become ours, with the path."""
    try:
        yield
    except EarthloomError:  # of what was being written
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and verb != "write":
            raise MissingObjectError(f"cannot {verb} {path}: it does not exist") from error
        raise StorageError(f"cannot {verb} {path}: {error.strerror or error}") from error


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
