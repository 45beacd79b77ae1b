"""Predicted peak memory of one worker: a pure function of the plan. Measured against the real peak in tests/bench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from earthloom.jobs.planning.shape import WorkerShape
from earthloom.models.inference.answers import answer_of
from earthloom.models.inference.chain import Stage, windows
from earthloom.tiling.reading.tile_cache import CACHE_BYTES
from earthloom.tiling.resampling import PIECE_BYTES
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.scene import Band
from earthloom.tiling.window import Window
from earthloom.tiling.writing.pyramid import TILE_PX

AHEAD = 1
"""Blocks that are read while others are computed and one is written."""

FAR_AHEAD = 4
"""Where blocks are computed faster than one is read or written: remote storage, or a GPU. As far as memory allows."""

_BASE_BYTES = 650 * 2**20
"""A worker before its first block: interpreter, torch, GDAL, Ray's client; measured, rounded up."""

_SMALL_NETWORK_BYTES = 128 * 2**20
"""Largest weights file whose network is part of the above: that of landwater, with which it was measured, has 118 MiB."""
_LOADING = 2
"""Times its weights file that a network takes while it is loaded: as it was built, and what is copied into it."""

_FLOAT_BYTES = 4

_KEPT = 0.4
"""Share of another stage's memory that is still held; measured on cloudmask, sr-x2 and landwater in one chain."""

_SCATTERED = 1.5
"""Pages of chips to those in use at which enough are kept: at 1.5 landwater and sr-x2 hardly ever give any back."""

_KEPT_SIXTHS = 5
"""Sixths of the predicted peak at which a worker stops keeping pages; a layer of a pass sees it only as it ends."""

_STREAM_BYTES = 80 * 2**20
"""Memory of a file that is put together while it is uploaded: tiles fetched ahead and joined, parts on their way, and
the encoded tiles of the further levels before they go to a temporary file (`tiling.writing.cog_parts`,
`tiling.storage.store`)."""
_TILE_ROWS = 2
"""Rows of decoded tiles of the further levels that are held at once."""
_RECORD_BYTES = 6 * 2**10
"""Memory of a shard's record, with where its tiles lie."""
_PICTURE_PX = 1024 * 1024
_PICTURE_BYTES_PER_PX = 24
"""Memory of the quicklook: the level it is made from, in floats, colours and the drawn picture."""
_LEAST_PUBLISHING_BYTES = 48 * 2**20
"""Least memory of publishing, so that small scenes are published in all lanes at once."""

_GDAL_CACHE_BYTES = 128 * 2**20
"""GDAL_CACHEMAX as set by `tiling.storage.settings`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Peak resident bytes of one worker, by part."""

    base_bytes: int
    network_bytes: int
    """Weights that are held, beyond those of a small network."""
    loading_bytes: int
    """Memory of those weights while they are loaded, which is before the first block."""
    chips_bytes: int
    """Activations of all passes at once, from the card's measured bytes per chip pixel."""
    blocks_bytes: int
    """Values, masks and outputs of the blocks in the worker's lanes."""
    cache_bytes: int
    """Decoded source pixels: held by GDAL while it reads or averages, and by `tiling.reading.tile_cache` for later."""
    publishing_bytes: int
    """Memory of a scene that is published, beyond that of the block whose lane it takes."""
    shape: WorkerShape
    """What the worker does at once, for which this is enough."""

    @property
    def idle_bytes(self) -> int:
        """Memory before the first block."""
        return self.base_bytes + max(self.loading_bytes, self.network_bytes)

    @property
    def total_bytes(self) -> int:
        working = self.chips_bytes + self.blocks_bytes + self.cache_bytes + self.publishing_bytes
        return self.base_bytes + max(self.loading_bytes, self.network_bytes + working)


