"""The changed ground of a map as polygons: pieces of each shard, united over the shards' borders, with areas and confidence.

Corners are whole pixels of the grid until the very end, so nothing is rounded and no polygon depends on the cut.
Knows nothing of files.
"""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.alerts.outlines import unite as unite_outlines
from earthloom.jobs.monitoring.change.transitions import Sides, exact_areas_m2, pixel_m2
from earthloom.jobs.monitoring.cube.cube import ClassInfo
from earthloom.jobs.records.canonical import canonical
from earthloom.tiling.components import label_areas
from earthloom.tiling.encoding import CONFIDENCE_STEPS, NODATA
from earthloom.tiling.errors import PublishError
from earthloom.tiling.grid import Grid
from earthloom.tiling.window import Window

if TYPE_CHECKING:
    import geopandas as gpd

_NOTES = b"earthloom"
_LABEL_BYTES, _RUN_BYTES, _RUN_AT_ONCE_BYTES, _POLYGON_BYTES = 70, 230, 720, 500
"""Measured (bench `watching`): sums of each change; corners of each run of pixels in a row that is drawn; those of the largest
polygon; each polygon."""
_STORED_RUN_BYTES, _STORED_POLYGON_BYTES, _FREED_PX_BYTES = 280, 1200, 18
"""Measured too: what runs and polygons take while they become a table, and what is given back of each pixel by then."""
_STRIP_ROWS = 256  # true areas of a whole shard would be the largest array here


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pieces:
    """Connected changes, one per position. All arrays are (n,)."""

    polygons: NDArray[Any]
    """shapely polygons; corners are (column, row) of the grid."""
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    pixels: NDArray[np.int64]
    areas_m2: NDArray[np.float64]
    """Sums of true pixel areas, exact (`exact_areas_m2`)."""
    confidence_sums: NDArray[np.int64]
    """Sums of the products of both stored confidences."""
    open: NDArray[np.bool_]
    """True if it touches another shard, where it may go on."""

    def __len__(self) -> int:
        return int(self.polygons.size)

    def encode(self, notes: Mapping[str, Any]) -> bytes:
        """The pieces as a Parquet file, uncompressed, with notes in its metadata; `decode_pieces` is the inverse."""
        import pyarrow as pa
        import pyarrow.parquet as pq
        import shapely

        columns = {name: getattr(self, name) for name in self.__slots__} | {"polygons": shapely.to_wkb(self.polygons)}
        types = {"polygons": pa.binary()}
        arrays = {name: pa.array(column, types.get(name)) for name, column in columns.items()}
        buffer = io.BytesIO()
        pq.write_table(
            pa.table(arrays, metadata={_NOTES: canonical(notes)}), buffer, compression="none", use_dictionary=False
        )
        return buffer.getvalue()

    def select(self, wanted: NDArray[Any]) -> Pieces:
        """The pieces at these positions, or where a mask is true."""
        return Pieces(
            polygons=self.polygons[wanted], before=self.before[wanted], after=self.after[wanted],
            pixels=self.pixels[wanted], areas_m2=self.areas_m2[wanted], confidence_sums=self.confidence_sums[wanted],
            open=self.open[wanted],
        )  # fmt: skip


