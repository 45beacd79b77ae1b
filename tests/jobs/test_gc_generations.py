"""Generations of cubes that were replaced go after a while, and no other."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from earthloom.jobs.monitoring.cube.cube import open_cube
from earthloom.jobs.upkeep.gc import sweep
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.jobs.monitoring.watched import RULES, Watched, current, scene

DAY_S = 86400.0


def age(folder: Path, days: float) -> None:
    moment = time.time() - days * DAY_S
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (moment, moment))


def test_a_replaced_generation_goes_once_nobody_can_be_reading_it(tmp_path: Path) -> None:
    out = ObjectRef.parse(str(tmp_path))
    store = open_store(out)
    watched = Watched(tmp_path, store)
    watched.commit(scene("a", "2020-01-01T10:00:00Z"), scene("c", "2020-03-01T10:00:00Z", seed=1))
    watched.update()
    old = current(store)
    watched.commit(scene("b", "2020-02-01T10:00:00Z", seed=2))
    watched.update()
    new = current(store)
    age(tmp_path, 30)
    head = tmp_path / RULES.base / "head.json"
    os.utime(head)
    assert not [one for one in sweep(out, older_than_s=7 * DAY_S).found if one.kind == "generation"], (
        "replaced a moment ago"
    )
    age(tmp_path, 8)
    done = sweep(out, older_than_s=7 * DAY_S, delete=True)
    (gone,) = [one for one in done.removed if one.kind == "generation"]
    assert old.startswith(f"{gone.place}/")
    assert gone.why == "generation 2 has taken its place"
    with pytest.raises(MissingObjectError):
        open_cube(store, old)
    assert len(open_cube(store, new).steps) == 3
    assert watched.update().before == 3
    assert not [one for one in sweep(out, older_than_s=0.0).found if one.kind == "generation"]
    head.write_text("{}")
    age(tmp_path, 8)
    assert "its head.json is damaged" in " ".join(sweep(out, older_than_s=7 * DAY_S).notes)
