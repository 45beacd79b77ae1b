"""`earthloom verify` and `gc` over monitored areas: planted damage is found and named, and its remedy mends it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import earthloom
from earthloom.jobs.monitoring.audit.verify import verify
from earthloom.jobs.upkeep.gc import Sweep, sweep
from earthloom.jobs.upkeep.verify import Verification
from earthloom.tiling.storage.objects import ObjectRef
from tests.integration.test_monitor import write
from tests.maps import KEYS

DAY_S = 86400.0
AREA = f"""name = "lake"
onto = "EPSG:32617,20m,500000,4494000,506000,4500000"
shard = 512
[[product]]
model = "water-index"
scenes = ["IN/*.tif"]
composites = [{{ every = "year", rule = "mode" }}]
[product.options]
{KEYS}
[[product.change]]
from = "2019"
to = "2020"
[[product.alert]]
name = "flooded"
from = "land"
to = "water"
closing = 1
[[product]]
model = "index:wet=(green-swir16)/(green+swir16)"
scenes = ["IN/*.tif"]
[product.options]
{KEYS}
[[product.monitor]]
method = "mann-kendall"
min_observations = 3
level = 0.5
[[product.monitor]]
name = "chart"
method = "ewmacd"
start = 2019-06-01
order = 0
[[product.alert]]
name = "wetter"
monitor = "chart"
"""
DAYS = ("2018-07-01", "2019-05-01", "2019-07-01", "2020-07-01")


def go(folder: Path) -> None:
    """Monitor the scenes of a folder into its `out`."""
    file = folder / "lake.toml"
    file.write_text(AREA.replace("IN", str(folder / "in")))
    result = earthloom.monitor(file, out=folder / "out", executor="local")
    assert result.exit_code == 0, [result.refused, *(product.errors for product in result.products)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An area with four dates, of which the last came later."""
    folder = tmp_path_factory.mktemp("whole")
    for number, day in enumerate(DAYS):
        if number == len(DAYS) - 1:
            go(folder)
        write(folder / "in", f"s{number}", day, seed=number)
    go(folder)
    return folder


@pytest.fixture
def area(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole / "out", tmp_path / "out")
    shutil.copytree(whole / "in", tmp_path / "in")
    return tmp_path


def check(folder: Path) -> Verification:
    return verify(ObjectRef.parse(str(folder / "out")))


def one(folder: Path, pattern: str) -> Path:
    """The largest file of a pattern below the area, which has the most pixels."""
    return max((folder / "out/monitors/lake").glob(pattern), key=lambda path: (path.stat().st_size, str(path)))