def decode_pieces(data: bytes, where: str) -> tuple[Pieces, dict[str, Any]]:
    """Inverse of `Pieces.encode`: pieces and notes.

    Args:
        where: names the object in messages.

    Raises:
        PublishError: if it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    import shapely

    try:
        table = pq.read_table(pa.BufferReader(data))
        columns = {name: table.column(name).to_numpy() for name in Pieces.__slots__}
        notes: dict[str, Any] = json.loads(table.schema.metadata[_NOTES])
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise PublishError(
            f"{where} is damaged ({error}); remove it and run again: its shard is computed again"
        ) from error
    return Pieces(**columns | {"polygons": np.asarray(shapely.from_wkb(columns["polygons"]), object)}), notes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Changed:
    """The connected changes of one shard before their outlines are drawn. Of n that are kept; all but `labels` by position."""

    shard: Window
    labels: NDArray[np.int32]
    """(h, w): 0 where nothing changed."""
    kept: NDArray[np.intp]
    """(n,) labels, ascending."""
    wanted: NDArray[np.bool_]
    """For each label, from 0, whether it is kept."""
    pairs: NDArray[np.uint16]
    """256 * before + after; so are the others (n,)."""
    pixels: NDArray[np.int64]
    areas_m2: NDArray[np.float64]
    confidence_sums: NDArray[np.int64]
    open: NDArray[np.bool_]

    def bytes(self, labelling: int) -> int:
        """Most that `draw` takes, or storing what it gives, beside arrays of the shard's pixels.

        Args:
            labelling: `labelling_bytes`, which is held while polygons are drawn and no longer when they are stored.
        """
        runs = np.zeros(self.wanted.size, np.int64)
        for row in range(0, self.shard.height, _STRIP_ROWS):
            labels = self.labels[row : row + _STRIP_ROWS]
            runs += np.bincount(labels[_begins(labels, labels > 0)], minlength=runs.size)
        drawn = runs[self.kept]
        largest = int(drawn.max(initial=0))  # of one polygon at a time GDAL gives every corner as an object
        n_runs, n = int(drawn.sum()), self.kept.size
        drawing = labelling + n_runs * _RUN_BYTES + largest * _RUN_AT_ONCE_BYTES + n * _POLYGON_BYTES
        storing = n_runs * _STORED_RUN_BYTES + n * _STORED_POLYGON_BYTES - self.shard.size_px * _FREED_PX_BYTES
        return max(drawing, storing)

    def draw(self) -> Pieces:
        """The pieces with their polygons."""
        return Pieces(
            polygons=_outlines(self.labels, self.wanted, self.kept, self.shard),
            before=(self.pairs >> 8).astype(np.uint8), after=(self.pairs & 0xFF).astype(np.uint8), pixels=self.pixels,
            areas_m2=self.areas_m2, confidence_sums=self.confidence_sums, open=self.open,
        )  # fmt: skip


def labelling_bytes(sides: Sides) -> int:
    """Most that `find_changed` takes of these pixels beside arrays of their number: changes are no more than runs in rows."""
    runs = 0
    for row in range(0, sides.shape[0], _STRIP_ROWS):
        strip = sides.rows(row, _STRIP_ROWS)
        runs += int(np.count_nonzero(_begins(strip.pairs(), _is_changed(strip))))
    return runs * _LABEL_BYTES


def _is_changed(sides: Sides) -> NDArray[np.bool_]:
    """(rows, columns)"""
    changed: NDArray[np.bool_] = (sides.before != NODATA) & (sides.after != NODATA) & (sides.before != sides.after)
    return changed


def _begins(values: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The beginnings of runs of one value within the rows of a mask. (rows, columns)"""
    begun = mask.copy()
    begun[:, 1:] &= (values[:, 1:] != values[:, :-1]) | ~mask[:, :-1]
    return begun


def find_changed(sides: Sides, grid: Grid, shard: Window, least_m2: float) -> Changed:
    """The changes of one shard; pixels are neighbours across an edge.

    Args:
        sides: its pixels.
        grid: grid of the whole map.
        shard: where these pixels lie in it.
        least_m2: smaller changes are left out, unless they touch another shard.
    """
    labels, n = label_areas(sides.pairs(), _is_changed(sides))
    pixels, pairs = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.uint16)
    areas, sums = np.zeros(n + 1), np.zeros(n + 1)
    for row in range(0, shard.height, _STRIP_ROWS):
        strip = sides.rows(row, _STRIP_ROWS)
        where = Window(shard.col_off, shard.row_off + row, shard.width, strip.shape[0])
        flat = labels[row : row + _STRIP_ROWS].ravel()
        pairs[flat] = strip.pairs().ravel()  # all pixels of a label have one pair
        pixels += np.bincount(flat, minlength=n + 1)
        areas += np.bincount(flat, weights=exact_areas_m2(grid, where).ravel(), minlength=n + 1)
        sums += np.bincount(flat, weights=strip.products().ravel(), minlength=n + 1)
    goes_on = np.zeros(n + 1, bool)
    for edge, is_inner in (
        (labels[0], shard.row_off > 0),
        (labels[-1], shard.row_end < grid.height),
        (labels[:, 0], shard.col_off > 0),
        (labels[:, -1], shard.col_end < grid.width),
    ):
        goes_on[edge] |= is_inner
    wanted = (areas >= least_m2) | goes_on
    wanted[0] = False
    kept = np.flatnonzero(wanted)
    return Changed(
        shard=shard, labels=labels, kept=kept, wanted=wanted, pairs=pairs[kept], pixels=pixels[kept], areas_m2=areas[kept],
        confidence_sums=sums[kept].astype(np.int64), open=goes_on[kept],
    )  # fmt: skip