def predict(
    stages: Sequence[Stage],
    bands: Sequence[Band],
    stored_bytes: int,
    *,
    block_px: int,
    shard_px: int,
    batch: int,
    on_gpu: bool,
    passes: int = 1,
    ahead: int = AHEAD,
    keeps_pages: bool = False,
    pixel_px: int = 1,
    table_bytes: int = 0,
    network_bytes: int = 0,
) -> MemoryPlan:
    """Peak memory of a worker, whatever the size of the scene.

    Args:
        stages: stages of the chain.
        bands: read from the source.
        stored_bytes: stored size of one pixel of the result, all layers together.
        batch: chips per forward pass.
        passes: forward passes at once.
        ahead: blocks that are read at once.
        keeps_pages: with room for free pages among those in use.
        pixel_px: pixels of the last stage's output per pixel of the result and side; blocks and shards are of the result's.
        table_bytes: size of a row for each pixel of the result, while it is published.
        network_bytes: size of all weights files, in fp32.
        on_gpu: networks, chips and images between stages then live in GPU memory and do not count here, except while they are
            loaded.
    """
    last = stages[-1]
    fine = last.chips.scene.zoom(last.card.scale)
    result = Window(0, 0, ceil_div(fine.width, pixel_px), ceil_div(fine.height, pixel_px))
    owned = Window(0, 0, block_px, block_px) & result
    core = owned.zoom(pixel_px) & fine
    made_and_read = windows(stages, core)
    n_parts = max(
        ceil_div(len(stage.chips.cores(own)), batch) for stage, (own, _) in zip(stages, made_and_read, strict=True)
    )
    computing = ceil_div(passes + n_parts - 1, n_parts)  # no pass idles while a block runs its last few
    lanes = computing + ahead + 1
    read_px = made_and_read[0][1].size_px
    value_bytes = len(bands) * np.result_type(*(band.dtype for band in bands)).itemsize
    held = read_px * (value_bytes + 1)
    # the block's layers, and of one shard at a time a copy with its overviews (4 / 3) and its encoded tiles
    written = int((owned.size_px + 2.5 * min(owned.size_px, shard_px**2)) * stored_bytes)
    if answer_of(last.card).stored_bytes or len(stages) > 1:
        written += 256 * min(owned.width, shard_px) * 8 * 4  # a strip of areas with temporaries
    answers = _answers_bytes(stages, [own.size_px for own, _ in made_and_read])
    chips = _of_all_stages([_chips_bytes(stage, batch, passes, computing) for stage in stages])
    publishing = max(_LEAST_PUBLISHING_BYTES, publishing_bytes(result, shard_px, stored_bytes, table_bytes))
    large = max(0, network_bytes - _SMALL_NETWORK_BYTES)
    width = max(_FLOAT_BYTES if stage.precision == "fp32" else 2 for stage in stages)
    made = MemoryPlan(
        base_bytes=_BASE_BYTES,
        network_bytes=0 if on_gpu else large * width // _FLOAT_BYTES,
        loading_bytes=_LOADING * large + _SMALL_NETWORK_BYTES if large else 0,
        chips_bytes=0 if on_gpu else int(chips * (_SCATTERED if keeps_pages else 1.0)),
        # one more `held` while the border is reflected
        blocks_bytes=lanes * (held + written) + held + (0 if on_gpu else computing * answers),
        cache_bytes=min(_GDAL_CACHE_BYTES, read_px * value_bytes)
        + (ahead * PIECE_BYTES if any(band.resampling == "average" for band in bands) else 0)
        + (min(CACHE_BYTES, lanes * read_px * value_bytes) if stages[0].reach_px else 0),
        publishing_bytes=max(0, publishing - held - written),
        shape=WorkerShape(
            lanes=lanes, passes=passes, computing=computing, ahead=ahead, publishing_bytes=publishing
        ),
    )  # fmt: skip
    if not keeps_pages:
        return made
    return replace(made, shape=replace(made.shape, kept_bytes=made.total_bytes * _KEPT_SIXTHS // 6))


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
