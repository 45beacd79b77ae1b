"""From finished shards to a published scene: overviews, COGs, quicklook, STAC item, and `result.json`, the commit.

Holds one 2 x 2 group of shards at a time, whatever the size of the scene. Everything written before `result.json` is
invisible to a reader who follows the catalogue; writing it again writes the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.commit import commit
from jobs.key import FORMAT, canonical
from jobs.ledger import ShardRecord, StoredObject, read_document
from jobs.outputs import (
    DATA,
    ITEM,
    QUICKLOOK,
    RESULT,
    assets,
    card_document,
    card_key,
    cog_name,
    cog_profiles,
    layout_of,
    provenance,
    sidecar_names,
)
from jobs.plan import ScenePlan
from jobs.products import legend, quicklook, stac, statistics
from jobs.products.validate import validate
from tiling.cog import TILE_PX, CogProfile, TileSpool
from tiling.errors import MissingObjectError, PublishError
from tiling.overview import NODATA, reduce_mean, reduce_mode
from tiling.store import Store
from tiling.window import Window
from tiling.zarr_sink import ZarrLayout, open_array

_REDUCE: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "classes": reduce_mode,
    "confidence": reduce_mean,
}
_QUICKLOOK_PX = 1024
_MIB = 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneResult:
    """A committed scene, as `result.json` says it."""

    scene_id: str
    key: str
    prefix: str
    files: Mapping[str, StoredObject]
    """By name below the prefix; shards are among them."""
    class_areas: tuple[Mapping[str, Any], ...]
    nodata_px: int

    @classmethod
    def from_json(cls, data: bytes, where: str) -> SceneResult:
        document = read_document(data, where)
        return cls(
            scene_id=document["scene_id"], key=document["key"], prefix=document["prefix"],
            files={name: StoredObject(**stored) for name, stored in document["files"].items()},
            class_areas=tuple(document["class_areas"]), nodata_px=document["nodata_px"],
        )  # fmt: skip


def prepare(store: Store, plan: ScenePlan) -> None:
    """Write the Zarr's metadata, before any block runs. Writing it again changes nothing."""
    for key, data in layout_of(plan).metadata().items():
        store.put(f"{plan.prefix}/{DATA}/{key}", data)


def committed(store: Store, plan: ScenePlan) -> SceneResult | None:
    """The scene's result if it is published."""
    key = f"{plan.prefix}/{RESULT}"
    try:
        return SceneResult.from_json(store.get(key), key)
    except MissingObjectError:
        return None