def _outlines(
    labels: NDArray[np.int32], wanted: NDArray[np.bool_], kept: NDArray[np.intp], shard: Window
) -> NDArray[Any]:
    """The polygon of each wanted label, in the order of `kept`."""
    import shapely
    from affine import Affine
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.features import shapes

    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)  # pixels of the grid need no place on Earth
    polygons = np.empty(kept.size, object)
    if kept.size:
        place = Affine.translation(shard.col_off, shard.row_off)
        for geometry, label in shapes(labels, mask=wanted[labels], connectivity=4, transform=place):
            shell, *holes = geometry["coordinates"]
            polygons[np.searchsorted(kept, int(label))] = shapely.Polygon(shell, holes)
    return polygons


def unite(parts: Sequence[Pieces], least_m2: float) -> Pieces:
    """The changes of the whole map, from those of its shards, in any order.

    Returns:
        None smaller than `least_m2`, the largest first; of equals the one that begins in an upper row, then further left.
    """
    every = _together(parts)
    closed, loose = every.select(~every.open), every.select(every.open)
    joined = [closed]
    for pair in sorted(set(zip(loose.before.tolist(), loose.after.tolist(), strict=True))):
        joined.append(_unite_alike(loose.select((loose.before == pair[0]) & (loose.after == pair[1]))))
    whole = _together(joined)
    whole = whole.select(whole.areas_m2 >= least_m2)
    rows, cols = _first_pixels(whole.polygons)
    return whole.select(np.lexsort((cols, rows, -whole.areas_m2)))


def _together(parts: Sequence[Pieces]) -> Pieces:
    names = Pieces.__slots__
    if not parts:
        empty = {name: np.empty(0) for name in names}
        types = {"polygons": object, "before": np.uint8, "after": np.uint8, "pixels": np.int64,
                 "confidence_sums": np.int64, "open": bool}  # fmt: skip
        return Pieces(**{name: column.astype(types.get(name, np.float64)) for name, column in empty.items()})
    return Pieces(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _unite_alike(pieces: Pieces) -> Pieces:
    """Pieces of one change, united where they share an edge; what meets in a corner only stays apart."""
    import shapely

    polygons = shapely.get_parts(unite_outlines(pieces.polygons))
    inside, of = shapely.STRtree(polygons).query(shapely.point_on_surface(pieces.polygons), predicate="within")
    assert np.array_equal(np.sort(inside), np.arange(len(pieces))), "each piece lies in one polygon"
    owner = np.empty(len(pieces), np.intp)
    owner[inside] = of
    n = polygons.size
    return Pieces(
        polygons=polygons, before=np.full(n, pieces.before[0]), after=np.full(n, pieces.after[0]),
        pixels=np.bincount(owner, weights=pieces.pixels, minlength=n).astype(np.int64),
        areas_m2=np.bincount(owner, weights=pieces.areas_m2, minlength=n).astype(np.float64),
        confidence_sums=np.bincount(owner, weights=pieces.confidence_sums, minlength=n).astype(np.int64),
        open=np.zeros(n, bool),
    )  # fmt: skip


def _first_pixels(polygons: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(row, column) at which each begins: its highest corner, of these the leftmost."""
    import shapely

    points, of = shapely.get_coordinates(polygons, return_index=True)
    order = np.lexsort((points[:, 0], points[:, 1], of))
    _, begins = np.unique(of[order], return_index=True)
    first = points[order][begins]
    return first[:, 1], first[:, 0]


def polygon_table(pieces: Pieces, grid: Grid, classes: Sequence[ClassInfo]) -> gpd.GeoDataFrame:
    """Rows with `from`, `to`, `area_m2`, `px`, `confidence` and the polygon in the grid's CRS, in the order of `pieces`.

    Areas are sums of true pixel areas, to 1e-3 m²; confidence is 0 to 1, the mean product of both maps'.
    """
    import geopandas as gpd
    import shapely

    names = {entry.value: entry.name for entry in classes}
    a, _, c, _, e, f = grid.transform
    placed = shapely.transform(pieces.polygons, lambda points: points * (a, e) + (c, f))
    certain = pieces.pixels * float(CONFIDENCE_STEPS**2)
    columns = {
        "from": [names[value] for value in pieces.before.tolist()],
        "to": [names[value] for value in pieces.after.tolist()],
        "area_m2": np.round(pieces.areas_m2, 3),
        "px": pieces.pixels,
        "confidence": np.round(pieces.confidence_sums / certain, 6),
    }
    return gpd.GeoDataFrame(columns, geometry=shapely.normalize(placed), crs=grid.crs)


def default_least_m2(grid: Grid) -> float:
    """The minimum mapping unit that is taken where none is asked for: nine pixels, a square of three, to three digits.

    Single pixels along every shore are where two acquisitions differ by less than a pixel, and not where ground changed.
    """
    area_m2 = 9 * pixel_m2(grid)
    return round(area_m2, 2 - math.floor(math.log10(area_m2)))
