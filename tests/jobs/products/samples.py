"""Cards, scenes and items that the tests of this folder share. All made here: no file, no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from earthloom.jobs.products import stac_item
from earthloom.jobs.products.class_map import classes_band, confidence_band
from earthloom.jobs.products.stac_collection import add_to_collection
from earthloom.jobs.products.statistics import class_areas
from earthloom.models.cards.card import ModelCard, ModelClass
from earthloom.tiling.counting import Tally, tally
from earthloom.tiling.grid import Grid, pixel_areas_m2
from earthloom.tiling.scene import Asset, Band, Scene
from earthloom.tiling.storage.objects import ObjectRef

KEY = "0123456789abcdef" * 4
CLASSES = (("shadow", "#3b3f4a"), ("water", "#1f6feb"), ("snow/ice", "#f2f7fb"), ("land", "#8fb569"))

UTM = Grid(crs="EPSG:32612", transform=(30.0, 0.0, 400000.0, 0.0, -30.0, 4500000.0), width=64, height=48)
LONLAT = Grid(crs="EPSG:4326", transform=(2e-4, 0.0, -112.5, 0.0, -2e-4, 41.0), width=64, height=48)
MERCATOR = Grid(crs="EPSG:3857", transform=(30.0, 0.0, -1.25e7, 0.0, -30.0, 5.0e6), width=64, height=48)
WKT = Grid(
    crs='PROJCS["Sinusoidal",GEOGCS["Sphere",DATUM["Sphere",SPHEROID["Sphere",6371007.181,0]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Sinusoidal"],PARAMETER["longitude_of_center",0],'
    'PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1]]',
    transform=(500.0, 0.0, 1.0e6, 0.0, -500.0, 5.0e6),
    width=64,
    height=48,
)


def card(classes: tuple[tuple[str, str], ...] = CLASSES, **changes: Any) -> ModelCard:
    found: dict[str, Any] = {
        "name": "landwater",
        "variant": "6b",
        "title": "Land and water",
        "architecture": "unet",
        "bands": ("red", "nir"),
        "quantities": ("toa_reflectance",),
        "mean": (0.2, 0.3),
        "std": (0.1, 0.1),
        "gsd_m": (10.0, 30.0),
        "classes": tuple(ModelClass(value=i, name=name, color=color) for i, (name, color) in enumerate(classes)),
        "stride_px": 16,
        "halo_px": 96,
        "weights": "a" * 64,
    }
    return ModelCard(**(found | changes))


def scene(grid: Grid = UTM, name: str = "scene-1", datetime: str | None = "2001-07-01T17:30:00Z") -> Scene:
    return Scene(
        id=name,
        grid=grid,
        assets=(Asset(ref=ObjectRef("s3", "bucket", f"in/{name} (1).tif"), identity="etag:x:1"),),
        bands=(Band(name="red", asset=0, index=1, dtype="uint8"), Band(name="nir", asset=0, index=2, dtype="uint8")),
        quantity="toa_reflectance",
        datetime=datetime,
    )


def counted(grid: Grid = UTM) -> Tally:
    """Left half water, right half land, the last row without data."""
    classes = np.full(grid.shape, 1, np.uint8)
    classes[:, grid.width // 2 :] = 3
    classes[-1] = 255
    return tally(classes, np.full(grid.shape, 200, np.uint8), pixel_areas_m2(grid, grid.window), 4)[0]


def item(grid: Grid = UTM, *, key: str = KEY, source_item: str | None = None, **of_scene: Any) -> dict[str, Any]:
    one, found = card(), counted(grid)
    assets = (
        stac_item.AssetInfo(name="classes", href="./classes.tif", media_type=stac_item.COG, roles=("data",), title="Classes",
                       size=1234, sha256="b" * 64, bands=(classes_band(found),), grid=grid),
        stac_item.AssetInfo(name="confidence", href="./confidence.tif", media_type=stac_item.COG, roles=("data",),
                       size=99, sha256="c" * 64, bands=(confidence_band(found),), grid=grid),
        stac_item.AssetInfo(name="data", href="./data.zarr", media_type=stac_item.ZARR, roles=("data",), grid=grid),
        stac_item.AssetInfo(name="quicklook", href="./quicklook.png", media_type="image/png", roles=("overview",)),
    )  # fmt: skip
    return stac_item.item(
        scene=scene(grid, **of_scene),
        product=one.name,
        card=one,
        key=key,
        grid=grid,
        rows=class_areas(found, one),
        assets=assets,
        provenance=stac_item.Provenance(
            software={"torch": "2.13.0", "earthloom": "0.1.0"},
            cards=((one, "s3://models/landwater-6b/card.json"),),
            settings={"halo_px": 96, "core_px": 1024, "overlap": "exact"},
            source_item=source_item,
        ),
    )


def collection_of(entries: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    return add_to_collection(None, name=card().name, card=card(), entries=entries)
