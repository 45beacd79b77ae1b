"""What a committed scene says of itself: `result.json`, the scene's commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.canonical import read_document
from earthloom.jobs.records.names import RESULT
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.errors import PublishError
from earthloom.tiling.scene import DatedBy
from earthloom.tiling.storage.store import Store

_TABLES = (".parquet", ".fgb")
_BY = {
    "option": "the user", "year": "the user, who knows the year", "month": "the user, who knows the month",
    "item": "its metadata", "name": "its name", "tag": "TIFFTAG_DATETIME", None: "nobody",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedDate:
    """When a published scene was taken, and how that is known."""

    datetime: str | None
    """RFC 3339 in UTC."""
    dated_by: DatedBy

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> PublishedDate:
        return cls(datetime=document["datetime"], dated_by=document["dated_by"])

    def to_dict(self) -> dict[str, str | None]:
        return {"datetime": self.datetime, "dated_by": self.dated_by}

    def describe(self) -> str:
        """`2020-07-31T18:04:00Z by the STAC item`."""
        return f"{self.datetime} by {_BY[self.dated_by]}" if self.datetime else "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneSummary:
    """What a run remembers of a committed scene; small, whatever the size of the scene."""

    scene_id: str
    key: str
    prefix: str
    model: str
    """Name of its collection."""
    rasters: tuple[str, ...]
    """Names of its GeoTIFFs, below the prefix."""
    class_areas: tuple[ClassArea, ...]
    nodata_px: int
    tables: tuple[str, ...] = ()
    """Names of its tables of objects, below the prefix."""
    objects: Mapping[str, int] = field(default_factory=dict)
    """Objects by class, where the result has some."""
    date: PublishedDate | None = None
    """None where the result was published by a version that did not say it."""
    correcting: bool = False
    """Whether a correction of its date was begun, and the catalogue may not know of it yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneResult:
    """A committed scene, as `result.json` says it."""

    summary: SceneSummary
    files: Mapping[str, StoredObject]
    """Files by name below the prefix; shards are among them."""
    write_id: str
    """Write id of whoever committed it."""
    former_items: tuple[StoredObject, ...] = ()
    """What `item.json` may still be, while a correction is not finished."""
    committed_s: float | None = None
    """When it was committed, POSIX time, where a correction has rewritten it since."""

    @property
    def model(self) -> str:
        """Name of its collection."""
        return self.summary.model

    @classmethod
    def from_json(cls, data: bytes, where: str) -> SceneResult:
        """What a `result.json` says.

        Raises:
            PublishError: if it is no result of this version.
        """
        return cls.from_document(read_document(data, where), where)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], where: str) -> SceneResult:
        """What a `result.json` says that is read already."""
        try:
            write_id = str(document["write_id"])
            files = {name: StoredObject(**stored) for name, stored in document["files"].items()}
            correcting = document.get("correcting")
            former = tuple(StoredObject(**stored) for stored in correcting["items"]) if correcting else ()
            summary = SceneSummary(
                scene_id=document["scene_id"], key=document["key"], prefix=document["prefix"], model=document["model"],
                rasters=tuple(name for name in files if name.endswith(".tif")),
                tables=tuple(name for name in files if name.endswith(_TABLES)),
                class_areas=tuple(document["class_areas"]), nodata_px=document["nodata_px"],
                objects=document.get("objects", {}),
                date=PublishedDate.from_dict(document) if "datetime" in document else None, correcting=bool(correcting),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError) as error:
            raise PublishError(
                f"{where} is damaged ({type(error).__name__}: {error}); remove it and run again"
            ) from error
        return cls(
            summary=summary, files=files, write_id=write_id, former_items=former, committed_s=document.get("committed_s")
        )  # fmt: skip


def committed_s(store: Store, prefix: str) -> float | None:
    """When a result was committed, POSIX time; None where there is none. A correction of its date has rewritten its
    `result.json`, which then says when it was first there.

    Raises:
        PublishError: if it is no result of this version.
    """
    key = f"{prefix}/{RESULT}"
    head = store.head(key)
    if head is None:
        return None
    result = SceneResult.from_json(store.get(key), f"{store.ref.url}/{key}")
    return head.modified_s if result.committed_s is None else result.committed_s
