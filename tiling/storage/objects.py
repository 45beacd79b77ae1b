"""References to files in object storage, and the stores behind them.

A user's string never reaches GDAL or a store as it is: it is parsed to an `ObjectRef`, checked against the forms we
allow, and every path is rebuilt from its parts. Knows nothing of rasters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.egress import listed_hosts

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BUCKET = re.compile(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """A file or prefix: `file` (bucket empty, key an absolute path without its first slash), `s3`, or `https`/`http`."""

    scheme: str
    bucket: str
    """S3 bucket, or host[:port] of a web server."""
    key: str

    @classmethod
    def parse(cls, text: str) -> ObjectRef:
        """Read a path, `file://`, `s3://bucket/key` or `https://host/key`.

        Plain `http` is only for hosts that the operator lists in EARTHLOOM_HTTP_HOSTS (comma-separated host[:port]).

        Raises:
            ConfigError: for any other form: GDAL's /vsi… paths, connection strings, credentials or queries in URLs,
                `..`, control characters.
        """
        shown = repr(text[:120])
        if not text or _CONTROL.search(text):
            raise ConfigError(f"{shown} is empty or holds control characters")
        if text.lstrip().startswith(("<", "{", "/vsi", "\\")):
            raise ConfigError(f"{shown} is not a file path or URL: give a path, s3://bucket/key or https://host/key")
        scheme, separator, _ = text.partition("://")
        if not separator:
            if re.match(r"^[A-Za-z][A-Za-z0-9_+.-]*:", text):
                raise ConfigError(f"{shown} looks like a GDAL connection string; only files and URLs are read")
            try:
                path = Path(text).expanduser().absolute()
            except RuntimeError:
                raise ConfigError(f"{shown}: there is no such user; write the path out") from None
            return cls("file", "", str(path).lstrip("/"))._checked(shown)
        try:
            url = urlsplit(text)
        except ValueError as error:  # brackets or letters that no host name has
            raise ConfigError(f"{shown} is not a URL: {error}") from None
        scheme = scheme.lower()
        if url.query or url.fragment or "@" in url.netloc:
            raise ConfigError(
                f"{scheme}://{url.hostname or ''}{url.path[:80]} carries a query, fragment or credentials; "
                "give the plain URL and let credentials come from the environment (AWS_* names)"
            )
        if scheme == "file":
            if url.netloc not in ("", "localhost"):
                raise ConfigError(f"{shown}: file URLs have three slashes, file:///path")
            return cls("file", "", unquote(url.path).lstrip("/"))._checked(shown)
        if scheme == "s3":
            if not _BUCKET.match(url.netloc):
                raise ConfigError(f"{shown}: {url.netloc!r} is not a bucket name")
            return cls("s3", url.netloc, url.path.removeprefix("/"))._checked(shown)
        if scheme == "https" or (scheme == "http" and url.netloc.lower() in listed_hosts()):
            return cls(scheme, url.netloc.lower(), unquote(url.path).removeprefix("/"))._checked(shown)
        if scheme == "http":
            raise ConfigError(f"{shown}: plain http is refused; list the host in EARTHLOOM_HTTP_HOSTS to allow it")
        raise ConfigError(f"{shown}: {scheme}:// is not read; use a path, s3:// or https://")

    def _checked(self, shown: str) -> ObjectRef:
        if _CONTROL.search(self.key):  # written as %00 and the like
            raise ConfigError(f"{shown} holds control characters")
        parts = self.key.split("/")
        if ".." in parts or "." in parts or "" in parts[:-1]:
            raise ConfigError(f"{shown} holds '..', '.' or '//' in its path; write it out plainly")
        return self

    @property
    def url(self) -> str:
        """Canonical form, for messages and metadata: a plain path for files."""
        if self.scheme == "file":
            return f"/{self.key}"
        return f"{self.scheme}://{self.bucket}/{self.key if self.scheme == 's3' else quote(self.key)}"

    @property
    def gdal_path(self) -> str:
        """What GDAL opens, rebuilt from the checked parts."""
        if self.scheme == "file":
            return f"/{self.key}"
        return f"/vsis3/{self.bucket}/{self.key}" if self.scheme == "s3" else f"/vsicurl/{self.url}"

    @property
    def path(self) -> Path:
        """The local file.

        Raises:
            ConfigError: if this is not a file.
        """
        if self.scheme != "file":
            raise ConfigError(f"{self.url} is not a local file")
        return Path(f"/{self.key}")

    @property
    def name(self) -> str:
        """Last part of the key."""
        return PurePosixPath(self.key).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.key).stem

    def __truediv__(self, child: str) -> ObjectRef:
        """A key below this prefix; the only way to build one.

        Raises:
            ConfigError: if `child` could leave the prefix.
        """
        key = f"{self.key.rstrip('/')}/{child}".lstrip("/")
        if child.startswith("/") or _CONTROL.search(child):
            raise ConfigError(f"{child!r} is not a key below {self.url}")
        return replace(self, key=key)._checked(repr(child))


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