def flip(path: Path, at: int | None = None) -> Path:
    """Change one bit of a file, in its middle unless told otherwise."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    path.write_bytes(data)
    return path


def current(folder: Path, pattern: str) -> Path:
    """The view of alerts that a head leads to."""
    head = one(folder, pattern)
    return head.parent / str(json.loads(head.read_bytes())["view"])


def forge_alerts(folder: Path) -> Path:
    """A table without its first alert, and a head and an item that vouch for it: only a replay can tell."""
    view = current(folder, "water-index/*/alerts/flooded-*/head.json")
    table, head_path = view / "alerts.parquet", view.parents[1] / "head.json"
    pq.write_table(pq.read_table(table).slice(1), table)
    head = json.loads(head_path.read_bytes())
    data = table.read_bytes()
    head["files"]["alerts.parquet"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    head_path.write_text(json.dumps(head))
    return table


def damage(pattern: str) -> Callable[[Path], Path]:
    def done(folder: Path) -> Path:
        return flip(one(folder, pattern))

    return done


def lose(pattern: str) -> Callable[[Path], Path]:
    def done(folder: Path) -> Path:
        (path := one(folder, pattern)).unlink()
        return path

    return done


PLANTED: Mapping[str, Callable[[Path], Path]] = {
    "a shard": damage("water-index/*/generations/1/cube.zarr/classes/c/*/*/*"),
    "a shard of an image": damage("wet/*/generations/1/cube.zarr/wet/c/*/*/*"),
    "a lost shard": lose("water-index/*/generations/1/cube.zarr/confidence/c/*/*/*"),
    "a lost mark": lose("water-index/*/generations/1/steps/*/*.json"),
    "a step's sum": damage("water-index/*/generations/1/steps/*.json"),
    "the dates": lambda folder: flip(one(folder, "water-index/*/generations/1/cube.zarr/time/c/0"), 2),
    "a composite": damage("water-index/*/composites/mode-year/2019/*/water-index.tif"),
    "a change": damage("water-index/*/change/*/*/changes.parquet"),
    "a lost commit": lose("water-index/*/change/*/*/result.json"),
    "a trend": damage("wet/*/trends/wet-mann-kendall/*/wet-mann-kendall.tif"),
    "a view": damage("water-index/*/alerts/flooded-*/views/*/alerts.fgb"),
    "a lost partition": lose("water-index/*/alerts/flooded-*/updates/1/*.parquet"),
    "alerts' state": damage("wet/*/alerts/wetter-*/state/*/*.pixels"),
    "forged alerts": forge_alerts,
    "a series": damage("water-index/*/series.csv"),
    "a head": lambda folder: _garble(one(folder, "water-index/*/composites/mode-year/head.json")),
}  # fmt: skip


def _garble(path: Path) -> Path:
    path.write_text("{")
    return path


def test_what_is_sound_is_found_sound(whole: Path) -> None:
    report = check(whole)
    assert (report.problems, report.notes, report.monitors) == ([], [], 2)
    assert report.objects > 100


MENDED = ("a shard", "forged alerts", "a head")
"""One of each kind: what is damaged is made again by a whole update."""


@pytest.mark.long
@pytest.mark.parametrize("name", PLANTED)
def test_planted_damage_is_named_with_a_remedy(name: str, area: Path, whole: Path) -> None:
    hurt = PLANTED[name](area)
    problems = check(area).problems
    key = hurt.relative_to(area / "out").as_posix()
    if name == "a lost mark":  # which nothing else names: its shard has no voucher, and the sum does not add up
        key = f"{key.rpartition('/')[0]}.json"
    if name == "a lost commit":
        key = key.split("/change/")[0] + "/change/head.json"
    assert key in [problem.place for problem in problems], problems
    for problem in problems:
        remedy = re.search(r"[Rr]emove (monitors/\S+)( and run|$)|[Rr]un `earthloom monitor` again", problem.message)
        assert remedy, problem.message
        if remedy[1]:
            path = area / "out" / remedy[1]
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if name not in MENDED:
        return
    go(area)
    assert check(area).problems == []
    for path in (whole / "out/monitors").rglob("*.tif"):
        mended = area / "out" / path.relative_to(whole / "out")
        assert not mended.exists() or mended.read_bytes() == path.read_bytes()


def clean(folder: Path, *, days: float = 7, **options: Any) -> Sweep:
    return sweep(ObjectRef.parse(str(folder / "out")), older_than_s=days * DAY_S, **options)


def age(folder: Path, days: float) -> None:
    """Make everything older by so many days; what was written earlier stays earlier."""
    for path in (folder / "out").rglob("*"):
        if path.is_file():
            moment = path.stat().st_mtime - days * DAY_S
            os.utime(path, (moment, moment))


def test_what_newer_results_replace_goes_when_it_is_asked_for_and_old_enough(area: Path) -> None:
    assert [rubbish for rubbish in clean(area, superseded=True).found if rubbish.kind == "derived"] == [], "too young"
    age(area, 8)
    assert [rubbish for rubbish in clean(area).found if rubbish.kind == "derived"] == [], "not asked for"
    before = {path for path in (area / "out").rglob("*") if path.is_file()}
    found = [rubbish for rubbish in clean(area, superseded=True).found if rubbish.kind == "derived"]
    kinds = sorted(re.sub(r"monitors/lake/([^/]*)/[^/]*/(.*?)/.*", r"\1 \2", rubbish.place) for rubbish in found)
    assert kinds == ["water-index alerts", "wet alerts", "wet trends", "wet trends"]
    assert {path for path in (area / "out").rglob("*") if path.is_file()} == before, "a dry run touched something"
    done = clean(area, superseded=True, delete=True)
    assert {rubbish.place for rubbish in done.removed if rubbish.kind == "derived"} == {
        rubbish.place for rubbish in found
    }
    assert not [rubbish for rubbish in found if (area / "out" / rubbish.place).exists()]
    assert check(area).problems == []
    left = {path for path in (area / "out").rglob("*") if path.is_file()}
    go(area)
    assert {path for path in (area / "out/monitors").rglob("*") if path.is_file()} <= left, "something was made again"


def test_what_was_never_finished_goes_and_what_is_being_made_stays(area: Path) -> None:
    folder = (
        area
        / "out"
        / one(area, "water-index/*/composites/mode-year/2019/*/result.json").parents[1]
        / "0123456789abcdef"
    )
    (folder / "blocks").mkdir(parents=True)
    (folder / "blocks/0_0.json").write_text("{}")
    assert not [rubbish for rubbish in clean(area, days=0).found if rubbish.kind == "derived"], (
        "somebody may work on it"
    )
    moment = time.time() - 2 * 3600
    os.utime(folder / "blocks/0_0.json", (moment, moment))
    (found,) = [rubbish for rubbish in clean(area, days=0, delete=True).removed if rubbish.kind == "derived"]
    assert found.place == folder.relative_to(area / "out").as_posix()
    assert not (folder / "blocks").exists()
    assert check(area).problems == []


def test_a_damaged_head_keeps_everything_below_its_product(area: Path) -> None:
    one(area, "wet/*/trends/wet-mann-kendall/head.json").write_text("{}")
    age(area, 8)
    done = clean(area, superseded=True, delete=True)
    assert not [rubbish for rubbish in done.removed if "/wet/" in rubbish.place]
    assert any("a head is damaged" in note for note in done.notes)
