"""From finished shards to a published scene: overviews, COGs, quicklook, STAC item, and `result.json`, the commit.

Holds one 2 x 2 group of shards at a time, whatever the size of the scene. Everything written before `result.json` is
invisible to a reader who follows the catalogue; writing it again writes the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.commit import commit
from jobs.key import FORMAT, canonical
from jobs.ledger import ShardRecord, StoredObject, read_document
from jobs.outputs import (
    CLASSES,
    DATA,
    ITEM,
    QUICKLOOK,
    RESULT,
    Raster,
    assets,
    card_document,
    card_key,
    layout_of,
    provenance,
    rasters,
    sidecar_names,
)
from jobs.plan import ScenePlan
from jobs.products import image_statistics, legend, quicklook, stac, statistics
from jobs.products.image_statistics import BandSum
from jobs.products.validate import validate
from tiling.cog import TILE_PX, TileSpool
from tiling.errors import MissingObjectError, PublishError
from tiling.overview import NODATA
from tiling.store import Store
from tiling.window import Window
from tiling.zarr_sink import ZarrLayout, open_array

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
        for row in range(-(-plan.grid.height // plan.shard_px))
        for col in range(-(-plan.grid.width // plan.shard_px))
    }
    if missing := sorted(expected - set(shards)):
        raise PublishError(
            f"{plan.scene.id}: {len(missing)} of {len(expected)} shards are not done, the first is {missing[0]}"
        )
    layout = layout_of(plan)
    ordered = [shards[place] for place in sorted(expected)]
    total = statistics.merge([shard.tally for shard in ordered if shard.tally]) if plan.card.classes else None
    areas = statistics.class_areas(total, plan.card) if total else []
    sums = _sums(ordered)
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
    with _scratch(plan, layout) as scratch, ExitStack() as stack:
        ready: list[tuple[Raster, TileSpool, Seen]] = []
        for raster in rasters(plan):  # all tiles before the first file: a full disk then leaves no file of the scene
            spool = stack.enter_context(TileSpool(raster.profile, scratch / f"{raster.file}.tiles"))
            seen = _make_levels(store, plan, layout, raster, spool, put)
            _check_seen(plan, raster, seen, total, sums)
            ready.append((raster, spool, seen))
        for raster, spool, seen in ready:
            path = scratch / raster.file
            spool.write(path, replace(raster.profile, band_tags=_band_tags(raster, seen, sums)))
            _check_cog(path, raster, seen)
            store.upload(f"{plan.prefix}/{raster.file}", path)
            files[raster.file] = StoredObject(path.stat().st_size, _sha256_of(path))
            path.unlink()
    if plan.card.classes:
        style, metadata = sidecar_names(plan)
        put(style, legend.qml(plan.card))
        put(metadata, legend.pam(plan.card, areas))
    put(QUICKLOOK, _quicklook(store, plan, layout, areas))
    folders = dict(plan.chain.folders)
    for card in plan.cards:
        store.put(card_key(plan, card), canonical(card_document(card, folders[card.digest()])))
    item = stac.item(
        scene=plan.scene, product=plan.product, card=plan.card, key=plan.key, grid=plan.grid, rows=areas,
        assets=assets(plan, files, total, sums), provenance=provenance(plan),
    )  # fmt: skip
    validate(item)
    put(ITEM, canonical(item))
    result = {
        "format": FORMAT, "scene_id": plan.scene.id, "key": plan.key, "prefix": plan.prefix, "model": plan.product,
        "files": {name: {"size": stored.size, "sha256": stored.sha256} for name, stored in sorted(files.items())},
        "class_areas": areas, "nodata_px": total.nodata if total else max(one.nodata for one in sums.values()),
    }  # fmt: skip
    _check_complete(store, plan, files)
    won = commit(store, f"{plan.prefix}/{RESULT}", result)
    return SceneResult.from_json(canonical(result), RESULT), won


@contextmanager
def _scratch(plan: ScenePlan, layout: ZarrLayout) -> Iterator[Path]:
    """A folder for compressed tiles and the COG that is made of them; a full disk is told with what was needed."""
    widths = {layer.name: np.dtype(layer.dtype).itemsize for layer in layout.layers}
    files = [sum(widths[layer] for layer in raster.layers) for raster in rasters(plan)]
    most = (sum(files) + max(files)) * plan.grid.window.size_px * 4 // 3  # all tiles and one file, not compressed
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


def _sums(shards: Sequence[ShardRecord]) -> dict[str, BandSum]:
    """What the bands of images hold, by layer, from what their shards hold."""
    parts: dict[str, list[BandSum]] = {}
    for shard in shards:
        for layer, total in shard.sums:
            parts.setdefault(layer, []).append(total)
    return {layer: image_statistics.merge(one) for layer, one in parts.items()}


def _check_seen(
    plan: ScenePlan, raster: Raster, seen: Seen, total: statistics.Tally | None, sums: Mapping[str, BandSum]
) -> None:
    """The pixels that were read back are those that the blocks counted: a lost shard would read as nodata, silently."""
    wrong = ""
    for layer in raster.layers:
        if layer in sums:
            if not sums[layer].agrees(seen.sums[layer]):
                wrong = f"{layer} as {sums[layer]} but storage holds {seen.sums[layer]}"
        elif total and layer == CLASSES:
            counted = {value: n for value, n in enumerate(total.pixels) if n} | (
                {NODATA: total.nodata} if total.nodata else {}
            )
            found = {value: n for value, n in enumerate(seen.histogram.tolist()) if n}
            if counted != found:
                wrong = f"pixels by class {counted} but storage holds {found}"
        elif total:
            trust = int((seen.histogram[:NODATA] * np.arange(NODATA)).sum())
            if sum(total.confidence_sums) != trust:
                wrong = f"confidence {sum(total.confidence_sums)} but storage holds {trust}"
    if wrong:
        raise PublishError(
            f"{plan.scene.id}: blocks counted {wrong}; a shard was lost or changed. Run again: what is missing is "
            "computed again"
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


@dataclass(slots=True)
class Seen:
    """What was read back of a raster at full resolution."""

    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """Of a class map or a confidence, by stored value."""
    parts: dict[str, list[BandSum]] = field(default_factory=dict)

    def add(self, raster: Raster, pixels: NDArray[Any]) -> None:
        """Count (C, h, w)."""
        if raster.image is None:
            self.histogram += np.bincount(pixels.ravel(), minlength=256)
            return
        for layer, band in zip(raster.layers, pixels, strict=True):
            self.parts.setdefault(layer, []).append(image_statistics.count(band, raster.profile.nodata))

    @property
    def sums(self) -> dict[str, BandSum]:
        return {layer: image_statistics.merge(parts) for layer, parts in self.parts.items()}


def _make_levels(
    store: Store,
    plan: ScenePlan,
    layout: ZarrLayout,
    raster: Raster,
    spool: TileSpool,
    put: Callable[[str, bytes], None],
) -> Seen:
    """Overview shards and the COG's tiles of every level, from the shards of level 0."""
    source = store.zarr(f"{plan.prefix}/{DATA}", read_only=True)
    seen = Seen()
    for level, (rows, cols) in enumerate(layout.shapes):
        arrays = [open_array(source, level, layer) for layer in raster.layers]
        for group in Window(0, 0, cols, rows).split(2 * plan.shard_px):
            reduced: list[list[NDArray[Any]]] = [[] for _ in arrays]
            for part in _strips(group):
                window = np.s_[part.row_off : part.row_end, part.col_off : part.col_end]
                pixels = np.stack([np.asarray(array[window]) for array in arrays])
                spool.add_pixels(level, part.row_off, part.col_off, pixels)
                if level == 0:
                    seen.add(raster, pixels)
                if level + 1 < len(layout.shapes):
                    for layer, band, strips in zip(raster.layers, pixels, reduced, strict=True):
                        strips.append(raster.reduce(layer, band))
            row, col = group.row_off // (2 * plan.shard_px), group.col_off // (2 * plan.shard_px)
            for layer, strips in zip(raster.layers, reduced, strict=True):
                if strips and (data := layout.encode_shard(layer, np.concatenate(strips))) is not None:
                    put(f"{DATA}/{layout.shard_key(level + 1, layer, row, col)}", data)
    return seen


