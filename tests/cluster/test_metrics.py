"""What Ray's own metrics port tells Prometheus, read by the parser of Prometheus's client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = r"""
import json, sys, time, urllib.error, urllib.request
import ray
from prometheus_client.parser import text_string_to_metric_families
from earthloom.jobs.report.metrics import METRICS, Metrics

port = int(sys.argv[1])
ray.init(
    "local", num_cpus=1, include_dashboard=False, _metrics_export_port=port, object_store_memory=80 * 2**20, logging_level=40
)
metrics = Metrics("s3://maps/n\u00e4chtlich")
values = {name: number + 1 for number, name in enumerate(METRICS)}
for name, value in values.items():
    labels = dict.fromkeys(METRICS[name].labels, "s\u00e9e")
    metrics.set(name, 0, **labels)
    metrics.set(name, value, **labels)
found, deadline = {}, time.monotonic() + 90
while time.monotonic() < deadline and len(found) < len(values):
    time.sleep(1)
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    except (OSError, urllib.error.URLError):
        continue
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if "earthloom" in sample.name:
                found[sample.name] = [sample.value, family.type, {k: sample.labels.get(k) for k in ("out", "aoi", "state")}]
ray.shutdown()
print(json.dumps([values, found]))
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_every_metric_is_scraped_from_rays_port_with_its_type_and_labels(tmp_path: Path) -> None:
    from infra.processes import free_ports

    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env = clean | {
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "RAY_AUTH_TOKEN": "0" * 64,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    (port,) = free_ports(1)
    done = subprocess.run([sys.executable, "-c", CODE, str(port)], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    values, found = json.loads(done.stdout.splitlines()[-1])
    assert {name.removeprefix("ray_"): entry[0] for name, entry in found.items()} == values
    assert {entry[1] for name, entry in found.items() if name.endswith("_total")} == {"counter"}
    assert {entry[1] for name, entry in found.items() if not name.endswith("_total")} == {"gauge"}
    assert {entry[2]["out"] for entry in found.values()} == {r"s3://maps/n\xe4chtlich"}
    assert found["ray_earthloom_staleness_seconds"][2]["aoi"] == found["ray_earthloom_workers"][2]["state"] == r"s\xe9e"
