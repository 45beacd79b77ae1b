"""The corpus through the command: every refusal is one sentence, nothing that a file names is touched, others go on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import run
from earthloom.tiling.reading.sandbox import Cap
from tests.hostile.corpus import SCENES
from tests.hostile.making import BANDS, SENTINEL, Canary, HostileScene, plain
from tests.http_range_server import RangeServer, serve
from tests.maps import WORDS
from tests.scenes import write_scene

ROOT = Path(__file__).resolve().parents[2]
COMMAND = """
import resource, sys
from earthloom.jobs.command import main
try:
    main(sys.argv[1:])
finally:
    print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, file=sys.stderr)
"""


@dataclass(frozen=True, slots=True)
class Planned:
    folder: Path
    code: int
    plan: dict[str, Any]
    stderr: str
    canary: Canary
    server: RangeServer
    read_before: float


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planned]:
    """`earthloom plan` over the whole corpus and one good scene, in a process of its own."""
    folder = tmp_path_factory.mktemp("hostile")
    bait = write_scene(folder / "bait" / "secret.tif", np.full((2, 300, 300), SENTINEL, np.uint16), BANDS)
    with serve(bait.parent) as server:
        canary = Canary(url=server.url("secret.tif"), path=bait)
        (folder / "in").mkdir()
        for scene in SCENES:
            scene.make(folder / "in" / f"{scene.name}.tif", canary)
        plain(folder / "in" / "good.tif")
        os.utime(bait, (1e9, 1e9))  # long not read: the next read would move the time of access, even under relatime
        before = bait.stat().st_atime
        command = [sys.executable, "-c", COMMAND, "plan", f"{folder}/in/", "--out", f"{folder}/out", *WORDS, "--json"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
        yield Planned(folder, done.returncode, json.loads(done.stdout), done.stderr, canary, server, before)


def test_the_corpus_is_large() -> None:
    assert len({scene.name for scene in SCENES}) == len(SCENES) >= 45


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene.refusal], ids=lambda scene: scene.name)
def test_each_scene_is_refused_by_name_with_cause_and_remedy(scene: HostileScene, planned: Planned) -> None:
    (found,) = (refusal for refusal in planned.plan["refused"] if refusal["id"] == scene.name)
    assert found["kind"] == "SceneError"
    assert found["message"].startswith(f"{scene.name}: ")
    assert re.search(scene.refusal, found["message"]), found["message"]
    assert len(found["message"]) < 700
    assert found["message"].isprintable()


@pytest.mark.parametrize("scene", [scene for scene in SCENES if not scene.refusal], ids=lambda scene: scene.name)
def test_hostile_surroundings_do_not_keep_a_scene_from_being_read(scene: HostileScene, planned: Planned) -> None:
    assert scene.name in {one["id"] for one in planned.plan["scenes"]}


def test_the_others_go_on_and_there_is_no_traceback(planned: Planned) -> None:
    assert planned.code == 3
    assert "good" in {one["id"] for one in planned.plan["scenes"]}
    assert "Traceback" not in planned.stderr
    assert not (planned.folder / "out").exists()


def test_no_canary_was_touched(planned: Planned) -> None:
    assert planned.server.requests == []
    assert planned.canary.path.stat().st_atime == planned.read_before


def test_the_inspecting_processes_stayed_under_their_cap(planned: Planned) -> None:
    peak = int(planned.stderr.rpartition("peak ")[2])
    assert 0 < peak < Cap().memory_bytes


def test_harmless_scenes_are_mapped_from_their_own_pixels(planned: Planned, tmp_path: Path) -> None:
    names = [scene.name for scene in SCENES if not scene.refusal]
    given = load(
        {
            "scenes": tuple(str(planned.folder / "in" / f"{name}.tif") for name in [*names, "good"]),
            "out": str(tmp_path / "out"), "model": "water-index", "executor": "local", "scale": 1e-4,
            "quantity": "reflectance", "shard": 512, "block": 512,
        }
    )  # fmt: skip
    result = run(given)
    assert result.exit_code == 0, result.scenes
    maps = {}
    for name in [*names, "good"]:
        with rasterio.open(tmp_path / "out" / result.results[name].prefix / "water-index.tif") as cog:
            maps[name] = cog.read(1)
            assert not (maps[name] == SENTINEL).any()
    for name in names:
        if "beside" in name or "sidecar" in name or "markup" in name:
            assert (maps[name] == maps["good"]).all(), f"{name}: its surroundings changed its map"
    for name in ("not_a_number_anywhere", "infinite_everywhere", "nodata_everywhere"):
        assert (maps[name] == 255).all()
    assert planned.server.requests == []