def _strips(group: Window) -> list[Window]:
    """A group of shards as strips of a tile's height: memory then is a strip's, not a group's."""
    return [
        Window(group.col_off, row, group.width, min(TILE_PX, group.row_end - row))
        for row in range(group.row_off, group.row_end, TILE_PX)
    ]


def _band_tags(raster: Raster, seen: Seen, sums: Mapping[str, BandSum]) -> tuple[Mapping[str, str], ...]:
    """The profile's own tags of each band, and its statistics."""
    own = raster.profile.band_tags or ({},) * len(raster.layers)
    told = [image_statistics.tags(sums[layer]) if raster.image else _statistics_tags(seen.histogram)
            for layer in raster.layers]  # fmt: skip
    return tuple(dict(tags) | statistic for tags, statistic in zip(own, told, strict=True))


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


def _check_cog(path: Path, raster: Raster, seen: Seen) -> None:
    """Read the file back with GDAL, part by part: right georeferencing and every pixel accounted for."""
    import rasterio
    from rasterio.crs import CRS
    from rasterio.windows import Window as RasterioWindow

    profile, found = raster.profile, Seen()
    grid = profile.grid
    with rasterio.Env(GDAL_CACHEMAX=32), rasterio.open(path, driver="GTiff") as dataset:
        told = (dataset.shape, dataset.crs, dataset.transform, repr(dataset.nodata), len(dataset.overviews(1)))
        meant = (
            grid.shape,
            CRS.from_string(grid.crs),
            grid.affine,
            repr(float(profile.nodata)),
            len(profile.shapes) - 1,
        )
        if told != meant:
            raise PublishError(f"{path.name} reads back as {told}, meant was {meant}; it is not published")
        for part in grid.window.split(4 * TILE_PX):
            window = RasterioWindow(part.col_off, part.row_off, part.width, part.height)
            found.add(raster, dataset.read(window=window))
    sums, meant_sums = found.sums, seen.sums
    if not np.array_equal(found.histogram, seen.histogram) or not all(
        sums[layer].agrees(total) for layer, total in meant_sums.items()
    ):
        raise PublishError(f"{path.name} does not hold the pixels of the Zarr; it is not published")


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _quicklook(store: Store, plan: ScenePlan, layout: ZarrLayout, areas: list[statistics.ClassArea]) -> bytes:
    level = next((n for n, shape in enumerate(layout.shapes) if max(shape) <= _QUICKLOOK_PX), len(layout.shapes) - 1)
    source = store.zarr(f"{plan.prefix}/{DATA}", read_only=True)
    east, south = plan.grid.transform[0], plan.grid.transform[4]

    def layer(name: str) -> NDArray[Any]:
        pixels = np.asarray(open_array(source, level, name)[:])
        return pixels[:: -1 if south > 0 else 1, :: -1 if east < 0 else 1]  # north up, whichever way the rows run

    pixel_m = quicklook.pixel_size_m(plan.grid.reduce(2**level))
    if plan.card.classes:
        return quicklook.quicklook_png(
            layer(CLASSES), card=plan.card, title=plan.scene.id, rows=areas, pixel_m=pixel_m
        )  # fmt: skip
    image = next(one for one in plan.chain.images if one.stage == plan.chain.main)
    names = quicklook.true_color(image.bands)
    pixels = np.stack([layer(image.layers[image.bands.index(name)]) for name in names])
    subtitle = f"{plan.card.title or plan.card.label}  ·  {', '.join(dict.fromkeys(names))}"
    return quicklook.image_png(
        pixels, nodata=image.nodata, title=plan.scene.id, subtitle=subtitle, pixel_m=pixel_m
    )  # fmt: skip
