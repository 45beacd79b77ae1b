"""Small runs for tests of what lies in storage: water-index on scenes made by code, in this process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from unittest import mock

import pytest

from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import RunResult, run
from earthloom.jobs.execution.scene_worker import SceneWorker
from earthloom.jobs.execution.tasks import SceneTask
from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.names import RESULT
from earthloom.jobs.records.result import SceneResult
from earthloom.models.zoo import variants
from earthloom.tiling.errors import CardError, StorageError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.scenes import landscape, write_scene

Done: TypeAlias = subprocess.CompletedProcess[str]

SMALL: dict[str, Any] = {
    "scale": 1e-4, "quantity": "reflectance", "executor": "local", "shard": 512, "block": 512, "precision": "fp32",
    "device": "cpu",
}  # fmt: skip
OPTIONS: dict[str, Any] = {"model": "water-index", **SMALL}
KEYS = "\n".join(f"{name} = {json.dumps(value)}" for name, value in SMALL.items() if name != "executor")
"""The same as lines of an AOI file."""
WORDS = ("--model", "water-index", "--scale", "0.0001", "--quantity", "reflectance", "--shard", "512", "--block", "512")
"""The same as flags of a command."""
ROOT = Path(__file__).resolve().parents[1]


def go(*scenes: Path | str, out: Path | str, on_event: Any = None, **options: Any) -> RunResult:
    """Run with small shards, so that a small scene has several blocks."""
    return run(load({"scenes": tuple(map(str, scenes)), "out": str(out), **OPTIONS, **options}), on_event=on_event)


def command(*words: str | Path, timeout_s: float = 120, env: Mapping[str, str] | None = None) -> Done:
    """`earthloom` in a process of its own, in the checkout."""
    line = [sys.executable, "-m", "earthloom", *map(str, words)]
    return subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)


def go_until_commit(*scenes: Path | str, out: Path, **options: Any) -> list[Path]:
    """Like a run that dies right before its commits: the scenes' folders, with everything but `result.json`."""
    with mock.patch("earthloom.jobs.publish.files.commit", side_effect=StorageError("the driver dies here")):
        assert go(*scenes, out=out, **options).exit_code == 1
    return sorted(path.parent for path in out.glob("scenes/*/*/blocks"))


@contextmanager
def faults(found: Mapping[str, Iterable[Exception]]) -> Iterator[None]:
    """Blocks of a local run that fail: by key of the task (`lake/0_1`), what each of their first attempts raises."""
    left = {key: list(errors) for key, errors in found.items()}
    call = SceneWorker.__call__

    def faulty(worker: SceneWorker, task: SceneTask) -> object:
        if left.get(task.key):
            raise left[task.key].pop(0)
        return call(worker, task)

    with mock.patch.object(SceneWorker, "__call__", faulty):
        yield


def fetched(name: str) -> str:
    """A model of the zoo whose weights are in the cache, or skip."""
    try:
        variants(name)
    except CardError as error:
        pytest.skip(str(error))
    return name


def lake(folder: Path, name: str = "lake", *, width: int = 1300, height: int = 700, seed: int = 0) -> Path:
    """A scene of 3 x 2 blocks, unless told otherwise."""
    return write_scene(folder / f"{name}.tif", landscape(width, height, 2, seed), ("green", "swir16"))


def result_files(result: RunResult, scene_id: str) -> dict[str, StoredObject]:
    """Size and sha256 of every file that a scene's `result.json` vouches for, by name."""
    key = f"{result.results[scene_id].prefix}/{RESULT}"
    return dict(SceneResult.from_json(open_store(ObjectRef.parse(result.out)).get(key), key).files)


def published(out: Path) -> dict[str, bytes]:
    """All that is the same whoever computed it: everything below `scenes` but markers and write ids."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted((out / "scenes").rglob("*"))
        if path.is_file() and path.name != "result.json" and path.parent.name != "blocks"
    }
