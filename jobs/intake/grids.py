"""Which grid a scene is read onto: that of its finest file, or one that the user gives for all scenes (`onto`)."""

from __future__ import annotations

from collections.abc import Sequence

from earthloom.tiling.aoi import Aoi, aoi_of_geojson, parse_aoi, suggest_aoi
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.footprint import describe_extent, share_covered
from earthloom.tiling.grid import Grid
from earthloom.tiling.place import is_disc_in_space
from earthloom.tiling.reading.preflight import Header
from earthloom.tiling.resampling import PIECE_BYTES, PIECE_PX, pixel_ratio
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from earthloom.tiling.turn import goes_beyond

_MAX_AOI_BYTES = 8 * 2**20
_MIB = 2**20
_ALIKE = 1.5  # ratio of pixel sizes from which it is worth a word
_WHOLE = 0.995  # a share that rounds to 100 %
_SAME = 0.99  # of files that end at the same place but for a few pixels

Named = tuple[str, Header]
"""Name of a file, and what it says of itself."""


class OffGridError(SceneError):
    """A file of a scene covers none of the grid that it is to be read onto."""


def read_aoi(text: str) -> Aoi:
    """The area that `onto` names: `EPSG:32633,10m,x0,y0,x1,y1`, or a GeoJSON file in any storage.

    Raises:
        ConfigError: if it is neither, or the area is none.
        StorageError: if the file cannot be read.
    """
    if not text.lower().endswith((".json", ".geojson")):
        return parse_aoi(text)
    ref = ObjectRef.parse(text)
    store = open_store(ref)
    head = store.head()
    if head is None:
        raise ConfigError(f"`onto` {ref.url}: there is no such file; check the spelling")
    if head.size > _MAX_AOI_BYTES:
        raise ConfigError(f"`onto` {ref.url} has {head.size} bytes; an area of at most {_MAX_AOI_BYTES} bytes is read")
    return aoi_of_geojson(store.get(), ref.url)


def common_grid(files: Sequence[Named]) -> Grid:
    """The finest grid of a scene's files, which all must share its CRS and some ground, and not be a disc in space.

    Raises:
        SceneError: if they do not.
    """
    grids = [(name, header.grid) for name, header in files]
    finest = min((grid for _, grid in grids), key=lambda grid: abs(grid.transform[0] * grid.transform[4]))
    for name, grid in grids:
        if grid.crs != finest.crs:
            several = ", ".join(f"{name} {grid.crs[:40]}" for name, grid in grids)
            suggested = suggest_aoi(finest) or "EPSG:<code>,<gsd>,<x0>,<y0>,<x1>,<y1>"
            raise SceneError(
                f"the files of one scene have several CRSs ({several}); name the grid that all are read onto, "
                f"`onto={suggested}`, or run them as scenes of their own"
            )
        left, bottom, right, top = finest.bounds
        if not (grid.bounds[0] < right and left < grid.bounds[2] and grid.bounds[1] < top and bottom < grid.bounds[3]):
            raise SceneError(
                f"{name} covers {_shown(grid)} and does not overlap the scene's finest file, {_shown(finest)}; "
                "files of one scene lie on the same ground: check that they belong together"
            )
    if is_disc_in_space(finest):
        raise SceneError(
            f"{files[0][0]} is a geostationary image with space around the Earth, and its pixels grow manifold towards the "
            "disc's edge; give the grid of an area in it, `onto=EPSG:<code>,<gsd>,<x0>,<y0>,<x1>,<y1>`, or warp it: "
            "gdalwarp -t_srs EPSG:4326 in.tif out.tif"
        )
    return finest


