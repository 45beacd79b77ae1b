"""What a committed scene says of itself: `result.json`, the scene's commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.canonical import read_document
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.errors import PublishError


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneResult:
    """A committed scene, as `result.json` says it."""

    scene_id: str
    key: str
    prefix: str
    model: str
    """Name of its collection."""
    files: Mapping[str, StoredObject]
    """By name below the prefix; shards are among them."""
    class_areas: tuple[ClassArea, ...]
    nodata_px: int

    @classmethod
    def from_json(cls, data: bytes, where: str) -> SceneResult:
        """What a `result.json` says.

        Raises:
            PublishError: if it is no result of this version.
        """
        document = read_document(data, where)
        try:
            return cls(
                scene_id=document["scene_id"], key=document["key"], prefix=document["prefix"], model=document["model"],
                files={name: StoredObject(**stored) for name, stored in document["files"].items()},
                class_areas=tuple(document["class_areas"]), nodata_px=document["nodata_px"],
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError) as error:
            raise PublishError(
                f"{where} is damaged ({type(error).__name__}: {error}); remove it and run again"
            ) from error
