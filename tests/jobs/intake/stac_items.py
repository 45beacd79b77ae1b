"""STAC items written for tests, and what a run takes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import OpenedScene, assign_ids, expand, open_scene
from earthloom.jobs.intake.stac import StacItem, read_items
from earthloom.jobs.intake.wanted import Wanted
from earthloom.models.zoo import ZOO
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.storage.objects import ObjectRef
from tests.scenes import landscape, write_scene

TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"


INSPECTORS = Disposables()  # its child goes with this process


def band(name: str | None = None, common: str | None = None, **more: Any) -> dict[str, Any]:
    """A band of STAC 1.0's `eo:bands`."""
    return {**({"name": name} if name else {}), **({"common_name": common} if common else {}), **more}


def save(folder: Path, assets: dict[str, dict[str, Any]], item_id: str = "x", **properties: Any) -> Path:
    """Write an item of STAC 1.0 whose assets are TIFFs with data unless they say otherwise."""
    whole = {key: {"type": TIFF, "roles": ["data"], **asset} for key, asset in assets.items()}
    item: dict[str, Any] = {
        "type": "Feature", "stac_version": "1.0.0", "id": item_id, "geometry": None, "links": [],
        "properties": {"datetime": "2024-01-01T16:00:00Z", **properties}, "assets": whole,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "item.json"
    path.write_text(json.dumps(item))
    return path


def files(folder: Path, *names: str, **options: Any) -> dict[str, dict[str, Any]]:
    """Files of one band, each an asset of its name."""
    for name in names:
        write_scene(folder / f"{name}.tif", landscape(64, 64, 1), **{"nodata": 0, **options})
    return {name: {"href": f"./{name}.tif"} for name in names}


def wanted(*models: str) -> Wanted:
    return Wanted.by([ZOO[name].cards for name in models])


def opened(path: Path, *models: str, **options: Any) -> OpenedScene:
    (request,) = assign_ids(expand([str(path)], options.get("alternate")))
    return open_scene(request, SceneOptions(**options), INSPECTORS, models=wanted(*models) if models else None)


def names(scene: OpenedScene) -> list[str]:
    return [one.name for one in scene.scene.bands]


def one(path: Path) -> StacItem:
    (item,) = read_items(ObjectRef.parse(str(path)))
    return item
