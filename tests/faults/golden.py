"""Two small scenes, the run that maps them without a fault, and the comparison of what other runs publish with it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.parquet as pq

from earthloom.cluster.retry import Budget
from earthloom.jobs.config import RunConfig, load
from earthloom.jobs.execution.driver import RunResult, run
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.probe import PREFIX as PROBE
from earthloom.tiling.storage.store import open_store
from tests.faults.store import Injector, Request, injected
from tests.maps import OPTIONS
from tests.scenes import write_scene
from tests.thrift import thrifty

SIDE_PX = 1544
"""Four shards of 512 px across; the last is 8 px wide."""
SMALL_PX = 520
"""Two shards across, for tests that run very often."""


@dataclass(frozen=True, slots=True)
class Golden:
    """A run without faults."""

    scenes: Path
    blocks: int
    """Of all scenes."""
    published: dict[str, bytes]
    """By name below OUT, without what differs from run to run."""
    requests: tuple[Request, ...]
    """Every request to OUT."""
    lanes: int
    """Blocks in flight at once."""


def write_scenes(folder: Path, side_px: int = SIDE_PX, *, shift: int = 0) -> Path:
    """Two smooth scenes; a corner of the second holds no data."""
    rows, cols = np.mgrid[0:side_px, 0:side_px]
    for number, name in enumerate(("east", "west")):
        pixels = np.stack([3000 + 50 * shift + 2 * cols // (3 + number), 3000 + rows]).astype(np.uint16)
        if number:
            pixels[:, : side_px // 3, : side_px // 3] = 0
        write_scene(folder / f"{name}.tif", pixels, ("green", "swir16"), nodata=0, compress="lzw")
    return folder


def config(scenes: Path | str, out: Path | str, **options: Any) -> RunConfig:
    return load({"scenes": (str(scenes),), "out": str(out), **OPTIONS, **options})


def golden(folder: Path, side_px: int = SIDE_PX) -> Golden:
    """Make the scenes below `folder` and run them without a fault."""
    scenes = write_scenes(folder / "scenes", side_px)
    out, injector = folder / "golden", Injector()
    lanes: list[int] = []
    with injected(injector, out):
        result = run(config(scenes, out), on_plan=lambda plan: lanes.append(plan.shape.lanes))
    assert result.exit_code == 0, result
    blocks = 2 * ceil_div(side_px, 512) ** 2
    assert injector.markers == blocks
    return Golden(scenes, blocks, published(out), tuple(injector.requests), lanes[0])


def published(out: Path | str) -> dict[str, bytes]:
    """Everything below OUT, a folder or an s3:// prefix, that must be the same whatever happened on the way.

    Left out: pages of runs, attempts, markers (they hold times), files and probes of dead writers, write ids, and when each
    row of a table was committed.
    """
    store = open_store(ObjectRef.parse(str(out)))
    found = {}
    for head in store.list():
        name = head.key
        if name.startswith((".", PROBE)) or name.endswith("/index.html") or "/attempts/" in name or "/blocks/" in name:
            continue
        data = store.get(name)
        if name.endswith(("/items.parquet", "/latest.parquet")):
            data = _without_times(data)
        if name.endswith(("/result.json", "/commit.json", "/plan.json")):
            data = json.dumps({k: v for k, v in json.loads(data).items() if k != "write_id"}, sort_keys=True).encode()
        found[name] = data
    return found


def _without_times(table: bytes) -> bytes:
    """A table of items without the moment at which each was committed."""
    rows = pq.read_table(io.BytesIO(table)).drop_columns("published")
    return json.dumps([rows.schema.to_string(), rows.to_pylist()], sort_keys=True, default=repr).encode()


def markers(out: Path) -> int:
    """Blocks that storage vouches for."""
    return len(list(out.glob("scenes/*/*/blocks/*.json")))


def differences(found: dict[str, bytes], wanted: dict[str, bytes]) -> list[str]:
    """Names that are missing, superfluous or hold other bytes."""
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


@contextmanager
def hurried() -> Iterator[None]:
    """Pauses before retries are short, and what concerns no fault is done once, so that thousands of runs take minutes."""
    quick = Budget(backoff_s=0.01, backoff_max_s=0.05)
    logging.disable(logging.ERROR)
    try:
        late = mock.patch("earthloom.jobs.publish.linker.PAUSE_S", 3600.0)  # else requests would depend on the time
        with mock.patch("earthloom.jobs.execution.engine.BUDGET", quick), late, thrifty():
            yield
    finally:
        logging.disable(logging.NOTSET)


def attempt(settings: RunConfig, out: Path, injector: Injector) -> RunResult | BaseException:
    """One run under an injector: how it ended, or what it raised."""
    with injected(injector, out):
        try:
            return run(settings)
        except Exception as error:  # the caller judges which errors a run may end with
            return error