def partly_covered(files: Sequence[Named], grid: Grid) -> tuple[str, ...]:
    """What is lost where the files of a scene do not end at the same place: pixels beside the grid, or bands on a part of it.

    Args:
        files: files of one CRS.
        grid: grid of the finest of them.
    """
    finest = next(name for name, header in files if header.grid == grid)
    notes = []
    for name, header in files:
        if goes_beyond(grid) or goes_beyond(header.grid):  # the same ground may stand a turn away
            continue
        of_scene, of_file = _share_in(grid, header.grid), _share_in(header.grid, grid)
        if of_scene < _SAME and not _ends_within(grid, header.grid):
            notes.append(
                f"{name} covers {100 * of_scene:.3g} % of the scene, whose grid is that of {finest}; the rest is nodata"
            )
        if of_file < _SAME and not _ends_within(header.grid, grid):
            notes.append(
                f"the scene's grid is that of its finest file, {finest}, which covers {100 * of_file:.3g} % of {name}: the "
                "rest of that is not mapped; `onto` names another grid"
            )
    return tuple(notes)


def _ends_within(grid: Grid, other: Grid) -> bool:
    """Whether a grid ends inside another one in the same CRS, or beyond by less than a pixel of the coarser: as a small piece
    of 60 m does that was cut as far as one of 10 m."""
    (left, bottom, right, top), (a, b, c, d) = grid.bounds, other.bounds
    width, height = (max(abs(one.transform[at]) for one in (grid, other)) for at in (0, 4))
    return max(a - left, right - c) < width and max(b - bottom, top - d) < height


def _share_in(grid: Grid, other: Grid) -> float:
    """Share of the ground of a grid that another one in the same CRS covers, as the map has it."""
    (left, bottom, right, top), (a, b, c, d) = grid.bounds, other.bounds
    width, height = max(0.0, min(right, c) - max(left, a)), max(0.0, min(top, d) - max(bottom, b))
    return width * height / ((right - left) * (top - bottom))


def check_onto(files: Sequence[Named], onto: Grid) -> tuple[str, ...]:
    """Check that each file of a scene can be read onto a grid; what is worth a word.

    Raises:
        OffGridError: if a file covers none of the grid.
        SceneError: if one is so much finer that a read could not hold its pixels.
    """
    notes = []
    for name, header in files:
        grid = header.grid
        share = share_covered(onto, grid)
        if share == 0:
            raise OffGridError(
                f"{name} covers {describe_extent(grid)} and the grid of `onto` {describe_extent(onto)}: they do not overlap"
                "; leave the scene out, or give a grid on its ground"
            )
        if share < _WHOLE:
            notes.append(f"{name} covers {100 * share:.3g} % of the grid; the rest is nodata")
        ratio = pixel_ratio(grid, onto)
        refuse_too_fine(name, grid, header.pixel_bytes, onto, "the grid of `onto`")
        if not 1 / _ALIKE < ratio < _ALIKE:
            how = "averaged" if ratio > 1 else "interpolated"
            notes.append(f"pixels of {name} are {grid.gsd_m():.3g} m and are {how} to the grid's {onto.gsd_m():.3g} m")
    return tuple(dict.fromkeys(notes))


def refuse_too_fine(name: str, grid: Grid, pixel_bytes: int, onto: Grid, called: str) -> None:
    """Refuse a file of which a read could not hold the pixels under a piece of a much coarser grid.

    Args:
        name, grid, pixel_bytes: of the file; bytes of one pixel in all its bands.
        onto: the grid that it is read onto.
        called: what a message calls that.

    Raises:
        SceneError: if it is.
    """
    ratio = pixel_ratio(grid, onto)
    piece_bytes = PIECE_PX * ratio**2 * pixel_bytes
    if piece_bytes > PIECE_BYTES:
        raise SceneError(
            f"{name} has pixels of {grid.gsd_m():.3g} m, {pixel_bytes} bytes each in all bands, and {called} of "
            f"{onto.gsd_m():.3g} m: a read would hold {piece_bytes / _MIB:.0f} MiB of it at once, more than "
            f"{PIECE_BYTES / _MIB:.0f}; make it coarser first (gdalwarp -r average -tr "
            f"{abs(grid.transform[0]) * ratio:.4g} {abs(grid.transform[4]) * ratio:.4g}), or give a finer grid"
        )


def _shown(grid: Grid) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in grid.bounds) + ")"
