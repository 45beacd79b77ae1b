"""A committed result as an analyst reads it: a lazy xarray Dataset. Reads what is published, and knows nothing of runs.

Apart from other modules because importing xarray takes time that no run need spend.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from earthloom.jobs.products.item_table import latest_ids, latest_items, tabled_ids
from earthloom.jobs.products.stac_item import item_id
from earthloom.jobs.records.listing import shelved
from earthloom.jobs.records.names import DATA, RESULT
from earthloom.jobs.records.result import SceneResult
from earthloom.tiling.errors import ConfigError, MissingObjectError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store
from earthloom.tiling.suggest import did_you_mean

if TYPE_CHECKING:
    import xarray as xr

_OBJECTS = frozenset(("zarr_conventions", "multiscales", "earthloom"))
"""Attributes that hold objects, which NetCDF cannot."""
_NAMED = 10  # scenes in an error; of thousands, the others are not even looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A committed result that may be the one that was asked for."""

    scene_id: str
    key: str
    prefix: str
    product: str
    levels: tuple[int, ...]
    committed_s: float


def open_dataset(
    out: str | Path, product: str, *, scene: str | None = None, key: str | None = None, level: int = 0
) -> xr.Dataset:
    """The `data.zarr` of one committed scene. See `earthloom.open`, which is this function."""
    import xarray as xr

    store = open_store(ObjectRef.parse(str(out)))
    found = _one_of(_candidates(store, scene, key), store, product, scene, key)
    if level not in found.levels:
        raise ConfigError(
            f"{store.ref.url}/{found.prefix} has the levels {_listed([str(n) for n in found.levels])}, not {level}"
        )
    data = store.zarr(f"{found.prefix}/{DATA}", read_only=True)
    dataset: xr.Dataset = xr.open_zarr(
        data, group=str(level), chunks=None, mask_and_scale=False, decode_coords="all", consolidated=True, zarr_format=3
    )
    rows, cols = next(iter(dataset.data_vars.values())).encoding["shards"]  # all layers of a level are cut alike
    named = as_cf(dataset).assign_attrs(
        EARTHLOOM_SCENE=found.scene_id, EARTHLOOM_KEY=found.key
    )  # as the COG's tags have it
    return named.chunk(y=rows, x=cols)


def as_cf(dataset: xr.Dataset) -> xr.Dataset:
    """As CF and NetCDF want it: flags of their layer's dtype, for which JSON has no words, and no attribute of objects.

    Its accessors `.rio` and `.earthloom` are registered, too.
    """
    import numpy as np
    import rioxarray  # noqa: F401 - registers the accessor .rio

    import earthloom.jobs.products.accessor  # noqa: F401 - registers the accessor .earthloom

    for layer in dataset.data_vars.values():
        if "flag_values" in layer.attrs:
            layer.attrs["flag_values"] = np.asarray(layer.attrs["flag_values"], layer.dtype)
    dataset.attrs = {name: value for name, value in dataset.attrs.items() if name not in _OBJECTS}
    return dataset


def _candidates(store: Store, scene: str | None, key: str | None) -> Iterator[_Found]:
    for place in shelved(store, f"scenes/{scene}" if scene else "scenes"):
        if place.result is None or not place.key.startswith(key or ""):
            continue
        where = f"{place.prefix}/{RESULT}"
        result = SceneResult.from_json(store.get(where), f"{store.ref.url}/{where}")
        names = [name.split("/") for name in result.files]
        levels = sorted(int(name[1]) for name in names if name[0] == DATA and name[2:] == ["zarr.json"])
        yield _Found(
            scene_id=place.scene_id, key=place.key, prefix=place.prefix, product=result.model, levels=tuple(levels),
            committed_s=result.committed_s or place.result.modified_s,
        )  # fmt: skip


def _one_of(candidates: Iterator[_Found], store: Store, product: str, scene: str | None, key: str | None) -> _Found:
    """The last result of the only scene that has this product."""
    out = store.ref.url
    asked = "".join(f", {name} {value}" for name, value in (("scene", scene), ("key", key)) if value)
    of_scene: dict[str, list[_Found]] = {}
    products: set[str] = set()
    for found in candidates:
        products.add(found.product)
        if found.product == product:
            of_scene.setdefault(found.scene_id, []).append(found)
        if len(of_scene) > _NAMED:
            break
    if not products:
        raise ConfigError(f"{out}{asked}: no committed scene is there{_instead(store, product, scene)}")
    if not of_scene:
        near = did_you_mean(product, products)
        raise ConfigError(f"{out}{asked}: there is no product {product!r}{near}; there is {_listed(sorted(products))}")
    if len(of_scene) > 1:
        raise ConfigError(f"{out} holds {product} of several scenes; give scene=, one of {_listed(sorted(of_scene))}")
    (results,) = of_scene.values()
    if len(results) > 1 and (current := _tabled_as_latest(store, product, results)):
        return current
    last_s = max(result.committed_s for result in results)
    last = [result for result in results if result.committed_s == last_s]
    if len(last) > 1:
        keys = _listed([result.key[:12] for result in last])
        raise ConfigError(
            f"{out}{asked}: {len(last)} results were committed at the same time; give key=, one of {keys}"
        )
    return last[0]


def _tabled_as_latest(store: Store, product: str, results: Sequence[_Found]) -> _Found | None:
    """The result that counts by the product's table, which keeps the times of the commits in a copy of OUT too; None where it
    does not know them all."""
    try:
        table = store.get(f"collections/{product}/items.parquet")
    except MissingObjectError:
        return None
    by_id = {item_id(result.scene_id, product, result.key): result for result in results}
    if not by_id.keys() <= tabled_ids(table):
        return None
    latest = by_id.keys() & latest_ids(table)
    return by_id[latest.pop()] if latest else None


def _instead(store: Store, product: str, scene: str | None) -> str:
    """The scenes of the product, where it has some and this is none of them; else where to look."""
    try:
        items = latest_items(store.get(f"collections/{product}/items.parquet"))
    except MissingObjectError:
        items = []
    scenes = sorted({str(item["properties"]["earthloom:scene"]) for item in items})
    if not scene or not scenes or scene in scenes:
        return "; `earthloom status` says what its runs have done"
    return f"{did_you_mean(scene, scenes)}; {product} is there of {_listed(scenes)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" and more" if len(names) > _NAMED else "")
