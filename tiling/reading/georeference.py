"""Where a file says that it lies: its CRS and transform, or why they do not give it a place.

Only what stands in the file itself counts, for only its bytes are pinned. Knows nothing of pixels and bands.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.place import check_place
from earthloom.tiling.storage.objects import ObjectRef

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.io import DatasetReader

_GRID_FILE = re.compile(r"(?i)\+(nadgrids|geoidgrids|grids|xy_grids|z_grids|file)=([^\s\"]*)")
_ROUNDING_PX = 0.01
"""How far rotation may move the farthest pixel before it is taken for one: what is left of the cosine of a right angle
or of decimals moves it by far less, and a hundredth of a pixel is less than any scene is registered to."""
_BESIDE = (".tfw", ".tifw", ".tiffw", ".wld", ".prj")


def read_grid(ref: ObjectRef, dataset: DatasetReader) -> Grid:
    """The grid of an open file.

    Raises:
        SceneError: if the file does not say where it lies, or says what cannot be, with the way out.
    """
    name, transform = ref.name, dataset.transform
    try:
        crs = dataset.crs
    except UnicodeDecodeError:
        raise SceneError(
            f"{name} has a CRS whose name is not UTF-8 text; set it again: gdal_edit.py -a_srs EPSG:<code> {name}"
        ) from None
    if not crs or transform.is_identity:
        _refuse_placeless(ref, dataset)
    if not (crs.is_projected or crs.is_geographic):
        kind = crs.wkt.partition("[")[0]
        raise SceneError(
            f"{name} has a CRS of kind {kind}, which is not tied to Earth's surface; "
            f"set the real one: gdal_edit.py -a_srs EPSG:<code> {name}"
        )
    if grids := grid_file_in(crs.wkt):
        raise SceneError(
            f"{name} has a CRS with a grid file of its own ({grids}), which could be any file or "
            f"address; set a CRS without it: gdal_edit.py -a_srs EPSG:<code> {name}"
        )
    if not all(math.isfinite(value) for value in transform) or transform.determinant == 0:
        raise SceneError(f"{name} has the unusable transform {tuple(transform)[:6]}; georeference it again")
    if _rotation_px(transform, dataset.width, dataset.height) > _ROUNDING_PX:
        raise SceneError(
            f"{name} has the rotated or sheared transform {tuple(transform)[:6]}, which would not be kept exactly; "
            "warp it to a north-up grid first: gdalwarp in.tif out.tif"
        )
    grid = Grid(
        crs=_crs_text(crs), transform=(transform.a, 0.0, transform.c, 0.0, transform.e, transform.f),
        width=dataset.width, height=dataset.height,
    )  # fmt: skip
    check_place(name, grid)
    return grid


def grid_file_in(wkt: str) -> str | None:
    """The grid file that a CRS names, which PROJ would open: `nadgrids=…`; None if it names none."""
    found = _GRID_FILE.search(wkt)
    return f"{found[1]}={found[2][:60]}" if found and found[2] != "@null" else None


def _rotation_px(transform: Affine, width: int, height: int) -> float:
    """Number of pixels by which the transform's rotation moves the corner opposite to the origin."""
    if not (transform.a and transform.e):
        return math.inf
    return max(abs(transform.b * height / transform.a), abs(transform.d * width / transform.e))


def _refuse_placeless(ref: ObjectRef, dataset: DatasetReader) -> None:
    name = ref.name
    gcps, _ = dataset.gcps
    if not dataset.crs and (gcps or dataset.rpcs):
        raise SceneError(
            f"{name} is only located by {'ground control points' if gcps else 'an RPC model'}, not on a map grid; "
            "warp it first: gdalwarp -t_srs EPSG:<code> in.tif out.tif"
        )
    # GDAL by itself prefers what is inside, were it the identity, which some writers store for no place.
    bake = (
        "gdal_translate --config GDAL_GEOREF_SOURCES WORLDFILE,PAM,INTERNAL "
        f"-a_srs EPSG:<code> {name} {ref.stem}-placed.tif"
    )
    if dataset.crs:
        problem = f"{name} has a CRS but no geotransform, so its pixels have no place"
    else:
        problem = (
            f"{name} has no CRS{' and no geotransform' * dataset.transform.is_identity}, so its map would lie nowhere"
        )
    if beside := _files_beside(ref):
        raise SceneError(
            f"{problem}; {', '.join(beside)} beside it is not read, as only the scene's own bytes are pinned: bake it in, "
            f"with the CRS that it means: {bake}"
        )
    if dataset.transform.is_identity:
        raise SceneError(
            f"{problem}; if it stands in a world file (.tfw, .wld) or .aux.xml of the same name, bake it "
            f"in: {bake}; else set it: gdal_edit.py -a_srs EPSG:<code> -a_ullr <left> <top> <right> <bottom> {name}"
        )
    raise SceneError(f"{problem}; set it: gdal_edit.py -a_srs EPSG:<code> {name}")


def _files_beside(ref: ObjectRef) -> list[str]:
    """Names of local files beside a local file that may say where it lies. They are not opened."""
    if ref.scheme != "file":
        return []
    wanted = {f"{ref.stem}{end}".lower() for end in _BESIDE} | {f"{ref.name}.aux.xml".lower(), f"{ref.name}w".lower()}
    return sorted(path.name for path in ref.path.parent.iterdir() if path.name.lower() in wanted)


def _crs_text(crs: Any) -> str:
    """`EPSG:<code>` where it means exactly this CRS, else its WKT."""
    from rasterio.crs import CRS

    code = crs.to_epsg(confidence_threshold=100)
    return f"EPSG:{code}" if code and CRS.from_epsg(code) == crs else str(crs.wkt)
