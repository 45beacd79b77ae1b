"""A folder that is watched, an OUT in memory, and a run that computes nothing: what tests of the watcher share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from earthloom.jobs.config import RunConfig
from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.intake.references import SceneRequest
from earthloom.jobs.intake.scenes import assign_ids
from earthloom.jobs.operations.options import WatchConfig
from earthloom.jobs.operations.watch import Listeners, Seen, watch
from earthloom.jobs.operations.watched import read_watched
from earthloom.jobs.records.attempt import SceneProgress
from earthloom.jobs.records.result import PublishedDate, SceneSummary
from earthloom.tiling.storage.store import Store
from tests.memory_store import MemoryStore


@dataclass(slots=True)
class Mapper:
    """Stands for the driver of runs: scenes called `bad…` are refused, those called `flaky…` fail in passing once."""

    runs: list[list[str]] = field(default_factory=list)
    """Ids of the scenes of each run that was asked for."""
    failed: set[str] = field(default_factory=set)
    before: Callable[[], None] = lambda: None
    """Called at the beginning of each run."""

    @property
    def mapped(self) -> list[str]:
        return [name for run in self.runs for name in run]

    def __call__(self, config: RunConfig, *, requests: Sequence[SceneRequest], on_event: object = None) -> RunResult:  # noqa: ARG002
        self.before()
        names = [request.id for request in assign_ids(requests)]
        self.runs.append(names)
        scenes, results = dict[str, SceneProgress](), dict[str, SceneSummary]()
        for request, name in zip(requests, names, strict=True):
            if name.startswith("bad"):
                scenes[name] = SceneProgress("refused", kind="SceneError", error=f"{name}: it is no TIFF")
            elif name.startswith("flaky") and name not in self.failed:
                self.failed.add(name)
                scenes[name] = SceneProgress("failed", kind="StorageError", error="503")
            else:
                scenes[name] = SceneProgress("published")
                results[name] = SceneSummary(
                    scene_id=name, key="0" * 64, prefix=f"scenes/{name}/0", model="m", rasters=(), class_areas=(),
                    nodata_px=0, date=PublishedDate(datetime=_date(request), dated_by=None),
                )  # fmt: skip
        return RunResult(run_id="r", out="o", scenes=scenes, results=results, telemetry={})


def _date(request: SceneRequest) -> str | None:
    if request.item:
        return request.item.datetime
    day = request.id.rpartition("_")[2]
    return f"{day[:4]}-{day[4:6]}-{day[6:8]}T00:00:00Z" if day.isdigit() else None


@contextmanager
def memory_out(store: Any, mapper: Mapper) -> Iterator[None]:
    """The watcher writes to `store`, and maps by `mapper`."""
    with (
        mock.patch("earthloom.jobs.operations.watch.open_store", return_value=store),
        mock.patch("earthloom.jobs.operations.watch.run_scenes", mapper),
    ):
        yield


def look_once(file: Path, **options: Any) -> Seen:
    """One look of `earthloom watch FILE --once`."""
    dry = options.pop("dry", False)
    config = WatchConfig(file=str(file), once=True, **({"settle": 0.0} | options))
    return watch(config, read_watched(str(file), None, {}), Listeners(), dry=dry)


def write_file(folder: Path, scenes: str | None = None) -> Path:
    """A file of `earthloom run` for the scenes below `folder`, or for another reference."""
    (folder / "in").mkdir(exist_ok=True)
    lines = [
        f'scenes = "{scenes or folder / "in"}/"' if not scenes else f'scenes = "{scenes}"',
        'model = "water-index"',
    ]
    file = folder / "watch.toml"
    file.write_text("\n".join([*lines, f'out = "{folder / "out"}"']))
    return file


def arrive(folder: Path, *names: str, content: bytes = b"II*") -> None:
    """Files that look like scenes to whoever opens none."""
    (folder / "in").mkdir(exist_ok=True)
    for name in names:
        (folder / "in" / f"{name}.tif").write_bytes(content)


def remembered(store: Store | MemoryStore, kind: str) -> list[str]:
    """Ids of the scenes that are `done` or `bad`."""
    keys = [head.key for head in store.list("watches") if f"/{kind}/" in head.key]
    return sorted(json.loads(store.get(key))["id"] for key in keys)