def publish(store: Store, plan: ScenePlan, shards: Mapping[tuple[int, int], ShardRecord]) -> tuple[SceneResult, bool]:
    """Assemble, check and commit a scene whose shards are all done.

    Returns:
        The result, and whether this call committed it; False if another driver was faster and made the same.

    Raises:
        PublishError: if a shard is missing or an output fails its check; nothing becomes visible.
    """
    if theirs := committed(store, plan):
        return theirs, False
    expected = {
        (row, col)
        for row in range(-(-plan.scene.grid.height // plan.shard_px))
        for col in range(-(-plan.scene.grid.width // plan.shard_px))
    }
    if missing := sorted(expected - set(shards)):
        raise PublishError(
            f"{plan.scene.id}: {len(missing)} of {len(expected)} shards are not done, the first is {missing[0]}"
        )
    layout = layout_of(plan)
    ordered = [shards[place] for place in sorted(expected)]
    total = statistics.merge([shard.tally for shard in ordered])
    areas = statistics.class_areas(total, plan.card)
    files: dict[str, StoredObject] = {
        f"{DATA}/{layout.shard_key(0, name, shard.row, shard.col)}": stored
        for shard in ordered
        for name, stored in shard.objects
        if stored
    }

    def put(name: str, data: bytes) -> None:
        store.put(f"{plan.prefix}/{name}", data)
        files[name] = StoredObject(len(data), hashlib.sha256(data).hexdigest())

    for name, data in layout.metadata().items():
        files[f"{DATA}/{name}"] = StoredObject(len(data), hashlib.sha256(data).hexdigest())
    with _scratch(plan, len(layout.layers)) as scratch, ExitStack() as stack:
        spools = {
            layer.name: stack.enter_context(TileSpool(plan.scene.grid, scratch / f"{layer.name}.tiles"))
            for layer in layout.layers
        }
        histograms = _make_levels(store, plan, layout, spools, put)
        _check_tally(plan, histograms, total)
        profiles = cog_profiles(plan, {name: _statistics_tags(counts) for name, counts in histograms.items()})
        for layer, spool in spools.items():
            name = cog_name(plan, layer)
            path = scratch / name
            spool.write(path, profiles[layer])
            _check_cog(path, profiles[layer], histograms[layer])
            store.upload(f"{plan.prefix}/{name}", path)
            files[name] = StoredObject(path.stat().st_size, _sha256_of(path))
            path.unlink()
    style, metadata = sidecar_names(plan)
    put(style, legend.qml(plan.card))
    put(metadata, legend.pam(plan.card, areas))
    put(QUICKLOOK, _quicklook(store, plan, layout, areas))
    store.put(card_key(plan), canonical(card_document(plan.card, plan.folder)))
    item = stac.item(
        scene=plan.scene, card=plan.card, key=plan.key, grid=plan.scene.grid, rows=areas,
        assets=assets(plan, files, total), provenance=provenance(plan),
    )  # fmt: skip
    validate(item)
    put(ITEM, canonical(item))
    result = {
        "format": FORMAT, "scene_id": plan.scene.id, "key": plan.key, "prefix": plan.prefix, "model": plan.card.name,
        "files": {name: {"size": stored.size, "sha256": stored.sha256} for name, stored in sorted(files.items())},
        "class_areas": areas, "nodata_px": total.nodata,
    }  # fmt: skip
    _check_complete(store, plan, files)
    won = commit(store, f"{plan.prefix}/{RESULT}", result)
    return SceneResult.from_json(canonical(result), RESULT), won


@contextmanager
def _scratch(plan: ScenePlan, n_layers: int) -> Iterator[Path]:
    """A folder for compressed tiles and the COG that is made of them; a full disk is told with what was needed."""
    most = (n_layers + 1) * plan.scene.grid.window.size_px * 4 // 3  # every layer's tiles and one file, not compressed
    with tempfile.TemporaryDirectory(prefix="earthloom-") as folder:
        try:
            yield Path(folder)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            used = sum(path.stat().st_size for path in Path(folder).iterdir())
            free = shutil.disk_usage(folder).free
            raise PublishError(
                f"{plan.scene.id}: {error.strerror} in {folder} after {used / _MIB:.1f} MiB, {free / _MIB:.1f} MiB are "
                f"free; its maps need up to {most / _MIB:.1f} MiB of scratch space: free some, or set TMPDIR to a folder "
                "with more. Nothing was published"
            ) from error


def _check_tally(plan: ScenePlan, histograms: Mapping[str, NDArray[np.int64]], total: statistics.Tally) -> None:
    """The pixels that were read back are those that the blocks counted: a lost shard would read as nodata, silently."""
    classes, confidence = histograms["classes"], histograms["confidence"]
    counted = {value: n for value, n in enumerate(total.pixels) if n} | ({NODATA: total.nodata} if total.nodata else {})
    found = {value: n for value, n in enumerate(classes.tolist()) if n}
    sums = sum(total.confidence_sums), int((confidence[:NODATA] * np.arange(NODATA)).sum())
    if counted != found or sums[0] != sums[1]:
        raise PublishError(
            f"{plan.scene.id}: blocks counted pixels by class {counted} but storage holds {found} (confidence sums "
            f"{sums[0]} and {sums[1]}); a shard was lost or changed. Run again: what is missing is computed again"
        )


def _check_complete(store: Store, plan: ScenePlan, files: Mapping[str, StoredObject]) -> None:
    """Everything that the result will vouch for is there; one listing."""
    sizes = {head.key: head.size for head in store.list(plan.prefix)}
    for name, stored in files.items():
        if (found := sizes.get(f"{plan.prefix}/{name}")) != stored.size:
            raise PublishError(
                f"{plan.scene.id}: {plan.prefix}/{name} was written with {stored.size} bytes and storage has {found} "
                "(None: no such object); it is not published. Run again"
            )


def _make_levels(
    store: Store,
    plan: ScenePlan,
    layout: ZarrLayout,
    spools: Mapping[str, TileSpool],
    put: Callable[[str, bytes], None],
) -> dict[str, NDArray[np.int64]]:
    """Overview shards and the COGs' tiles of every level, from the shards of level 0.

    Returns:
        Histogram of the stored values of each layer at full resolution: (256,) int64.
    """
    source = store.zarr(f"{plan.prefix}/{DATA}", read_only=True)
    histograms = {}
    for layer, spool in spools.items():
        histograms[layer] = np.zeros(256, np.int64)
        for level, (rows, cols) in enumerate(layout.shapes):
            array = open_array(source, level, layer)
            for group in Window(0, 0, cols, rows).split(2 * plan.shard_px):
                reduced = []
                for part in _strips(group):
                    pixels = np.asarray(array[part.row_off : part.row_end, part.col_off : part.col_end])
                    spool.add_pixels(level, part.row_off, part.col_off, pixels)
                    if level == 0:
                        histograms[layer] += np.bincount(pixels.ravel(), minlength=256)
                    reduced.append(_REDUCE[layer](pixels))
                if level + 1 < len(layout.shapes):
                    data = layout.encode_shard(layer, np.concatenate(reduced))
                    if data is not None:
                        row, col = group.row_off // (2 * plan.shard_px), group.col_off // (2 * plan.shard_px)
                        put(f"{DATA}/{layout.shard_key(level + 1, layer, row, col)}", data)
    return histograms


def _strips(group: Window) -> list[Window]:
    """A group of shards as strips of a tile's height: memory then is a strip's, not a group's."""
    return [
        Window(group.col_off, row, group.width, min(TILE_PX, group.row_end - row))
        for row in range(group.row_off, group.row_end, TILE_PX)
    ]


def _statistics_tags(histogram: NDArray[np.int64]) -> dict[str, str]:
    """GDAL's band statistics over valid pixels, so that viewers need not compute them."""
    counts = histogram[:NODATA].tolist()
    n = sum(counts)
    if not n:
        return {"STATISTICS_VALID_PERCENT": "0"}
    values = [value for value, count in enumerate(counts) if count]
    mean = sum(value * count for value, count in enumerate(counts)) / n
    variance = sum((value - mean) ** 2 * count for value, count in enumerate(counts)) / n
    return {
        "STATISTICS_MINIMUM": str(values[0]), "STATISTICS_MAXIMUM": str(values[-1]), "STATISTICS_MEAN": repr(mean),
        "STATISTICS_STDDEV": repr(variance**0.5),
        "STATISTICS_VALID_PERCENT": f"{100 * n / int(histogram.sum()):.4g}",
    }  # fmt: skip


def _check_cog(path: Path, profile: CogProfile, histogram: NDArray[np.int64]) -> None:
    """Read the file back with GDAL, part by part: right georeferencing and every pixel accounted for."""
    import rasterio
    from rasterio.crs import CRS
    from rasterio.windows import Window as RasterioWindow

    grid, found = profile.grid, np.zeros(256, np.int64)
    with rasterio.Env(GDAL_CACHEMAX=32), rasterio.open(path, driver="GTiff") as dataset:
        told = (dataset.shape, dataset.crs, dataset.transform, dataset.nodata, len(dataset.overviews(1)))
        meant = (grid.shape, CRS.from_string(grid.crs), grid.affine, NODATA, len(profile.shapes) - 1)
        if told != meant:
            raise PublishError(f"{path.name} reads back as {told}, meant was {meant}; it is not published")
        for part in grid.window.split(4 * TILE_PX):
            window = RasterioWindow(part.col_off, part.row_off, part.width, part.height)
            found += np.bincount(dataset.read(1, window=window).ravel(), minlength=256)
    if not np.array_equal(found, histogram):
        raise PublishError(f"{path.name} does not hold the pixels of the Zarr; it is not published")


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _quicklook(store: Store, plan: ScenePlan, layout: ZarrLayout, areas: list[statistics.ClassArea]) -> bytes:
    level = next((n for n, shape in enumerate(layout.shapes) if max(shape) <= _QUICKLOOK_PX), len(layout.shapes) - 1)
    pixels = np.asarray(open_array(store.zarr(f"{plan.prefix}/{DATA}", read_only=True), level, "classes")[:])
    east, south = plan.scene.grid.transform[0], plan.scene.grid.transform[4]
    pixels = pixels[:: -1 if south > 0 else 1, :: -1 if east < 0 else 1]  # north up, whichever way the rows run
    return quicklook.quicklook_png(
        pixels, card=plan.card, title=plan.scene.id, rows=areas,
        pixel_m=quicklook.pixel_size_m(plan.scene.grid.reduce(2**level)),
    )  # fmt: skip
