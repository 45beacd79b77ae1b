"""What a committed scene says of itself: `result.json`, the scene's commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.canonical import read_document
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.errors import PublishError


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneResult:
    """A committed scene, as `result.json` says it."""

    summary: SceneSummary
    files: Mapping[str, StoredObject]
    """By name below the prefix; shards are among them."""
    write_id: str
    """Of whoever committed it."""

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
        document = read_document(data, where)
        try:
            write_id = str(document["write_id"])
            files = {name: StoredObject(**stored) for name, stored in document["files"].items()}
            summary = SceneSummary(
                scene_id=document["scene_id"], key=document["key"], prefix=document["prefix"], model=document["model"],
                rasters=tuple(name for name in files if name.endswith(".tif")),
                class_areas=tuple(document["class_areas"]), nodata_px=document["nodata_px"],
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError) as error:
            raise PublishError(
                f"{where} is damaged ({type(error).__name__}: {error}); remove it and run again"
            ) from error
        return cls(summary=summary, files=files, write_id=write_id)
