"""A metadata file and the files around it; what is said of each of those. Opens no raster.

Names that metadata give are not trusted: each becomes a key below the folder, or is refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import PurePosixPath

from earthloom.jobs.intake.stac_assets import LostAsset, StacAsset, StacBand
from earthloom.tiling.errors import EarthloomError, SceneError
from earthloom.tiling.scene import Driver
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store

MAX_BYTES = 8 * 2**20
"""Largest size of a metadata file that is read; those of Landsat have 30 kB, those of Sentinel-2 100 kB."""

_NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_DIGITS = 64
_UNNAMABLE = re.compile(r"[^A-Za-z0-9_.-]+")
_FILE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,200}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A metadata file that was found, and what lies around it."""

    folder: ObjectRef
    """The folder or prefix that was looked through."""
    key: str
    """Key of the metadata file, relative to it."""
    keys: frozenset[str] | None
    """Keys of all files below the folder; None if they cannot be listed."""

    @property
    def name(self) -> str:
        """Name of the metadata file."""
        return PurePosixPath(self.key).name

    @property
    def base(self) -> str:
        """Folder of the metadata file, relative to the one that was looked through; empty or ending in /."""
        head, slash, _ = self.key.rpartition("/")
        return head + slash

    @property
    def url(self) -> str:
        """URL of the metadata file."""
        return f"{self.folder.url}/{self.key}"

    def read(self) -> bytes:
        """The metadata.

        Raises:
            SceneError: if there are more bytes of them than any provider writes.
            StorageError: if they cannot be read.
        """
        store = open_store(self.folder / self.key)
        head = store.head()
        if head is None:
            raise SceneError(f"{self.url} does not exist; check the spelling")
        data = store.get() if head.size <= MAX_BYTES else b""
        if max(head.size, len(data)) > MAX_BYTES:
            raise SceneError(f"{self.name} has {head.size} bytes; metadata of at most {MAX_BYTES} bytes are read")
        return data

    def beside(self, name: str) -> Delivery:
        """Another file of metadata in the same folder."""
        return replace(self, key=self.base + name)

    def has(self, path: str) -> bool:
        """Whether a file lies at a path relative to the metadata file, as far as that can be seen."""
        return self.keys is None or self.base + path in self.keys


@dataclass(slots=True)
class Contents:
    """The files of an acquisition as they are found in its metadata, one after the other."""

    delivery: Delivery
    assets: list[StacAsset] = field(default_factory=list)
    lost: list[LostAsset] = field(default_factory=list)

    def add(
        self, key: str, path: str, bands: tuple[StacBand, ...], driver: Driver = "GTiff", problem: str = ""
    ) -> None:
        """Take a file that the metadata name.

        Args:
            key: what it is called among the acquisition's files.
            path: relative to the metadata file.
            problem: why it cannot be used, where the metadata do not say enough of it.
        """
        delivery, key = self.delivery, _UNNAMABLE.sub("-", key)[:64]
        try:
            if not all(_FILE_NAME.match(part) for part in path.split("/")):
                raise SceneError(f"{delivery.name} names the file {path[:80]!r}, which is no name of a file")
            if problem:
                raise SceneError(problem)
            ref = delivery.folder / (delivery.base + path)
            if not delivery.has(path):
                raise SceneError(
                    f"{delivery.name} names the file {path}, which is not there; fetch it from the provider"
                )
            self.assets.append(StacAsset(key=key, ref=ref, bands=bands, driver=driver))
        except EarthloomError as error:
            self.lost.append(LostAsset(key=key, bands=bands, problem=str(error)))


def number(text: str | None) -> float | None:
    """A finite decimal number in metadata, or None for anything else."""
    if text is None or len(text) > _DIGITS or not _NUMBER.match(text.strip()):
        return None
    found = float(text)
    return found if math.isfinite(found) else None


def is_scaling(scale: float | None, offset: float | None) -> bool:
    """Whether numbers of metadata can lead from stored whole numbers to reflectance."""
    return scale is not None and 0 < scale < 1 and offset is not None and abs(offset) < 10


def day(text: str) -> str | None:
    """A date as it is written, if it is one."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return None
