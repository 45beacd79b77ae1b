"""References to files in object storage, and the stores behind them.

A user's string never reaches GDAL or a store as it is: it is parsed to an `ObjectRef`, checked against the forms we
allow, and every path is rebuilt from its parts. Knows nothing of rasters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, quote, unquote, urlsplit

from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage import signatures
from earthloom.tiling.storage.egress import listed_hosts

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
FOREIGN = {"gs": "gcsfs", "az": "adlfs"}
"""Object storage that is read through fsspec, with the package that it needs: files are fetched whole, nothing is written."""

_CONTAINER = re.compile(r"^[a-z0-9$][a-z0-9._-]{1,220}[a-z0-9]$")
_BUCKET = re.compile(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """A file or prefix: `file` (bucket empty, key an absolute path without its first slash), `s3`, `gs`, `az` or `https`."""

    scheme: str
    bucket: str
    """Bucket or container, or host[:port] of a web server."""
    key: str

    @classmethod
    def parse(cls, text: str) -> ObjectRef:
        """Read a path, `file://`, `s3://bucket/key`, `https://host/key`, `gs://bucket/key` or `az://container/key`.

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
        return (cls._of_url if "://" in text else cls._of_path)(text, shown)._checked(shown)

    @classmethod
    def _of_path(cls, text: str, shown: str) -> ObjectRef:
        if re.match(r"^[A-Za-z][A-Za-z0-9_+.-]*:", text):
            raise ConfigError(f"{shown} looks like a GDAL connection string; only files and URLs are read")
        try:
            return cls("file", "", str(Path(text).expanduser().absolute()).lstrip("/"))
        except RuntimeError:
            raise ConfigError(f"{shown}: there is no such user; write the path out") from None

    @classmethod
    def _of_url(cls, text: str, shown: str) -> ObjectRef:
        try:
            url = urlsplit(text)
        except ValueError as error:  # brackets or letters that no host name has
            raise ConfigError(f"{shown} is not a URL: {error}") from None
        scheme, _, rest = text.partition("://")
        scheme, host = scheme.lower(), url.netloc.lower()
        if scheme in ("https", "http") and signatures.query_for(scheme, host, _key(url)):
            url = url._replace(query="")  # the one that is listed is appended when the file is asked for
        if url.query or "@" in url.netloc or (url.fragment and scheme != "s3"):
            remedy = (
                f"a signed address goes whole into the environment variable {signatures.VARIABLE}"
                if scheme in ("https", "http")
                else "credentials come from the environment (AWS_* names)"
            )
            raise ConfigError(
                f"{scheme}://{url.hostname or ''}{url.path[:80]} carries a query, fragment or credentials; give the plain "
                f"address here; {remedy}"
            )
        if scheme == "file":
            if url.netloc not in ("", "localhost"):
                raise ConfigError(f"{shown}: file URLs have three slashes, file:///path")
            return cls("file", "", unquote(url.path).lstrip("/"))
        if scheme == "s3" or scheme in FOREIGN:
            allowed, what = (_BUCKET, "bucket") if scheme == "s3" else (_CONTAINER, "bucket or container")
            if not allowed.match(url.netloc):
                raise ConfigError(f"{shown}: {url.netloc!r} is not a {what} name")
            return cls(scheme, url.netloc, rest.partition("/")[2])
        if scheme == "https" or (scheme == "http" and host in listed_hosts()):
            return cls(scheme, host, _key(url))
        if scheme == "http":
            raise ConfigError(f"{shown}: plain http is refused; list the host in EARTHLOOM_HTTP_HOSTS to allow it")
        raise ConfigError(f"{shown}: {scheme}:// is not read; use a path, s3://, https://, gs:// or az://")

    def _checked(self, shown: str) -> ObjectRef:
        if _CONTROL.search(self.key):  # written as %00 and the like
            raise ConfigError(f"{shown} holds control characters")
        try:
            self.key.encode()
        except UnicodeEncodeError:
            name = printable(f"/{self.key}" if self.scheme == "file" else self.key)
            raise ConfigError(
                f"{name}: this name is not UTF-8, so it cannot be written into catalogues; rename it: "
                "convmv --notest -f latin1 -t utf8 FILE"
            ) from None
        parts = self.key.split("/")
        if "" in parts[:-1] and self.scheme != "file":
            raise ConfigError(
                f"{shown} holds '//' in its path: an empty part, which the libraries under us cannot ask for; "
                "copy the object to a key without it"
            )
        if ".." in parts or "." in parts or "" in parts[:-1]:
            raise ConfigError(f"{shown} holds '..', '.' or '//' in its path; write it out plainly")
        return self

    @property
    def url(self) -> str:
        """Canonical form, for messages and metadata: a plain path for files."""
        if self.scheme == "file":
            return f"/{self.key}"
        return f"{self.scheme}://{self.bucket}/{quote(self.key) if self.scheme in ('http', 'https') else self.key}"

    @property
    def gdal_path(self) -> str:
        """What GDAL opens, rebuilt from the checked parts. A signature that is listed for it is at its end: a secret.

        Raises:
            ConfigError: if it is not read in place.
        """
        if self.scheme == "file":
            return f"/{self.key}"
        if self.scheme == "s3":
            return f"/vsis3/{self.bucket}/{self.key}"
        if self.scheme in FOREIGN:
            raise ConfigError(f"{self.url} is not read in place")
        query = signatures.query_for(self.scheme, self.bucket, self.key)
        return f"/vsicurl/{self.url}" + (f"?{query}" if query else "")

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
        """A key below this prefix, the only way to build one; with an empty `child`, this reference itself.

        Raises:
            ConfigError: if `child` could leave the prefix.
        """
        if not child:
            return self
        key = f"{self.key.rstrip('/')}/{child}".lstrip("/")
        if child.startswith("/") or _CONTROL.search(child):
            raise ConfigError(f"{child!r} is not a key below {self.url}")
        return replace(self, key=key)._checked(repr(child))


def printable(name: str) -> str:
    r"""A file name with `\xfc` for each byte that is not UTF-8; others as they are."""
    return re.sub(r"[\ud800-\udfff]", lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", name)


def _key(url: SplitResult) -> str:
    """Key of a web address, whose path is percent-encoded."""
    return unquote(url.path).removeprefix("/")


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
