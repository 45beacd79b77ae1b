"""A cube as an analyst reads it: a lazy xarray Dataset. Apart from other modules because importing xarray takes time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.cube.log import current_cube, read_head
from earthloom.jobs.monitoring.cube.stac import cube_item_id
from earthloom.jobs.products.dataset import as_cf
from earthloom.jobs.products.stac_collection import linked_hrefs
from earthloom.tiling.errors import ConfigError, MissingObjectError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store

if TYPE_CHECKING:
    import xarray as xr

_KEY = re.compile(r"^[0-9a-f]{16,64}$")


def open_cube_dataset(out: str | Path, product: str, aoi: str, *, key: str | None = None) -> xr.Dataset:
    """The cube of a product over an area. See `earthloom.open`, which is this function where `aoi` is given."""
    import xarray as xr

    store = open_store(ObjectRef.parse(str(out)))
    base, cube = finished_cube(store, product, aoi, key)
    dataset: xr.Dataset = xr.open_zarr(
        store.zarr(cube.prefix, read_only=True), chunks=None, mask_and_scale=False, decode_coords="all",
        consolidated=True, zarr_format=3,
    )  # fmt: skip
    named = as_cf(dataset).assign_attrs(
        EARTHLOOM_AOI=aoi, EARTHLOOM_PRODUCT=product, EARTHLOOM_CUBE=cube.prefix,
        EARTHLOOM_GENERATION=read_head(store, base),
    )  # fmt: skip
    return named.sortby("time").chunk(time=1, y=cube.shard_px, x=cube.shard_px)


def finished_cube(store: Store, product: str, aoi: str, key: str | None) -> tuple[str, Cube]:
    """The folder of a product over an area, the newest unless `key` names one, and the cube in it that readers follow."""
    base = _cube_base(store, product, aoi, key)
    cube = current_cube(store, base)
    if cube is None:
        raise ConfigError(f"{store.ref.url}/{base} holds no finished cube; run `earthloom monitor` again")
    return base, cube


def _cube_base(store: Store, product: str, aoi: str, key: str | None) -> str:
    """`monitors/<aoi>/<product>/<key>` of the cube that the area's file asks for now, or that of the key."""
    if key is not None:
        if not _KEY.match(key):
            raise ConfigError(f"key={key[:80]!r} is not the first 16 or more hex digits of a cube's key")
        return f"monitors/{aoi}/{product}/{key[:16]}"
    try:
        collection = json.loads(store.get(f"monitors/{aoi}/collection.json"))
    except MissingObjectError:
        raise ConfigError(
            f"{store.ref.url} has no area {aoi!r}; `earthloom monitor` makes one of an AOI file"
        ) from None
    hrefs = linked_hrefs(collection)
    href = hrefs.get(cube_item_id(aoi, product, None))
    if href is None:
        known = sorted({unquote(link).removeprefix("./").partition("/")[0] for link in hrefs.values()})
        raise ConfigError(f"{store.ref.url} has no cube of {product!r} over {aoi}; there is {', '.join(known)}")
    return f"monitors/{aoi}/{unquote(href).removeprefix('./').rpartition('/')[0]}"
