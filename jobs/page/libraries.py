"""The JavaScript libraries that the page uses: pinned by version and digest, fetched from npm, kept in the cache.

None of them is part of Earthloom. Where npm is not at hand the page asks a CDN for the same files, and the browser holds
them against the same digests. Knows nothing of the page.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from earthloom.tiling.cache import cache_folder
from earthloom.tiling.errors import ConfigError, StorageError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store

CDN = "https://cdn.jsdelivr.net/npm/"
_MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Library:
    """One built file of an npm package."""

    package: str
    version: str
    member: str
    """Its path in the package."""
    sha384: str
    """Digest in base64, as browsers take it."""

    @property
    def file(self) -> str:
        """What it is called beside the page: `ol-10.11.0.js`."""
        return f"{self.package}-{self.version}.js"

    @property
    def integrity(self) -> str:
        """Value for the attribute of a script element."""
        return f"sha384-{self.sha384}"

    @property
    def url(self) -> str:
        """URL of the same file at the CDN."""
        return f"{CDN}{self.package}@{self.version}/{self.member}"


LIBRARIES = (
    Library("ol", "10.11.0", "dist/ol.js", "rwbCGPbgxLkcQaFvIra1Vz3KBT1yBeF2/1VgLs/gCCNCJ61GHJGimHpkufVKcqap"),
    Library("geotiff", "3.1.0-beta.0", "dist-browser/geotiff.js",
            "1zUQkdblaGG3/3NVm1wVn2orPiap8NtW7p5+jMNNkjoAEfmGp6yeYqSxFkTkKhqK"),
    Library("proj4", "2.22.0", "dist/proj4.js", "RCBbAm8IhfOOoFV7vqUhspSb+BCSvVSd84WJpv5VMq4rNiXJ88VMHtndxQntlbnd"),
    Library("flatgeobuf", "4.5.0", "dist/flatgeobuf-geojson.min.js",
            "QMZdY4AWS45nPwBRPXiqwU8sQxmxB5sEN2c1/rkhZOz2jzbH2D+wW8Dv/UDBbIIf"),
)  # fmt: skip
"""OpenLayers draws the map (BSD-2) and asks geotiff, in the version that it names, for pixels (MIT); proj4 knows CRSs that
OpenLayers does not (MIT); flatgeobuf reads vectors (BSD-3)."""


def kept(library: Library) -> bytes | None:
    """A library's file from the cache; None if it is not there, or not what it should be."""
    try:
        data = (_folder() / library.file).read_bytes()
    except OSError:
        return None
    return data if _is(library, data) else None


def add() -> None:
    """Fetch what is not in the cache, by `npm pack`, which heeds this machine's registry and proxies.

    Raises:
        ConfigError: if there is no npm, or it cannot fetch.
        StorageError: if what came is not what is pinned; nothing is kept then.
    """
    for library in LIBRARIES:
        if kept(library) is None:
            open_store(ObjectRef.parse(str(_folder()))).put(library.file, _fetched(library))


def _fetched(library: Library) -> bytes:
    npm, name = shutil.which("npm"), f"{library.package}@{library.version}"
    if npm is None:
        raise ConfigError(f"npm is not installed here, and it fetches {name}, which draws the page's map")
    with tempfile.TemporaryDirectory(prefix="earthloom-npm-") as folder:
        command = [npm, "pack", "--ignore-scripts", "--silent", "--pack-destination", folder, name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            cause = (done.stderr.strip() or "no package arrived").splitlines()[-1]
            raise ConfigError(f"cannot fetch {name} from npm: {cause}")
        try:
            with tarfile.open(archives[0]) as archive:
                member = archive.extractfile(f"package/{library.member}")
                data = member.read(_MAX_BYTES) if member else b""
        except (tarfile.TarError, KeyError, OSError) as error:
            raise StorageError(f"{name} as npm sent it cannot be unpacked: {error}") from error
    if not _is(library, data):
        raise StorageError(f"{library.member} of {name} is not the file that Earthloom pins; it is not used")
    return data


def _is(library: Library, data: bytes) -> bool:
    return base64.b64encode(hashlib.sha384(data).digest()).decode() == library.sha384


def _folder() -> Path:
    return cache_folder() / "page"
