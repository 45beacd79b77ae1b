"""What `earthloom schedule` prints, held against the programs that read it where they are installed."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from earthloom.jobs.command import cli
from earthloom.jobs.config import check
from earthloom.jobs.operations.schedule import ScheduleConfig, cron_fields, render
from earthloom.jobs.operations.watched import read_watched
from earthloom.tiling.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """With letters in its name that mean something to cron, systemd and shells."""
    path = tmp_path / "night 100%.toml"
    path.write_text('scenes = "s3://scenes/in/"\nmodel = "water-index"\nout = "s3://maps/x"  # ümläut\n')
    return path


def text(file: Path, kind: str, **options: Any) -> str:
    config = check(ScheduleConfig, {"file": str(file), "kind": kind, **options})
    return render(config, read_watched(str(file), config.out, {}))


@pytest.mark.parametrize(
    ("minutes", "fields"),
    [
        ((2, 30), "30 2 * * *"), (1, "* * * * *"), (15, "*/15 * * * *"), (60, "0 * * * *"), (360, "0 */6 * * *"),
        (1440, "0 0 * * *"),
    ],
)  # fmt: skip
def test_times_become_the_five_fields_of_cron(minutes: int | tuple[int, int], fields: str) -> None:
    assert cron_fields(minutes) == fields


def test_a_line_of_a_crontab_runs_what_was_asked_for_whatever_the_file_is_called(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    line = text(file, "cron", at="02:30", address="head:6379").splitlines()[-1]
    command = line.removeprefix("30 2 * * * ")
    assert "%" not in command.replace(r"\%", ""), "cron ends a command at a bare %"
    words = shlex.split(command.replace(r"\%", "%"))  # what cron hands to the shell
    assert words == [
        "cd", str(file.parent), "&&", sys.executable, "-m", "earthloom", "watch", str(file), "--once", "--address", "head:6379"
    ]  # fmt: skip
    cli.commands["watch"].make_context("watch", words[7:])


def test_systemd_takes_the_units(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if not shutil.which("systemd-analyze"):
        pytest.skip("no program systemd-analyze; apt-get install systemd")
    for times in ({"at": "02:30"}, {"every": "15m"}, {"every": "6h"}, {"every": "24h"}):
        printed = text(file, "systemd", name="lake", **times)
        assert "SuccessExitStatus=3 143\n" in printed, (
            "neither a bad scene nor a machine that shuts down is a failed unit"
        )
        parts = printed.split("# /etc/systemd/system/")[1:]
        units = []
        for part in parts:
            name, _, body = part.partition("\n")
            units.append(tmp_path / name)
            units[-1].write_text(body)
        assert [unit.name for unit in units] == ["earthloom-lake.service", "earthloom-lake.timer"]
        done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60)
        mine = [line for line in done.stderr.splitlines() if "earthloom" in line]
        assert not mine, "\n".join(mine)
        (when,) = (line.partition("=")[2] for line in printed.splitlines() if line.startswith("OnCalendar="))
        subprocess.run(["systemd-analyze", "calendar", when], check=True, capture_output=True, timeout=60)


def test_manifests_carry_the_file_word_for_word_and_nothing_of_this_machine(file: Path) -> None:
    printed = text(file, "kubernetes", every="6h", image="r.example/e:1", name="lake", gpus=0, max_workers=3)
    documents = {one["kind"]: one for one in yaml.safe_load_all(printed)}
    assert documents["ConfigMap"]["data"]["watch.toml"] == file.read_text()
    assert documents["CronJob"]["spec"]["schedule"] == "0 */6 * * *"
    job = yaml.safe_load(documents["ConfigMap"]["data"]["rayjob.yaml"])
    assert job["spec"]["entrypoint"] == "python -m earthloom watch /etc/earthloom/watch.toml --once"
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert (group["groupName"], group["minReplicas"], group["maxReplicas"]) == ("cpu", 0, 3)
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert {"name": "earthloom-lake", "mountPath": "/etc/earthloom", "readOnly": True} in head["volumeMounts"]
    assert str(file.parent) not in printed


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("cron", {}, "give one of"),
        ("cron", {"at": "02:30", "every": "6h"}, "give one of"),
        ("cron", {"at": "25:00"}, "no time of day"),
        ("cron", {"every": "7m"}, "divide 60"),
        ("cron", {"every": "5h"}, "divide 24"),
        ("cron", {"every": "0m"}, "divide 60"),
        ("cron", {"at": "02:30", "name": "A b"}, "small letters"),
        ("kubernetes", {"at": "02:30"}, "give `image`"),
        ("kubernetes", {"at": "02:30", "image": "r/e", "out": "here"}, "s3://bucket/prefix"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(file: Path, kind: str, options: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        text(file, kind, **options)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"scenes": "in/"}, "in/: pods do not see the folders of this machine; name scenes by s3://"),
        ({"model": "models/mine"}, "models/mine: pods do not see .*; name models by"),
        ({"model": "water-index+mine"}, "mine: pods do not see .*; name models by"),
        ({"before": "in/before.tif"}, "name earlier scenes by"),
        ({"footprints": "buildings.gpkg"}, "name `footprints` by"),
        ({"onto": "lake.geojson"}, "name the grid of `onto` by"),
        ({"model": "index:(nir-red)/(nir+red)", "onto": "EPSG:32632,10m,0,0,10,10", "before": "s3://scenes/b/"}, None),
    ],
)
def test_what_lies_on_this_machine_is_refused_for_pods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], says: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    values = {"scenes": "s3://scenes/in/", "model": "water-index", "out": "s3://maps/x"} | changes
    path = tmp_path / "w.toml"
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    with pytest.raises(ConfigError, match=says) if says else nullcontext():
        text(path, "kubernetes", at="02:30", image="r/e")


def test_an_area_of_pods_has_its_ground_within_its_file(tmp_path: Path) -> None:
    path, ground = tmp_path / "lake.toml", tmp_path / "lake.geojson"
    ring = [[10, 50], [11, 50], [11, 51], [10, 51], [10, 50]]
    ground.write_text(
        json.dumps({"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}})
    )
    product = '[[product]]\nmodel = "water-index"\nscenes = "s3://scenes/in/"\n'
    path.write_text(f'name = "lake"\ngeometry = "lake.geojson"\ncrs = "EPSG:32632"\ngsd = 30\n{product}')
    options = {"at": "02:30", "image": "r/e", "out": "s3://maps"}
    with pytest.raises(ConfigError, match=r"pods do not see 'lake\.geojson'"):
        text(path, "kubernetes", **options)
    path.write_text(f'name = "lake"\nbbox = [10, 50, 11, 51]\ncrs = "EPSG:32632"\ngsd = 30\n{product}')
    printed = text(path, "kubernetes", **options)
    assert "earthloom watch /etc/earthloom/watch.toml --once --out s3://maps" in printed


def test_the_command_prints_it(file: Path) -> None:
    done = CliRunner().invoke(cli, ["schedule", str(file), "--for", "cron", "--every", "1h"])
    assert done.exit_code == 0, done.output
    assert "\n0 * * * * cd " in done.output
