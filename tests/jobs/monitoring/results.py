"""Committed results made from arrays, as a run would have published them, and a pool that does tasks at once."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from earthloom.cluster.outcome import Done, Failed, Fault, Outcome
from earthloom.jobs.config import EngineOptions
from earthloom.jobs.monitoring.pool import Pool
from earthloom.jobs.monitoring.worker import MonitorTask
from earthloom.jobs.products import stac_item
from earthloom.jobs.products.class_map import classes_band, confidence_band
from earthloom.jobs.products.item_table import items_parquet, read_items
from earthloom.jobs.products.statistics import class_areas, count_classes
from earthloom.jobs.records.canonical import canonical
from earthloom.models.cards.card import ModelCard, ModelClass
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.errors import EarthloomError, MissingObjectError
from earthloom.tiling.grid import Grid
from earthloom.tiling.scene import Asset, Band, Scene
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store

LAND_WATER = ("land", "water")
_COLORS = ("#b59f6b", "#1f78b4", "#e31a1c", "#6a3d9a")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A result that may be committed to any OUT."""

    product: str
    prefix: str
    item: Mapping[str, Any]
    objects: Mapping[str, bytes]
    """By key below OUT."""

    def commit(self, store: Store, *files: Store) -> None:
        """Publish it: its objects, its commit, then its row in the table.

        Args:
            files: other stores that its rasters go to as well.
        """
        for key, data in self.objects.items():
            store.put(key, data)
            for other in files:
                if key.endswith(".tif"):
                    other.put(key, data)
        enter(store, self)

    def withdraw(self, store: Store) -> None:
        """Take it out of the table, as `earthloom gc --superseded` does, and away."""
        key = f"collections/{self.product}/items.parquet"
        left = [item for item in read_items(store.get(key)) if item["id"] != self.item["id"]]
        store.put(key, items_parquet(left)) if left else store.delete(key)
        store.delete_all(self.prefix)


def enter(store: Store, *results: Result) -> None:
    """Put results into their product's table."""
    key = f"collections/{results[0].product}/items.parquet"
    try:
        known = {item["id"]: item for item in read_items(store.get(key))}
    except MissingObjectError:
        known = {}
    store.put(key, items_parquet([*(known | {result.item["id"]: dict(result.item) for result in results}).values()]))


def class_result(
    scene_id: str, moment: str | None, grid: Grid, classes: NDArray[np.uint8], confidence: NDArray[np.uint8],
    *, product: str = "landwater", names: Sequence[str] = LAND_WATER, version: str = "1.0.0",
) -> Result:  # fmt: skip
    """A class map, (h, w) classes and confidence with nodata 255."""
    card = _card(product, version, classes=tuple(
        ModelClass(value=value, name=name, color=_COLORS[value]) for value, name in enumerate(names)
    ))  # fmt: skip
    tally, _ = count_classes(grid, grid.window, classes, confidence, len(names))
    rasters = {
        "classes": (f"{product}.tif", classes[None], 255.0, [classes_band(tally)]),
        "confidence": (f"{product}-confidence.tif", confidence[None], 255.0, [confidence_band(tally)]),
    }
    return _result(scene_id, moment, grid, card, rasters, class_areas(tally, card))


def image_result(
    scene_id: str, moment: str | None, grid: Grid, bands: Mapping[str, NDArray[Any]], *, product: str = "ndvi",
    nodata: float = 0.0, scale: float = 1e-4,
) -> Result:  # fmt: skip
    """An image, (h, w) by band."""
    pixels = np.stack(list(bands.values()))
    infos = [
        stac_item.BandInfo(
            name=name, data_type=pixels.dtype.name, nodata=nodata, scale=scale, description=f"{name} made"
        )
        for name in bands
    ]
    card = _card(product, "1.0.0", outputs=tuple(bands), bands=tuple(bands))
    return _result(scene_id, moment, grid, card, {"image": (f"{product}.tif", pixels, nodata, infos)})


