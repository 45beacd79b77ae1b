"""Policies of retention: the last results of each product stay, and whatever a cube or a living run needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import earthloom
from earthloom.jobs.command import main
from earthloom.jobs.publish.catalog import linked_items
from earthloom.jobs.records.attempt import now
from earthloom.jobs.upkeep.gc import Sweep, sweep
from earthloom.jobs.upkeep.retention import EXPIRED, RECORD, Policy
from earthloom.jobs.upkeep.verify import verify
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.integration.test_monitor import area_file, write
from tests.jobs.aged import age
from tests.maps import go
from tests.scenes import landscape, write_scene

INDEX = "index:(swir16-green)/(swir16+green)"


def dated(folder: Path, day: int) -> Path:
    """A scene of one day of July."""
    file = folder / f"d{day}.tif"
    return write_scene(
        file, landscape(48, 48, 2, day), ("green", "swir16"), date=f"2026:07:{day:02} 10:00:00"
    )  # fmt: skip


def clean(out: Path, keep_last: int, *, days: float = 1, **options: Any) -> Sweep:
    policy = Policy(keep_last=keep_last, product=options.pop("product", None))
    return sweep(ObjectRef.parse(str(out)), older_than_s=days * 86400, policy=policy, **options)


def days(done: Sweep) -> list[str]:
    """Scenes of the results that would go."""
    return sorted(rubbish.place.split("/")[1] for rubbish in done.found if rubbish.kind == EXPIRED)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Four days of two products, published out of their order by one run for each day, a week ago."""
    for day in (3, 1, 4, 2):
        scene = dated(tmp_path / "in", day)
        for model in ("water-index", INDEX):
            assert go(scene, out=tmp_path / "out", model=model).exit_code == 0
    age(tmp_path / "out", days=7)
    return tmp_path / "out"


def test_the_last_by_acquisition_stay_and_catalogues_and_runs_follow(out: Path) -> None:
    found = clean(out, 2, product="water-index")
    assert days(found) == ["d1", "d2"]
    assert len([rubbish for rubbish in found.found if rubbish.kind == RECORD]) == 2
    assert any("computes it again" in note for note in found.notes)
    before = set(out.rglob("*"))
    assert before == set(out.rglob("*")), "a dry run touches nothing"
    done = clean(out, 2, product="water-index", delete=True)
    assert len(done.removed) == len(done.found)
    assert days(clean(out, 2, product="water-index")) == []
    store = open_store(ObjectRef.parse(str(out)))
    assert len(linked_items(store, "water-index")) == 2
    assert verify(ObjectRef.parse(str(out))).problems == []
    assert earthloom.open(out, "water-index", scene="d4").classes.shape == (48, 48)
    assert days(clean(out, 2)) == ["d1", "d2"], "the other product was left alone, and is asked for here"


def test_what_is_younger_than_was_said_stays(out: Path) -> None:
    assert days(clean(out, 0, days=8)) == []
    assert len(days(clean(out, 0, days=6))) == 8


def test_what_a_living_run_works_on_stays(out: Path) -> None:
    attempt = next(path for path in out.glob("runs/*/attempts/1.json") if '"d1"' in path.read_text())
    attempt.write_text(json.dumps(json.loads(attempt.read_bytes()) | {"state": "running", "updated": now()}))
    assert days(clean(out, 3)).count("d1") == 1, "of the other product"


def test_what_a_cube_is_made_of_stays(tmp_path: Path) -> None:
    for month in (7, 8, 9):
        write(tmp_path / "in", f"m{month}", f"2020-{month:02}-01", seed=month)
    out = tmp_path / "out"
    earthloom.monitor(area_file(tmp_path), out=out, executor="local")
    age(out, days=7)
    found = clean(out, 1)
    assert days(found) == []
    assert any(note.startswith("2 older results are kept: cubes") for note in found.notes)


def test_the_command_has_the_policy_and_refuses_half_of_one(out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main(["gc", str(out), "--older-than", "1d", "--keep-last", "3", "--product", "water-index", "--delete"])
    assert "removed" in capfd.readouterr().out
    assert not list(out.glob("scenes/d1/*/water-index.tif"))
    with pytest.raises(SystemExit) as ended:
        main(["gc", str(out), "--product", "water-index"])
    assert ended.value.code == 2
    assert "--product goes with --keep-last" in capfd.readouterr().err
