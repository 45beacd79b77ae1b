"""Metrics as Prometheus reads them: the textfile of each run, by the parser of Prometheus's own client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import earthloom
from earthloom.cluster.metrics import RayMetrics
from earthloom.jobs.report.metrics import METRICS, Metrics
from earthloom.tiling.errors import SceneError, StorageError
from tests.integration.test_monitor import area_file, write
from tests.maps import faults, go, lake
from tests.scenes import landscape, write_scene

ROOT = Path(__file__).parents[3]


def scrape(file: Path) -> dict[str, float]:
    """Value by name, and by name{label} where there is one beside `out`."""
    found = {}
    for family in text_string_to_metric_families(file.read_text()):
        for sample in family.samples:
            own = [value for label, value in sample.labels.items() if label != "out"]
            assert "out" in sample.labels
            name = sample.name + (f"{{{own[0]}}}" if own else "")
            assert name not in found, "twice the same is refused by the collector"
            found[name] = sample.value
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    """What the file says after one run, after another with a new scene, and after a third one with nothing new."""
    folder = tmp_path_factory.mktemp("metrics")
    file = folder / "collected" / "earthloom.prom"
    write_scene(folder / "in" / "poor.tif", landscape(64, 64, 1), ("green",))
    found = []
    for name in ("lake", "pond", None):
        if name:
            lake(folder / "in", name, width=600, height=300)
        go(folder / "in", out=folder / "out", metrics_file=file, price_per_hour=10.0)
        found.append(scrape(file))
    assert [path.name for path in file.parent.iterdir()] == ["earthloom.prom"], "nothing else for the collector to read"
    return found


def test_counters_go_on_from_run_to_run_and_never_fall(runs: list[dict[str, float]]) -> None:
    assert [run["earthloom_scenes_published_total"] for run in runs] == [1, 2, 2]
    assert [run["earthloom_blocks_done_total"] for run in runs] == [2, 4, 4]
    assert [run["earthloom_pixels_total"] for run in runs] == [180_000, 360_000, 360_000]
    assert [run["earthloom_scenes_failed_total"] for run in runs] == [1, 1, 1], "the refusal was known the second time"
    assert runs[2]["earthloom_blocks_retried_total"] == runs[2]["earthloom_blocks_quarantined_total"] == 0


def test_gauges_tell_of_the_latest_run_that_had_something_to_do(runs: list[dict[str, float]]) -> None:
    first, second, third = runs
    assert 0 < first["earthloom_device_busy_ratio"] <= 1
    assert first["earthloom_cost_per_1000km2"] > 0
    acquired = datetime(2026, 7, 1, 10, tzinfo=UTC)
    age_s = (datetime.now(UTC) - acquired).total_seconds()
    assert first["earthloom_latency_to_map_seconds"] == pytest.approx(age_s, abs=600)
    assert {name: third[name] for name in second if "device" in name or "latency" in name} == {
        name: second[name] for name in second if "device" in name or "latency" in name
    }
    assert third["earthloom_workers{started}"] == third["earthloom_workers{working}"] == 0, "none is left behind"


def test_blocks_that_are_tried_again_or_given_up_are_counted(tmp_path: Path) -> None:
    scene = lake(tmp_path / "in", width=1100, height=300)
    slow = [StorageError("slow down", transient=True)] * 2
    with faults({"lake/0_0": slow, "lake/0_1": [SceneError("lake: a tile is damaged")]}):
        result = go(scene, out=tmp_path / "out", metrics_file=tmp_path / "m.prom")
    assert result.scenes["lake"].status == "failed"
    found = scrape(tmp_path / "m.prom")
    assert found["earthloom_blocks_retried_total"] == 2
    assert found["earthloom_blocks_quarantined_total"] == found["earthloom_scenes_failed_total"] == 1
    assert found["earthloom_scenes_published_total"] == 0


def test_scenes_are_counted_also_where_all_are_refused(tmp_path: Path) -> None:
    poor = write_scene(tmp_path / "poor.tif", landscape(64, 64, 1), ("green",))
    go(poor, out=tmp_path / "out", metrics_file=tmp_path / "m.prom")
    assert scrape(tmp_path / "m.prom")["earthloom_scenes_failed_total"] == 1


def test_staleness_of_an_area_is_the_age_of_its_newest_date(tmp_path: Path) -> None:
    write(tmp_path / "in", "july", "2020-07-01")
    write(tmp_path / "in", "august", "2020-08-01", seed=1)
    file = tmp_path / "m.prom"
    earthloom.monitor(area_file(tmp_path), out=tmp_path / "out", executor="local", metrics_file=str(file))
    found = scrape(file)
    age_s = (datetime.now(UTC) - datetime(2020, 8, 1, tzinfo=UTC)).total_seconds()
    assert found["earthloom_staleness_seconds{lake}"] == pytest.approx(age_s, abs=600)
    assert found["earthloom_scenes_published_total"] == 2, "the runs inside of it are counted in the same file"


def test_labels_with_quotes_and_lines_are_read_back_as_they_were(tmp_path: Path) -> None:
    out = 'maps "of\\ mine"\n{x}'
    for value in (1.0, 2.0):
        metrics = Metrics(out, tmp_path / "m.prom")
        metrics.set("earthloom_pixels_total", value)
        metrics.write()
    (family,) = text_string_to_metric_families((tmp_path / "m.prom").read_text())
    assert [(sample.labels["out"], sample.value) for sample in family.samples] == [(out, 3.0)]


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    result = go(lake(tmp_path, width=64, height=64), out=tmp_path / "out", metrics_file=tmp_path / "taken" / "m.prom")
    assert result.exit_code == 0


def test_a_worker_counts_its_own_blocks_for_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, float] = {}

    def put(_: RayMetrics, name: str, kind: str, text: str, value: float, labels: Mapping[str, str]) -> None:
        assert labels == {"out": str(tmp_path / "out")}
        assert value >= told.get(name, 0)
        told[name] = value

    monkeypatch.setattr(RayMetrics, "set", put)
    go(lake(tmp_path, width=600, height=300), out=tmp_path / "out")
    assert told["earthloom_worker_blocks_total"] == told["earthloom_blocks_done_total"] == 2
    assert told["earthloom_worker_pixels_total"] == 180_000
    assert told["earthloom_worker_device_seconds_total"] > 0


def test_docs_list_every_metric_and_no_other() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = set(re.findall(r"^\| `(earthloom_\w+)", page, re.MULTILINE))
    assert rows == METRICS.keys()
