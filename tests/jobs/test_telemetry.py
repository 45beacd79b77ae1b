from __future__ import annotations

import json
from pathlib import Path

import pytest

from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import RunResult, run
from tests.scenes import landscape, write_scene


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    folder = tmp_path_factory.mktemp("telemetry")
    scene = write_scene(folder / "lake.tif", landscape(1300, 700, 2), ("green", "swir16"))
    options = {
        "model": "water-index", "scale": 1e-4, "quantity": "toa_reflectance", "shard": 512, "block": 512, "core": 256,
        "executor": "local", "profile": True, "price_per_hour": 36.0,
    }  # fmt: skip
    return folder / "out", run(load({"scenes": (str(scene),), "out": str(folder / "out"), **options}))


def test_sums_of_the_whole_run_are_those_of_its_workers(found: tuple[Path, RunResult]) -> None:
    telemetry = found[1].telemetry
    (worker,) = telemetry["workers"].values()
    for name in ("computed_px", "read_s", "wait_s", "compute_s", "write_s", "device_busy_percent"):
        assert telemetry[name] == worker[name], name
    assert worker["blocks"] == 6
    assert telemetry["computed_px"] == 1300 * 700
    assert 0 < worker["device_busy_percent"] <= 100


def test_rates_bytes_and_cost_are_those_of_the_scene(found: tuple[Path, RunResult]) -> None:
    out, telemetry = found[0], found[1].telemetry
    assert telemetry["km2"] == pytest.approx(1300 * 700 * 100 / 1e6, rel=0.01)
    elapsed_h = telemetry["elapsed_s"] / 3600
    assert telemetry["km2_per_h"] == pytest.approx(telemetry["km2"] / elapsed_h, rel=0.01)
    assert telemetry["cost_per_1000_km2"] == pytest.approx(36 * elapsed_h / telemetry["km2"] * 1000, rel=0.01)
    folder = out / found[1].results["lake"].prefix
    markers = [json.loads(path.read_bytes()) for path in folder.glob("blocks/*.json")]
    assert telemetry["read_bytes"] == sum(marker["read_bytes"] for marker in markers) > 0
    objects = [one for marker in markers for shard in marker["shards"].values()
               for one in (*shard["objects"].values(), shard["tiles"]) if one]  # fmt: skip
    assert telemetry["written_bytes"] == sum(one["size"] for one in objects)
    assert telemetry["decode_amplification"] >= 1
    assert telemetry["peak_worker_bytes"] > 0


def test_a_profile_is_a_trace_of_every_phase(found: tuple[Path, RunResult]) -> None:
    out, result = found
    (trace,) = (out / key for key in result.telemetry["profile"])
    events = json.loads(trace.read_bytes())["traceEvents"]
    phases = [event["name"] for event in events if event["ph"] == "X"]
    assert {name: phases.count(name) for name in ("read", "wait", "compute", "write", "publish lake")} == {
        "read": 6, "wait": 6, "compute": 6, "write": 6, "publish lake": 1,
    }  # fmt: skip


def test_the_tiles_are_gone_once_the_scene_is_published(found: tuple[Path, RunResult]) -> None:
    folder = found[0] / found[1].results["lake"].prefix
    assert {path.suffix for path in (folder / "blocks").iterdir()} == {".json"}
