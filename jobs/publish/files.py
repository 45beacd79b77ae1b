"""From finished shards to a committed result: the last levels, COGs, quicklook, STAC item, and `result.json`, the commit.

Whoever made the shards has left their tiles in storage; here the levels beyond a shard are made and the files are copied
together while they are uploaded. A few rows of tiles are in memory, whatever the size of the grid, and no file of its size
is made. Everything written before `result.json` is invisible to a reader who looks for it; writing it again writes the same
bytes. Knows no plan and no model: what is published is a `Publication`.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.products import statistics
from earthloom.jobs.products.product import Raster
from earthloom.jobs.products.publication import Publication
from earthloom.jobs.products.quicklook import PICTURE_PX
from earthloom.jobs.products.statistics import Counted, add_up
from earthloom.jobs.publish.tables import read_tables
from earthloom.jobs.records.blocks import ShardRecord, StoredObject
from earthloom.jobs.records.canonical import FORMAT, canonical, read_document
from earthloom.jobs.records.documents import commit
from earthloom.jobs.records.markers import tiles_key, vouched_shards
from earthloom.jobs.records.names import DATA, ITEM, QUICKLOOK, RESULT
from earthloom.tiling.counting import BandSum
from earthloom.tiling.errors import DamagedPartError, MissingObjectError, PublishError, StorageError
from earthloom.tiling.grid import pixel_size_m
from earthloom.tiling.storage.store import Store
from earthloom.tiling.writing.cog_parts import CogAssembly, ShardPart
from earthloom.tiling.writing.pyramid import Place
from earthloom.tiling.writing.zarr_sink import ZarrLayout, open_array

_MIB = 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PUTS = 8


class _NotDoneError(PublishError):
    """Shards are missing, or are not as their markers say."""


def committed_document(store: Store, prefix: str) -> dict[str, Any] | None:
    """The `result.json` below a prefix if its result is committed.

    Raises:
        PublishError: if it is no document of this version.
    """
    key = f"{prefix}/{RESULT}"
    try:
        return read_document(store.get(key), key)
    except MissingObjectError:
        return None


def publish_files(store: Store, publication: Publication, write_id: str) -> tuple[dict[str, Any], bool]:
    """Assemble, check and commit a result whose shards are all done, from what its markers in storage say.

    Doing it again, wherever it was broken off, ends in the same bytes.

    Args:
        write_id: id of the commit. Whoever has to do this again with the same one knows the commit for its own.

    Returns:
        `result.json` as it was committed, and whether by this `write_id`; else another writer was faster and made the same.

    Raises:
        PublishError: if a shard is missing or an output fails its check; nothing becomes visible.
    """
    shards: dict[tuple[int, int], ShardRecord] = {}
    try:
        result, won = _publish(store, publication, write_id, shards)
    except (MissingObjectError, _NotDoneError):
        if not (theirs := committed_document(store, publication.prefix)):
            raise  # else whoever committed it has removed the tiles that this call was reading
        result, won = theirs, theirs.get("write_id") == write_id
    except DamagedPartError as error:
        store.delete(error.key)  # without it no marker is believed
        raise PublishError(f"{publication.name}: {error}; run again: its block is computed again") from error
    for shard in shards.values():
        if shard.tiles:  # their bytes are in the files now; gc removes what stays
            with suppress(StorageError):
                store.delete(tiles_key(publication.prefix, shard.row, shard.col))
    return result, won


def _publish(
    store: Store, publication: Publication, write_id: str, shards: dict[tuple[int, int], ShardRecord]
) -> tuple[dict[str, Any], bool]:  # fmt: skip
    """Write everything, then the commit; `shards` gets the shards that the result is made of."""
    shards |= _shards(store, publication, publication.layout)
    ordered = [shards[place] for place in sorted(shards)]
    counted = add_up(Counted(tally=shard.tally, sums=dict(shard.sums)) for shard in ordered)
    counted = replace(counted, tables=read_tables(store, publication.prefix, ordered))
    files: dict[str, StoredObject] = {
        f"{DATA}/{key}": stored for shard in ordered for key, stored in shard.objects if stored
    }
    with _Writer(store, publication.prefix, files) as writer:
        _write_pixels(store, publication, shards, counted, writer)
        theirs = committed_document(store, publication.prefix)
        if theirs and _same_pixels(theirs, files):  # its item may have been corrected since, and is not to be touched
            return theirs, theirs.get("write_id") == write_id
        _write_documents(publication, counted, writer)
    result = _result(publication, counted, files, write_id)
    _check_complete(store, publication, files)
    return result, commit(store, f"{publication.prefix}/{RESULT}", result)


def _write_pixels(
    store: Store, publication: Publication, shards: Mapping[tuple[int, int], ShardRecord], counted: Counted,
    writer: _Writer,
) -> None:  # fmt: skip
    """Write the metadata of the Zarr, its levels beyond a shard, the COGs, the files beside them, and the picture."""
    layout = publication.layout
    sums = {layer: total for product in publication.products for layer, total in product.sums(counted).items()}
    for name, data in layout.metadata().items():
        writer.put(f"{DATA}/{name}", data)
    for raster in publication.rasters:
        table = raster.attribute_table(counted) if raster.attribute_table else ""
        writer.files[raster.file] = _write_cog(store, publication, layout, raster, shards, sums, table, writer)
    for product in publication.products:
        for name, data in product.sidecars(counted).items():
            writer.put(name, data)
    writer.finish()  # the picture is made from the Zarr, and the item tells sizes of everything
    writer.put(QUICKLOOK, _quicklook(store, publication, layout, counted))
    writer.finish()


def _write_documents(publication: Publication, counted: Counted, writer: _Writer) -> None:
    """Write the STAC item, which tells the sizes of all files so far, and the documents that it leads to."""
    main, about = publication.main_product, publication.about
    item = about.item(publication.assets(writer.files, counted), main.areas(counted))
    if counts := main.counts(counted):
        item["properties"] = {**item["properties"], "earthloom:objects": dict(counts)}
    writer.put(ITEM, canonical(item))
    for key, document in about.documents().items():
        writer.put_outside(key, canonical(document))
    writer.finish()


def _result(
    publication: Publication, counted: Counted, files: Mapping[str, StoredObject], write_id: str
) -> dict[str, Any]:
    """The document whose presence commits a result."""
    main = publication.main_product
    counts = main.counts(counted)
    return {
        "format": FORMAT, "prefix": publication.prefix, **publication.about.fields(),
        "files": {name: asdict(stored) for name, stored in sorted(files.items())},
        "class_areas": main.areas(counted), "nodata_px": main.nodata_px(counted), "write_id": write_id,
        **({"objects": dict(counts)} if counts else {}),
    }  # fmt: skip


def _same_pixels(theirs: Mapping[str, Any], files: Mapping[str, StoredObject]) -> bool:
    """Whether a committed result has exactly these files, apart from its item."""
    others = {name: stored for name, stored in theirs.get("files", {}).items() if name != ITEM}
    return others == {name: asdict(stored) for name, stored in files.items()}


def _shards(store: Store, publication: Publication, layout: ZarrLayout) -> dict[tuple[int, int], ShardRecord]:
    """All shards of the result, or what is wrong with the first one that is not there."""
    sizes = {head.key: head.size for head in store.list(publication.prefix)}
    done, lost = vouched_shards(store, publication.prefix, layout, sizes)
    rows, cols = layout.pyramid.shard_grid
    expected = [(row, col) for row in range(rows) for col in range(cols)]
    if missing := [place for place in expected if place not in done]:
        row, col = missing[0]
        raise _NotDoneError(
            f"{publication.name}: {len(missing)} of {len(expected)} shards are not done, the first is {row}_{col}: "
            f"{lost.get((row, col), 'no marker vouches for it')}; it is not published. Run again"
        )
    return {place: done[place] for place in expected}


class _Writer:
    """Writes a result's objects, several at a time, and notes what the result will vouch for."""

    def __init__(self, store: Store, prefix: str, files: dict[str, StoredObject]) -> None:
        self._store, self._prefix, self.files = store, prefix, files
        self._pool = ThreadPoolExecutor(_PUTS, "put")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def put(self, name: str, data: bytes) -> None:
        """Write an object below the prefix, soon; waits for others while many are on their way."""
        self.files[name] = StoredObject.of(data)
        self.put_outside(f"{self._prefix}/{name}", data)

    def put_outside(self, key: str, data: bytes) -> None:
        """Write an object that is no part of the result, like `put`."""
        while len(self._waiting) >= _PUTS:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._store.put, key, data))

    def finish(self) -> None:
        """Wait until all that was put is written; raises the first error."""
        while self._waiting:
            self._waiting.popleft().result()


