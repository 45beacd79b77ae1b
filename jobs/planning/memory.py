"""Predicted peak memory of one worker: a pure function of the plan. Measured against the real peak in tests/bench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from earthloom.jobs.planning.shape import WorkerShape
from earthloom.models.inference.answers import answer_of
from earthloom.models.inference.chain import Stage, windows
from earthloom.models.networks.registry import libraries_bytes
from earthloom.models.networks.survey import MOST_PX
from earthloom.tiling.reading.tile_cache import CACHE_BYTES
from earthloom.tiling.resampling import PIECE_BYTES
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.scene import Band
from earthloom.tiling.window import Window
from earthloom.tiling.writing.pyramid import TILE_PX

_MANY = 2**31
"""More blocks and scenes than any worker has at once."""

AHEAD = 1
"""Blocks that are read while others are computed and one is written."""

FAR_AHEAD = 4
"""Where blocks are computed faster than one is read or written: remote storage, or a GPU. As far as memory allows."""

_BASE_BYTES = 440 * 2**20
"""A worker without blocks and networks, rounded up. Measured: interpreter, torch, GDAL and the rest of ours 260 MiB, kernels of
its first chip 40; beside them Ray's client some 60, or in a process of its own planning and the catalogue's libraries 130."""
_BASE_ON_GPU_BYTES = 650 * 2**20
"""The same with what torch and CUDA hold of the machine's memory; not measured, for want of a GPU."""

_LOADING = 2
"""Times its weights file that a network takes while it is loaded: as it was built, and what is copied into it."""

_FLOAT_BYTES = 4

_KEPT = 0.4
"""Share of another stage's memory that is still held; measured on cloudmask, sr-x2 and landwater in one chain."""

_SCATTERED = 1.5
"""Pages of chips to those in use at which enough are kept: at 1.5 landwater and sr-x2 hardly ever give any back."""

_KEPT_SIXTHS = 5
"""Sixths of the predicted peak at which a worker stops keeping pages; a layer of a pass sees it only as it ends."""

_COUNTING_BYTES = 12
"""Memory per pixel of a layer that is counted, in each lane: its values and their squares are held in fp64, but hardly ever in
all lanes at once. Bytes are counted in place."""
_SURVEY_BYTES = 64
"""Memory per value that a survey looks at, measured on `dehaze`: as it was read, in fp64, joined, and sorted for quantiles.
Others take as little as a half."""

_STREAM_BYTES = 80 * 2**20
"""Memory of a file that is put together while it is uploaded: tiles fetched ahead and joined, parts on their way, and
the encoded tiles of the further levels before they go to a temporary file (`tiling.writing.cog_parts`,
`tiling.storage.store`)."""
_TILE_ROWS = 2
"""Rows of decoded tiles of the further levels that are held at once."""
_RECORD_BYTES = 6 * 2**10
"""Memory of a shard's record, with where its tiles lie."""
_PICTURE_PX = 1024 * 1024
_PICTURE_BYTES_PER_PX = 40
"""Memory of the quicklook: the level it is made from, in floats, colours and the drawn picture; measured: 38."""
_LEAST_PUBLISHING_BYTES = 48 * 2**20
"""Least memory of publishing, so that small scenes are published in all lanes at once."""

