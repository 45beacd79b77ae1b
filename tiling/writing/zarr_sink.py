"""Layout of the Zarr v3 output: a group per overview level, sharded arrays, CF and Zarr-convention georeferencing.

Pure: it makes the metadata documents and the bytes of shards; writing them is one PUT each, by whoever owns the shard.
A shard is never read, merged and written again, which is how two writers lose each other's pixels. What a stack of dates
has in common with a scene is public here (`tiling.writing.zarr_cube`).
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import TilingError
from earthloom.tiling.grid import Grid
from earthloom.tiling.writing.pyramid import TILE_PX, Pyramid
from earthloom.tiling.writing.zarr_shard import ZSTD_LEVEL, shard_bytes

if TYPE_CHECKING:
    import zarr
    from zarr.core.buffer import Buffer

CHUNK_PX = TILE_PX
SMALLEST_PX = 16
"""Side of the smallest tile of a TIFF (TIFF 6.0, section 15), and so of the smallest shard."""

_OF_A_LEVEL = ("spatial:shape", "spatial:transform")

_CONVENTIONS = {
    "multiscales": ("d35379db-88df-4056-af3a-620245f8e347", "Multiscale layout of zarr datasets"),
    "proj": ("f17cb550-5864-4468-aeb7-f3180cfb622f", "Coordinate reference system of geospatial data"),
    "spatial": ("689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "From array indices to coordinates"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One raster of the output."""

    name: str
    dtype: str = "uint8"
    nodata: float = NODATA
    """May be NaN for a floating dtype."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """CF attributes: `long_name`, `flag_values` and `flag_meanings`, or `scale_factor`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrLayout:
    """What lies where in one scene's `data.zarr`.

    Raises:
        TilingError: if the shard is not a multiple of the chunk (`check_shard`).
    """

    grid: Grid
    layers: tuple[Layer, ...]
    shard_px: int
    title: str = ""
    resampling: str = "mode"
    """How overview levels are made: `mode`, or `average` where no layer is a class map."""

    def __post_init__(self) -> None:
        check_shard(self.shard_px)

    @property
    def pyramid(self) -> Pyramid:
        """Levels, and who writes what of them: each shard of each level is one object of one writer."""
        return Pyramid(height=self.grid.height, width=self.grid.width, shard_px=self.shard_px)

    def shard_key(self, level: int, layer: str, row: int, col: int) -> str:
        """Object key of one shard below the `data.zarr` prefix."""
        return f"{level}/{layer}/c/{row}/{col}"

    def metadata(self) -> dict[str, bytes]:
        """Every document except the shards: group and array metadata (consolidated at the root) and coordinates.

        Deterministic, so writing it again changes nothing.
        """
        import zarr
        from zarr.storage import MemoryStore

        documents: dict[str, Buffer] = {}
        root = zarr.create_group(MemoryStore(documents), zarr_format=3, attributes=self._root_attributes())
        for level, shape in enumerate(self.pyramid.shapes):
            grid = self.grid.reduce(2**level)
            group = root.create_group(
                str(level),
                attributes={**cf_attributes(self.title), "coordinates": "spatial_ref", **geo_attributes(grid)},
            )
            for layer in self.layers:
                create_layer(group, layer, shape, self.pyramid.shard_px_at(level), geo_attributes(grid))
            create_coordinates(group, grid)
        return consolidated({key: value.to_bytes() for key, value in sorted(documents.items())})

    def encode_shard(self, level: int, layer: str, pixels: NDArray[Any]) -> bytes | None:
        """One shard's bytes. `pixels` is (h, w) of the layer's dtype, smaller than the shard only at the far edges.

        Returns:
            The bytes to PUT at `shard_key`, or None when every pixel is nodata: such a shard is not stored.

        Raises:
            TilingError: if the array is larger than a shard or not of the layer's dtype.
        """
        described = next(candidate for candidate in self.layers if candidate.name == layer)
        return encode_shard(described, pixels, self.pyramid.shard_px_at(level), f" at level {level}")

    def _root_attributes(self) -> dict[str, Any]:
        layout = []
        for level in range(len(self.pyramid.shapes)):
            placement = geo_attributes(self.grid.reduce(2**level))
            finer = {"derived_from": str(level - 1), "transform": {"scale": [2.0, 2.0], "translation": [0.0, 0.0]}}
            layout.append(
                {"asset": str(level)} | (finer if level else {}) | {name: placement[name] for name in _OF_A_LEVEL}
            )
        return {
            **cf_attributes(self.title),
            "multiscales": {"layout": layout, "resampling_method": self.resampling},
            **declared("multiscales", "proj", "spatial"),
            **geo_attributes(self.grid),
        }


def open_array(store: Any, level: int, layer: str) -> zarr.Array[Any]:
    """A stored layer, for reading. `store` is a zarr-python store on the `data.zarr` prefix."""
    import zarr

    return zarr.open_array(store, path=f"{level}/{layer}", mode="r", zarr_format=3)  # unsaid, it asks for v2 files too


def encode_shard(layer: Layer, pixels: NDArray[Any], shard_px: int, where: str = "") -> bytes | None:
    """The bytes of a shard, or None when every pixel is nodata: such a shard is not stored.

    A stack of dates has the same: its shards hold one step each.

    Args:
        pixels: (h, w) of the layer's dtype, smaller than the shard only at the far edges.
        where: names the array in a message, after its layer.

    Raises:
        TilingError: if the array is larger than a shard or not of the layer's dtype.
    """
    if pixels.dtype != layer.dtype or pixels.ndim != 2 or max(pixels.shape) > shard_px:
        raise TilingError(
            f"a shard of {layer.name}{where} is a {layer.dtype} (h, w) array of at most {shard_px} px, got "
            f"{pixels.dtype} {pixels.shape}"
        )
    return shard_bytes(pixels, shard_px, min(CHUNK_PX, shard_px), layer.nodata)


