"""Failures of storage become this project's errors: what was done, where, why it failed and what would help."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from earthloom.tiling.errors import EarthloomError, MissingObjectError, StorageError
from earthloom.tiling.storage import egress, signatures
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import unsigned

_STATUS = re.compile(r"status code: (\d{3})")
_METADATA = "169.254."
"""Where a cloud's machines ask for the role that they have; where obstore ends when nothing else gave it keys."""
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "; free some space, then run the same command again: it continues"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "; name a folder that this user may write to"),
}
"""What helps where a file on disk could not be written, by the system's error number."""
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
        remedy = _REMEDIES.get(error.errno or 0, "") if verb == "write" else ""
        raise StorageError(f"cannot {verb} {path}: {error.strerror or error}{remedy}") from error


@contextmanager
def remote_errors(ref: ObjectRef, key: str, verb: str) -> Iterator[None]:
    """obstore's errors become ours, with the object's URL and the remedy."""
    from obstore.exceptions import BaseError

    try:
        yield
    except EarthloomError:  # of what was being written
        raise
    except FileNotFoundError as error:
        raise MissingObjectError(f"cannot {verb} {(ref / key).url}: it does not exist") from error
    except (BaseError, PermissionError, OSError) as error:
        if ref.scheme in ("http", "https") and (why := egress.refusal(ref.scheme, ref.bucket)):
            raise StorageError(
                f"cannot {verb} {ref.url}: {why}; name the file's own address, if you trust it"
            ) from error
        denied = type(error).__name__ in _HOPELESS or isinstance(error, PermissionError)
        cause, remedy, hopeless = _lesson(ref, str(error), denied)
        where = (ref / key).url
        raise StorageError(f"cannot {verb} {where}: {cause} ({remedy})", transient=not hopeless) from error


def status_in(text: str) -> int | None:
    """The HTTP status that one of obstore's messages speaks of."""
    found = _STATUS.search(text)
    return int(found[1]) if found else None


def _lesson(ref: ObjectRef, text: str, denied: bool) -> tuple[str, str, bool]:
    """Cause, remedy, and whether to try again is hopeless."""
    cause = re.sub(r"\?\S*", "?…", text.partition("\n")[0])[:300]  # a signed query is a secret
    if ref.scheme in ("http", "https"):
        status = status_in(text)
        if denied or status in (401, 403):
            remedy = (
                f"{ref.bucket} gives this file only to who signs or logs in: list its signed address in "
                f"{signatures.VARIABLE}, or fetch the file yourself and give its path"
            )
            return f"the web server answers {status or 'that it may not be read'}", remedy, True
        return cause, f"is {ref.bucket} reachable from here, and the address right?", denied
    if ref.scheme == "s3":
        if _METADATA in text:
            remedy = (
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or AWS_NO_SIGN_REQUEST=YES if the bucket "
                "is open to everybody"
            )
            return "there are no credentials: no keys, no profile, and this machine has no role", remedy, True
        if "redirect" in text.lower() and "region" in text.lower():
            return f"the bucket {ref.bucket} lies in another region", "set AWS_REGION to the bucket's", True
        if denied and unsigned(os.environ):
            remedy = f"unset AWS_NO_SIGN_REQUEST, which is set, and give credentials, if {ref.bucket} is not open to everybody"
            return cause, remedy, True
        if denied:
            return (
                cause,
                "check the AWS_* credentials and the bucket's policy; AWS_NO_SIGN_REQUEST=YES reads an open one",
                True,
            )
    return cause, "earthloom doctor tests the endpoint", denied
