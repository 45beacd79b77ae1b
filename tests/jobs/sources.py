"""Scenes opened as a run opens them, from files and STAC items written for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import OpenedScene, expand, open_scene
from earthloom.tiling.reading.sandbox import Disposables
from tests.scenes import landscape, write_scene


def make(
    path: Path, count: int = 1, names: tuple[str | None, ...] | None = None, side: int = 64, **options: Any
) -> Path:
    return write_scene(path, landscape(side, side, count), names, **{"nodata": 0, **options})


INSPECTORS = Disposables()  # its child goes with this process


def opened(reference: str | Path, **options: Any) -> OpenedScene:
    (request,) = expand([str(reference)])
    if "://" not in str(reference):
        return open_scene(request, SceneOptions(**options), INSPECTORS)
    with Disposables() as fresh:  # a child keeps the settings of its start
        return open_scene(request, SceneOptions(**options), fresh)


def names(scene: OpenedScene) -> list[str]:
    return [band.name for band in scene.scene.bands]


def scaling(scene: OpenedScene) -> list[tuple[float, float]]:
    return [(band.scale, band.offset) for band in scene.scene.bands]


def stac_item(
    path: Path, item_id: str, properties: dict[str, Any] | None = None, *, scale: float | None = None,
    offset: float | None = None, nodata: float | None = None, **assets: list[str | None],
) -> None:  # fmt: skip
    """Write an item; each asset is [href, common name of each band…]."""
    values = {"raster:scale": scale, "raster:offset": offset, "nodata": nodata}
    output = {name: value for name, value in values.items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            {
                "type": "Feature", "stac_version": "1.1.0", "id": item_id, "geometry": None, "links": [],
                "properties": {"datetime": "2024-05-01T10:00:00Z", **(properties or {})},
                "assets": {
                    key: {"href": href, "type": "image/tiff; application=geotiff", "roles": ["data"],
                          "bands": [{**output, **({"eo:common_name": name} if name else {})} for name in bands]}
                    for key, (href, *bands) in assets.items()
                },
            }
        )
    )  # fmt: skip