_GDAL_CACHE_BYTES = 128 * 2**20
"""GDAL_CACHEMAX as set by `tiling.storage.settings`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Peak resident bytes of one worker, by part."""

    base_bytes: int
    network_bytes: int
    """Weights that are held."""
    loading_bytes: int
    """Memory of those weights while they are loaded, which is before the first block."""
    chips_bytes: int
    """Activations of all passes at once, from the card's measured bytes per chip pixel."""
    blocks_bytes: int
    """Values, masks and outputs of the blocks in the worker's lanes."""
    cache_bytes: int
    """Decoded source pixels: held by GDAL while it reads or averages, and by `tiling.reading.tile_cache` for later."""
    scene_bytes: int
    """Memory of a scene that is surveyed or published, beyond that of the block whose lane it takes."""
    shape: WorkerShape
    """What the worker does at once, for which this is enough."""

    @property
    def idle_bytes(self) -> int:
        """Memory before the first block."""
        return self.base_bytes + max(self.loading_bytes, self.network_bytes)

    @property
    def total_bytes(self) -> int:
        working = self.chips_bytes + self.blocks_bytes + self.cache_bytes + self.scene_bytes
        return self.base_bytes + max(self.loading_bytes, self.network_bytes + working)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a run asks its workers to do of one scene, as far as memory depends on it."""

    stages: tuple[Stage, ...]
    bands: tuple[Band, ...]
    """Bands that are read from the source."""
    stored_bytes: int
    """Stored size of one pixel of the result, all layers together."""
    has_wide_layers: bool = False
    """Whether a layer has more than a byte for each pixel."""
    table_bytes: int = 0
    """Size of a row for each pixel of the result, while it is published."""
    network_bytes: int = 0
    """Size of all weights files, in fp32."""
    block_px: int
    shard_px: int
    """Sides of a block and of a shard, in pixels of the result."""
    pixel_px: int = 1
    """Pixels of the last stage's output per pixel of the result and side."""
    batch: int = 1
    """Chips per forward pass."""
    on_gpu: bool = False
    """Networks, chips and images between stages then live in GPU memory and do not count, except while they are loaded."""
    n_blocks: int = _MANY
    """Blocks of the whole run, of which a worker may have all at once."""
    n_scenes: int = _MANY
    """Scenes of the whole run; one alone is published when none of its blocks is left."""

    @property
    def result(self) -> Window:
        """Extent of the result."""
        fine = self._fine
        return Window(0, 0, ceil_div(fine.width, self.pixel_px), ceil_div(fine.height, self.pixel_px))

    @property
    def owned(self) -> Window:
        """Core of the largest block, in pixels of the result."""
        return Window(0, 0, self.block_px, self.block_px) & self.result

    @property
    def made_and_read(self) -> list[tuple[Window, Window]]:
        """What each stage makes of that block and what it reads, in pixels of its input."""
        return windows(self.stages, self.owned.zoom(self.pixel_px) & self._fine)

    @property
    def _fine(self) -> Window:
        last = self.stages[-1]
        return last.chips.scene.zoom(last.card.scale)