def create_layer(
    group: zarr.Group, layer: Layer, shape: tuple[int, ...], shard_px: int, attributes: Mapping[str, Any] | None = None
) -> zarr.Array[Any]:
    """The array of a layer, (y, x) or (time, y, x): sharded, compressed, with its attributes and these ones."""
    from zarr.codecs import ZstdCodec

    fill = np.dtype(layer.dtype).type(layer.nodata).item()
    lead, chunk_px = len(shape) - 2, min(CHUNK_PX, shard_px)
    return group.create_array(
        layer.name, shape=shape, dtype=layer.dtype, chunks=(1,) * lead + (chunk_px, chunk_px),
        shards=(1,) * lead + (shard_px, shard_px),
        compressors=[ZstdCodec(level=ZSTD_LEVEL, checksum=True)],
        fill_value=fill, dimension_names=("time", "y", "x")[-len(shape) :],
        attributes={"_FillValue": _cf_fill(fill), "grid_mapping": "spatial_ref", **layer.attributes, **(attributes or {})},
    )  # fmt: skip


def _cf_fill(fill: float) -> float | str:
    """CF's `_FillValue` as xarray keeps it in Zarr's JSON, which has no NaN: a float as base64 of its eight bytes."""
    return fill if isinstance(fill, int) else base64.b64encode(struct.pack("<d", fill)).decode()


def check_shard(shard_px: int) -> None:
    """
    Raises:
        TilingError: if the shard is neither a multiple of the usual chunk nor, smaller, one of 16 px, as a TIFF's tiles are.
    """
    if shard_px <= 0 or shard_px % min(CHUNK_PX, shard_px) or shard_px % SMALLEST_PX:
        raise TilingError(
            f"shard {shard_px} px is not a multiple of the Zarr chunk, {CHUNK_PX} px, nor a smaller one of {SMALLEST_PX} px"
        )


def cf_attributes(title: str) -> dict[str, str]:
    """What CF wants to know of every file, and so of every group that may be saved as one (CF 1.11, section 2.6)."""
    return {"Conventions": "CF-1.11", "title": title, "source": "Earthloom"}


def declared(*conventions: str) -> dict[str, Any]:
    """The declaration of Zarr conventions.

    It stands at the root alone, as in the conventions' own example of levels: it is a list of objects, which NetCDF has no
    attribute for, and a level is what analysts save to a file.
    """
    return {
        "zarr_conventions": [
            {
                "name": name,
                "uuid": _CONVENTIONS[name][0],
                "description": _CONVENTIONS[name][1],
                "spec_url": f"https://github.com/zarr-conventions/{name}/blob/v0.1/README.md",
                "schema_url": f"https://raw.githubusercontent.com/zarr-conventions/{name}/refs/tags/v0.1/schema.json",
            }
            for name in conventions
        ]
    }


def geo_attributes(grid: Grid) -> dict[str, Any]:
    """The place of a group's or an array's pixels, in the words of the Zarr conventions `proj` and `spatial`."""
    left, bottom, right, top = grid.bounds
    code = (
        {"proj:code": grid.crs}
        if grid.crs.startswith("EPSG:")
        else {"proj:wkt2": CRS.from_user_input(grid.crs).to_wkt()}
    )
    return {
        **code,
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": list(grid.shape),
        "spatial:transform": list(grid.transform),
        "spatial:transform_type": "affine",
        "spatial:registration": "pixel",
        "spatial:bbox": [left, bottom, right, top],
    }


def create_coordinates(group: zarr.Group, grid: Grid) -> None:
    """`x`, `y` and the CF grid mapping `spatial_ref`, with their values."""
    crs = CRS.from_user_input(grid.crs)
    a, b, c, d, e, f = grid.transform
    cf = {key: value for key, value in crs.to_cf().items() if not (isinstance(value, float) and np.isnan(value))}
    spatial_ref = group.create_array(
        "spatial_ref", shape=(), dtype="int64", fill_value=0, dimension_names=(), compressors=None,
        attributes={**cf, "spatial_ref": crs.to_wkt(), "GeoTransform": f"{c!r} {a!r} {b!r} {f!r} {d!r} {e!r}"},
    )  # fmt: skip
    spatial_ref[...] = 0
    axes = {axis["axis"]: axis for axis in crs.cs_to_cf() if axis.get("axis") in ("X", "Y")}
    for name, values in (("y", grid.ys()), ("x", grid.xs())):
        array = group.create_array(
            name, shape=values.shape, dtype="float64", chunks=values.shape, fill_value=float("nan"), compressors="auto",
            dimension_names=(name,), attributes=axes.get(name.upper(), {"axis": name.upper()}),
        )  # fmt: skip
        array[:] = values


def consolidated(documents: dict[str, bytes]) -> dict[str, bytes]:
    """Inline all metadata in the root document: one request instead of one per node.

    Done by hand because zarr-python's own call warns that version 3 of the format does not define it yet; readers that
    do not know the field ignore it.
    """
    nodes = {
        key.removesuffix("/zarr.json"): json.loads(data)
        for key, data in documents.items()
        if key.endswith("/zarr.json")
    }
    root = json.loads(documents["zarr.json"])
    root["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": nodes}
    return documents | {"zarr.json": json.dumps(root, indent=2).encode()}