def _write_cog(
    store: Store, publication: Publication, layout: ZarrLayout, raster: Raster, shards: Mapping[tuple[int, int], ShardRecord],
    sums: Mapping[str, BandSum], attribute_table: str, writer: _Writer,
) -> StoredObject:  # fmt: skip
    """Write one COG, and those levels of its layers in the Zarr that no owner of a shard has written."""
    profile = replace(raster.profile, band_tags=_band_tags(raster, sums), attribute_table=attribute_table)
    parts = {place: _part_of(publication, raster, shard) for place, shard in shards.items()}
    digest, size = hashlib.sha256(), 0

    def hashed(pieces: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal size
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            yield piece

    with ExitStack() as stack:
        stack.enter_context(_enough_scratch(publication))
        assembly = stack.enter_context(CogAssembly(profile, layout.pyramid, parts, store.get_range))

        def keep(place: Place, pixels: NDArray[Any]) -> None:
            level, row, col = place
            for layer, band in zip(raster.layers, pixels, strict=True):
                if (data := layout.encode_shard(level, layer, band)) is not None:
                    writer.put(f"{DATA}/{layout.shard_key(level, layer, row, col)}", data)

        assembly.make_further(raster.reduce, keep)
        first, rest = assembly.finish(profile)
        _check_cog(publication, raster, first)
        store.upload(f"{publication.prefix}/{raster.file}", hashed(chain([first], rest)), assembly.tile_bytes)
    return StoredObject(size, digest.hexdigest())


def _part_of(publication: Publication, raster: Raster, shard: ShardRecord) -> ShardPart | None:
    """The place of a shard's tiles of one file; None if all of the shard is nodata."""
    start = 0
    for file, index in shard.files:
        if file == raster.file:
            return ShardPart(key=tiles_key(publication.prefix, shard.row, shard.col), start=start, index=index)
        start += index.size_bytes
    return None


@contextmanager
def _enough_scratch(publication: Publication) -> Iterator[None]:
    """A full disk is reported with what would help."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        folder = tempfile.gettempdir()
        raise PublishError(
            f"{publication.name}: {error.strerror} in {folder}, {shutil.disk_usage(folder).free / _MIB:.1f} MiB are free; "
            "overview tiles of a large scene need some scratch space: free some, or set TMPDIR to a folder with more. "
            "Nothing was published"
        ) from error


def _check_complete(store: Store, publication: Publication, files: Mapping[str, StoredObject]) -> None:
    """Everything that the result will vouch for is there; one listing."""
    sizes = {head.key: head.size for head in store.list(publication.prefix)}
    for name, stored in files.items():
        if (found := sizes.get(f"{publication.prefix}/{name}")) != stored.size:
            raise PublishError(
                f"{publication.name}: {publication.prefix}/{name} was written with {stored.size} bytes and storage has {found} "
                "(None: no such object); it is not published. Run again"
            )


def _band_tags(raster: Raster, sums: Mapping[str, BandSum]) -> tuple[Mapping[str, str], ...]:
    """The profile's own tags of each band, and GDAL's statistics, so that viewers need not compute them."""
    own = raster.profile.band_tags or ({},) * len(raster.layers)
    return tuple(dict(tags) | statistics.tags(sums[layer]) for tags, layer in zip(own, raster.layers, strict=True))


def _check_cog(publication: Publication, raster: Raster, first: bytes) -> None:
    """Open the beginning of the file with GDAL: everything but the larger levels' tiles, which carry checksums."""
    import rasterio
    from rasterio.crs import CRS
    from rasterio.io import MemoryFile
    from rasterio.session import DummySession

    profile = raster.profile
    grid = profile.grid
    # of memory alone, as in `tiling.writing.cog`
    with rasterio.Env(session=DummySession()), MemoryFile(first) as memory, memory.open(driver="GTiff") as dataset:
        found = (dataset.shape, dataset.crs, dataset.transform, repr(dataset.nodata), len(dataset.overviews(1)))
    meant = (
        grid.shape, CRS.from_string(grid.crs), grid.affine,
        repr(float(np.dtype(profile.dtype).type(profile.nodata))), len(profile.shapes) - 1,
    )  # fmt: skip
    if found != meant:
        raise PublishError(
            f"{publication.name}: {raster.file} reads back as {found}, meant was {meant}; it is not published"
        )


def _quicklook(store: Store, publication: Publication, layout: ZarrLayout, counted: Counted) -> bytes:
    level = layout.pyramid.level_within(PICTURE_PX)
    source = store.zarr(f"{publication.prefix}/{DATA}", read_only=True)
    east, south = publication.grid.transform[0], publication.grid.transform[4]

    def layer(name: str) -> NDArray[Any]:
        pixels = np.asarray(open_array(source, level, name)[:])
        return pixels[:: -1 if south > 0 else 1, :: -1 if east < 0 else 1]  # north up, whichever way the rows run

    return publication.main_product.picture(
        layer, counted, publication.name, pixel_size_m(publication.grid.reduce(2**level))
    )
