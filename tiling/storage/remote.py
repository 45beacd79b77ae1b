"""The store in an S3 bucket or on a web server, by obstore.

Settings and credentials of S3 come from the environment only; a web server is only read, and only through the gate.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache, partial
from itertools import chain
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from earthloom.tiling.errors import ConfigError, MissingObjectError, StorageError
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.storage import egress, s3_listing, signatures
from earthloom.tiling.storage.atomic import PART_BYTES
from earthloom.tiling.storage.failures import remote_errors
from earthloom.tiling.storage.objects import Head, ObjectRef
from earthloom.tiling.storage.profiles import read_profile
from earthloom.tiling.storage.settings import signs_itself, unsigned

if TYPE_CHECKING:
    from zarr.storage import ObjectStore

_RETRY: Any = {"max_retries": 6, "retry_timeout": timedelta(seconds=300)}  # more than two stalls
_TIMEOUTS: Any = {"timeout": "120s", "connect_timeout": "10s"}
_FETCH = {"connect_timeout": "10s", "timeout": "3600s"}
_KINDS = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".json": "application/json", ".png": "image/png",
}  # fmt: skip
"""What browsers do with an object follows from its type, not from its name; a script of no type is not run."""
_SETS = re.compile(r"AWS_|(HTTPS?|ALL|NO)_PROXY$", re.IGNORECASE)
"""Variables that decide how a bucket is reached."""
_MOST_PARTS = 9_000  # S3 takes 10,000; the rest is for an estimate that was too small


class RemoteObjects:
    """Objects of an S3 bucket, or of a web server, which is only read."""

    def __init__(self, ref: ObjectRef) -> None:
        self.ref = ref
        self._store: Any = _bucket(ref.bucket) if ref.scheme == "s3" else web_store(ref)

    def _key(self, key: str) -> str:
        return (self.ref / key).key

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
        except StorageError as error:
            if self.ref.scheme != "s3":
                return self._asked_by_get(key)
            if isinstance(error, MissingObjectError):
                return None
            raise
        return _head_from(key, meta)

    def _asked_by_get(self, key: str) -> Head | None:
        """What a web server says of a file when it refuses HEAD, which some call missing or forbidden."""
        try:
            with remote_errors(self.ref, key, "look at"):
                return _head_from(key, self._store.get(self._key(key)).meta)  # the body is left alone
        except MissingObjectError:
            return None

    def in_place(self) -> bool:
        """Whether a web server answers HEAD and ranges, as it must for a file to be read where it is."""
        from obstore.exceptions import BaseError

        try:
            self._store.head(self.ref.key)
            self._store.get_range(self.ref.key, start=0, length=1)
        except (BaseError, OSError):
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[Head]:
        from obstore.exceptions import InvalidPathError

        base, last = f"{self.ref.key.rstrip('/')}/" if self.ref.key else "", ""
        with remote_errors(self.ref, prefix, "list"):
            try:
                for page in self._store.list(prefix=self._key(prefix) or None):
                    for meta in page:
                        last = meta["path"]
                        yield _head_from(last.removeprefix(base), meta)
                return
            except InvalidPathError:  # of one key in the page
                if self.ref.scheme != "s3":
                    raise
        folder = f"{self._key(prefix).rstrip('/')}/".lstrip("/")  # obstore, too, takes whole parts of keys only
        for head in s3_listing.list_keys(self.ref.bucket, folder, last):
            if not head.key.endswith("/"):
                yield replace(head, key=head.key.removeprefix(base))

    def leftovers(self) -> Iterator[Head] | None:
        return None  # unfinished multipart uploads are in no listing of objects

    def put(self, key: str, data: bytes) -> None:
        with remote_errors(self.ref, key, "write"):
            self._store.put(self._key(key), data, use_multipart=False, attributes=_kind(key))

    def create(self, key: str, data: bytes) -> bool:
        from obstore.exceptions import AlreadyExistsError

        with remote_errors(self.ref, key, "write"):
            try:
                self._store.put(self._key(key), data, mode="create", use_multipart=False, attributes=_kind(key))
            except AlreadyExistsError:
                return False
            return True

    def replace(self, key: str, data: bytes, etag: str) -> bool:
        from obstore.exceptions import NotFoundError, PreconditionError

        with remote_errors(self.ref, key, "write"):
            try:
                mode = {"e_tag": etag}
                self._store.put(self._key(key), data, mode=mode, use_multipart=False, attributes=_kind(key))
            except (PreconditionError, NotFoundError):  # it is another one, or gone
                return False
            return True

    def upload(self, key: str, pieces: Iterable[bytes], expected_bytes: int = 0) -> None:
        part_bytes = PART_BYTES * ceil_div(max(expected_bytes, 1), PART_BYTES * _MOST_PARTS)
        first, size, coming = list[bytes](), 0, iter(pieces)
        while size <= PART_BYTES and (piece := next(coming, None)) is not None:
            first.append(piece)
            size += len(piece)
        if size <= PART_BYTES:
            self.put(key, b"".join(first))
            return
        with remote_errors(self.ref, key, "write"):  # multipart, completed once; at most four parts are held
            self._store.put(self._key(key), chain(first, coming), chunk_size=part_bytes, max_concurrency=4)

    def copy(self, source_key: str, target_key: str) -> None:
        with remote_errors(self.ref, source_key, "copy"):
            self._store.copy(self._key(source_key), self._key(target_key))

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


def web_store(ref: ObjectRef, timeouts: Mapping[str, str] | None = None, query: str | None = None) -> Any:
    """obstore's view of the web server of a reference, through the gate to its host, with the file's signature if it has one.

    Args:
        timeouts: in place of those for single requests.
        query: in place of the file's signature.

    Raises:
        ConfigError: if the host has a private address and is not listed.
        StorageError: if its name cannot be resolved.
    """
    from obstore.store import HTTPStore

    gate = egress.proxy_for(ref.scheme, ref.bucket)
    client: Any = (
        dict(timeouts or _TIMEOUTS) | {"allow_http": ref.scheme == "http"} | ({"proxy_url": gate} if gate else {})
    )
    query = signatures.query_for(ref.scheme, ref.bucket, ref.key) if query is None else query
    address = f"{ref.scheme}://{ref.bucket}" + (f"/?{query}" if query else "")  # obstore keeps it at the end
    return HTTPStore(address, retry_config=_RETRY, client_options=client)


def answer(ref: ObjectRef, query: str, most_bytes: int) -> bytes:
    """What a web server answers to a question by GET, through the gate to its host.

    Args:
        query: of the address, percent-encoded, without its question mark.
        most_bytes: that are read.

    Raises:
        StorageError: if it does not answer, refuses, or has more to say than that.
    """
    with remote_errors(ref, "", "ask"):
        pieces, size = list[bytes](), 0
        for piece in web_store(ref, query=query).get(ref.key).stream(min_chunk_size=PART_BYTES):
            pieces.append(bytes(piece))
            size += len(pieces[-1])
            if size > most_bytes:
                raise StorageError(
                    f"{ref.url} answers with more than {most_bytes} bytes; ask for fewer at once: limit=100"
                )
        return b"".join(pieces)


def whole(ref: ObjectRef) -> Iterator[bytes]:
    """All bytes of a web file by one request, in pieces, for servers that give no ranges.

    Raises:
        StorageError: if its server fails or refuses.
    """
    with remote_errors(ref, "", "fetch"):
        yield from web_store(ref, _FETCH).get(ref.key).stream(min_chunk_size=PART_BYTES)


def _bucket(name: str, prefix: str | None = None) -> Any:
    """An S3 bucket; endpoint, region and credentials come from the environment."""
    env = os.environ
    if not (unsigned(env) or signs_itself(env)) and (problem := read_profile(env).problem):
        raise ConfigError(f"s3://{name}: {problem}")
    return _client(name, prefix, tuple(sorted((key, value) for key, value in env.items() if _SETS.match(key))))


@lru_cache(maxsize=16)
def _client(name: str, prefix: str | None, settings: tuple[tuple[str, str], ...]) -> Any:
    """One for each bucket and its settings, so that thousands of small scenes share connections and a role's credentials.

    A new one costs 4.5 ms of a core, a handshake, and a question to whoever gives out a role's credentials.
    """
    from obstore.store import S3Store

    env = dict(settings)
    endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or ""
    client = _TIMEOUTS | {"allow_http": endpoint.startswith("http://")}
    by_host = not endpoint  # buckets are host names only on AWS itself; other servers are addressed by path
    given: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    if env.get("AWS_REQUEST_PAYER", "").lower() == "requester":  # the word that AWS and GDAL use
        given["request_payer"] = True
    return S3Store(
        name, prefix=prefix, retry_config=_RETRY, client_options=client, virtual_hosted_style_request=by_host, **given
    )  # fmt: skip


def _kind(key: str) -> dict[str, str] | None:
    kind = _KINDS.get(PurePosixPath(key).suffix)
    return {"Content-Type": kind} if kind else None


def _head_from(key: str, meta: Any) -> Head:
    return Head(key, meta["size"], meta["e_tag"], meta["last_modified"].timestamp())