def _card(product: str, version: str, **changes: Any) -> ModelCard:
    bands = changes.pop("bands", ("red",))
    return ModelCard(
        name=product, version=version, architecture="unet", bands=bands, quantities=("reflectance",), mean=(0.0,) * len(bands),
        std=(1.0,) * len(bands), gsd_m=(1.0, 1000.0), stride_px=1, halo_px=0, **changes,
    )  # fmt: skip


def _result(
    scene_id: str, moment: str | None, grid: Grid, card: ModelCard,
    rasters: Mapping[str, tuple[str, NDArray[Any], float, list[stac_item.BandInfo]]],
    rows: Sequence[ClassArea] = (),
) -> Result:  # fmt: skip
    files = {name: _tiff(pixels, grid, nodata) for name, pixels, nodata, _ in rasters.values()}
    digest = hashlib.sha256(repr((scene_id, grid, card.version)).encode())
    for data in files.values():
        digest.update(data)
    key = digest.hexdigest()
    prefix = f"scenes/{scene_id}/{key}"
    assets = [
        stac_item.AssetInfo(
            name=asset, href=f"./{name}", media_type=stac_item.COG, roles=("data",), size=len(files[name]),
            sha256=hashlib.sha256(files[name]).hexdigest(), bands=tuple(bands), grid=grid,
        )
        for asset, (name, _, _, bands) in rasters.items()
    ]  # fmt: skip
    scene = Scene(
        id=scene_id, grid=grid, assets=(Asset(ref=ObjectRef("s3", "bucket", f"{scene_id}.tif"), identity="etag:x:1"),),
        bands=(Band(name="red", asset=0, index=1, dtype="uint8"),), quantity="reflectance", datetime=moment,
    )  # fmt: skip
    item = stac_item.item(
        scene=scene, product=card.name, card=card, key=key, grid=grid, rows=rows, assets=assets,
        provenance=stac_item.Provenance(
            software={"earthloom": "0"}, cards=((card, "s3://m/card.json"),), settings={"core_px": 1}
        ),
    )  # fmt: skip
    result = {
        "format": 1, "scene_id": scene_id, "key": key, "prefix": prefix, "model": card.name, "class_areas": [],
        "files": {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()},
        "nodata_px": 0, "datetime": moment, "dated_by": "item" if moment else None, "write_id": "0",
    }  # fmt: skip
    objects = {f"{prefix}/{name}": data for name, data in files.items()}
    objects |= {f"{prefix}/item.json": canonical(item), f"{prefix}/result.json": canonical(result)}
    return Result(product=card.name, prefix=prefix, item=item, objects=objects)


def _tiff(pixels: NDArray[Any], grid: Grid, nodata: float) -> bytes:
    """(bands, h, w) as a tiled GeoTIFF."""
    made = io.BytesIO()
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=grid.width, height=grid.height, count=len(pixels), dtype=pixels.dtype.name, crs=grid.crs,
            transform=grid.affine, nodata=nodata, tiled=True, blockxsize=256, blockysize=256, compress="deflate",
        ) as dataset:  # fmt: skip
            dataset.write(pixels)
        made.write(memory.read())
    return made.getvalue()


class InlinePool(Pool):
    """Does each task when its outcome is asked for, with a given store."""

    def __init__(self, store: Store) -> None:
        super().__init__(EngineOptions(executor="local"), store.ref)
        self._store = store
        self.keys: list[str] = []
        """Of the tasks that were begun."""

    def run(self, tasks: Sequence[MonitorTask]) -> Generator[Outcome, None, None]:
        for task in tasks:
            self.keys.append(task.key)
            try:
                yield Done(key=task.key, value=task.do(self._store), attempts=1, seconds=0.0)
            except EarthloomError as error:
                yield Failed(key=task.key, error=Fault.of(error), attempts=1, seconds=0.0)


def path_of(store: Store, key: str) -> Path:
    """The file behind an object of a store in a folder."""
    return (store.ref / key).path