def predict(work: Work, *, passes: int = 1, ahead: int = AHEAD, keeps_pages: bool = False) -> MemoryPlan:
    """Peak memory of a worker, whatever the size of the scene.

    Args:
        passes: forward passes at once.
        ahead: blocks that are read while others are computed.
        keeps_pages: with room for free pages among those in use.
    """
    own = [made for made, _ in work.made_and_read]
    n_parts = max(
        ceil_div(len(stage.chips.cores(part)), work.batch) for stage, part in zip(work.stages, own, strict=True)
    )
    computing = ceil_div(passes + n_parts - 1, n_parts)  # no pass idles while a block runs its last few
    lanes = computing + ahead + 1
    n_held = min(lanes, work.n_blocks)
    held, source = _held_bytes(work), _source_bytes(work)
    lane = held + _written_bytes(work)
    chips, blocks = 0, n_held * lane
    if work.stages[0].reach_px:
        blocks += held  # beside what it is reflected from
    if not work.on_gpu:
        chips = _of_all_stages([_chips_bytes(stage, work.batch, passes, computing) for stage in work.stages])
        blocks += computing * _answers_bytes(work.stages, [part.size_px for part in own])
    cache = min(_GDAL_CACHE_BYTES, source)
    if any(band.resampling == "average" for band in work.bands):
        cache += ahead * PIECE_BYTES
    if work.stages[0].reach_px:  # also while it puts a read together
        cache += min(CACHE_BYTES, n_held * source)
    published = publishing_bytes(work.result, work.shard_px, work.stored_bytes, work.table_bytes)
    of_scene = max(_LEAST_PUBLISHING_BYTES, published, survey_bytes(work.stages))
    shape = WorkerShape(lanes=lanes, passes=passes, computing=computing, ahead=ahead, scene_bytes=of_scene)
    plan = MemoryPlan(
        base_bytes=(_BASE_ON_GPU_BYTES if work.on_gpu else _BASE_BYTES)
        + libraries_bytes(card for stage in work.stages for card in stage.cards),
        network_bytes=0 if work.on_gpu else work.network_bytes * _widest(work.stages) // _FLOAT_BYTES,
        loading_bytes=_LOADING * work.network_bytes, chips_bytes=int(chips * (_SCATTERED if keeps_pages else 1.0)),
        blocks_bytes=blocks, cache_bytes=cache,
        # of a run with a single scene no block is left, or has begun
        scene_bytes=max(0, of_scene - (lane if work.n_scenes > 1 else blocks + chips)), shape=shape,
    )  # fmt: skip
    if not keeps_pages:
        return plan
    return replace(plan, shape=replace(shape, kept_bytes=plan.total_bytes * _KEPT_SIXTHS // 6))


def publishing_bytes(scene: Window, shard_px: int, stored_bytes: int, table_bytes: int = 0) -> int:
    """Most that publishing one scene takes (`jobs.publish.files`), whatever its size.

    Args:
        scene: extent of the result, in pixels.
        stored_bytes: stored size of one pixel of the result, all layers together.
        table_bytes: size of a row for each of them; 0 where there is no such table.
    """
    whole = scene.size_px * stored_bytes
    tile_rows = _TILE_ROWS * scene.width * TILE_PX * stored_bytes
    n_shards = ceil_div(scene.width, shard_px) * ceil_div(scene.height, shard_px)
    return (
        min(whole, _STREAM_BYTES + tile_rows)
        + n_shards * _RECORD_BYTES
        + scene.size_px * table_bytes
        + _PICTURE_BYTES_PER_PX * min(scene.size_px, _PICTURE_PX)
    )


def survey_bytes(stages: Sequence[Stage]) -> int:
    """Most that surveying one scene takes (`models.networks.survey`), whatever its size; 0 where no stage wants that."""
    return max(
        _SURVEY_BYTES * len(stage.card.bands) * min(MOST_PX, stage.chips.scene.size_px)
        if stage.card.needs_survey
        else 0
        for stage in stages
    )


def _source_bytes(work: Work) -> int:
    """Stored values of what a block reads."""
    return (
        work.made_and_read[0][1].size_px
        * len(work.bands)
        * np.result_type(*(band.dtype for band in work.bands)).itemsize
    )


def _held_bytes(work: Work) -> int:
    """What a block reads, with its mask."""
    return _source_bytes(work) + work.made_and_read[0][1].size_px


def _written_bytes(work: Work) -> int:
    """What a block makes and writes: its layers; and of one shard at a time what counts it, then a copy with its overviews
    (4 / 3) and its encoded tiles."""
    shard_px = min(work.owned.size_px, work.shard_px**2)
    packed, counting = 2.5 * work.stored_bytes, _COUNTING_BYTES if work.has_wide_layers else 0
    written = work.owned.size_px * work.stored_bytes + int(shard_px * max(packed, counting))
    if answer_of(work.stages[-1].card).stored_bytes or len(work.stages) > 1:
        written += 256 * min(work.owned.width, work.shard_px) * 8 * 4  # a strip of areas with temporaries
    return written


def _widest(stages: Sequence[Stage]) -> int:
    """Bytes of a weight as it is held."""
    return max(_FLOAT_BYTES if stage.precision == "fp32" else 2 for stage in stages)


def _answers_bytes(stages: Sequence[Stage], own_px: Sequence[int]) -> int:
    """Memory of the answers of a block: what its chips are cross-faded in, and what one stage passes to the next."""
    answers = [(px, answer_of(stage.card), stage) for px, stage in zip(own_px, stages, strict=True)]
    woven = max(px * answer.woven_bytes(blend=stage.chips.blend) for px, answer, stage in answers)
    return woven + max(px * answer.passed_bytes(is_first=not n) for n, (px, answer, _) in enumerate(answers))


def _of_all_stages(sizes: Sequence[int]) -> int:
    """One stage runs at a time, but the C library keeps part of what the others have freed."""
    return int(max(sizes) + _KEPT * (sum(sizes) - max(sizes)))


def _chips_bytes(stage: Stage, batch: int, passes: int, computing: int) -> int:
    """Memory of the chips that run, and of answers that wait to be looked at (`models.inference.passes`)."""
    per_px = max(
        card.bytes_per_chip_px(stage.precision) or card.bytes_per_chip_px("fp32") or 0.0 for card in stage.cards
    )
    n_values = answer_of(stage.card).values_per_px
    n_waiting = computing * len(stage.cards) * (passes + 2) - passes if passes > 1 else 0
    answers = n_waiting * n_values * (_FLOAT_BYTES if stage.precision == "fp32" else 2)
    return int(batch * stage.chip_px**2 * (passes * per_px + answers))
