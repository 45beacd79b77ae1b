"""A cube is a pure function of the committed scenes, however they came and whoever wrote it."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earthloom.jobs.config import EngineOptions
from earthloom.jobs.monitoring.cube.cube import open_cube
from earthloom.jobs.monitoring.cube.log import (
    advance_head,
    claim_steps,
    commit_steps,
    generation_prefix,
    newest_generation,
    read_head,
)
from earthloom.jobs.monitoring.cube.marks import read_sum
from earthloom.jobs.monitoring.cube.members import Mask, wanted
from earthloom.jobs.monitoring.cube.update import CubeUpdate, update_cube
from earthloom.jobs.monitoring.pool import Pool
from earthloom.tiling.errors import PublishError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.jobs.monitoring.results import InlinePool, Result
from tests.jobs.monitoring.watched import AREA, RULES, Watched, current, dates, scene, snapshot

A = scene("a", "2020-01-01T10:00:00Z", seed=1)
B = scene("b", "2020-02-01T10:00:00Z", seed=2, east_px=100)
C = scene("c", "2020-03-01T10:00:00Z", seed=3)
C2 = scene("c2", "2020-03-01T10:20:00Z", seed=4, east_px=450)
D = scene("d", "2020-04-01T10:00:00Z", seed=5, east_px=700)
SCENES = (A, B, C, C2, D)


@pytest.fixture
def out(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_dates_are_appended_in_place_and_again_does_nothing(out: Watched) -> None:
    out.commit(A)
    first = out.update()
    assert (dates(first), first.generation, first.before, first.renewed) == (["2020-01-01"], 1, 0, False)
    before = dict(out.store.objects)
    pool = InlinePool(out.store)
    assert out.update(pool=pool).before == 1
    assert not pool.keys
    assert out.store.objects == before
    out.commit(B, D)
    second = out.update()
    assert (dates(second), second.generation, second.before) == (["2020-01-01", "2020-02-01", "2020-04-01"], 1, 1)
    written = {
        key for key, data in out.store.objects.items() if before.get(key) != data and key.startswith("monitors/")
    }
    assert not [key for key in written if "/c/0/" in key and "time" not in key], (
        "no pixel of the first date is written again"
    )


def test_what_is_read_back_is_what_the_scenes_hold(out: Watched) -> None:
    out.commit(A, B)
    out.update()
    cube = open_cube(out.store, current(out.store))
    values = cube.read(out.store, "classes", AREA.window)
    counts = [read_sum(out.store, cube.prefix, step).tally for step in (0, 1)]
    for step, tally in enumerate(counts):
        assert tally is not None
        assert tally.pixels == tuple(int((values[step] == value).sum()) for value in (0, 1))
        assert tally.nodata == int((values[step] == 255).sum())
    assert (values[1, :, 512:] == 255).all(), "the second date does not reach the right shard"
    assert f"{cube.prefix}/classes/c/1/0/1" not in out.store.objects


@pytest.mark.parametrize("late", [B, C2], ids=["a date between others", "another scene of a date"])
def test_what_comes_out_of_order_makes_a_new_generation_that_takes_the_rest_over(
    out: Watched, late: Result, at_once: dict[str, bytes]
) -> None:
    others = [one for one in SCENES if one is not late]
    out.commit(*others)
    out.update()
    old = current(out.store)
    held = {key: data for key, data in out.store.objects.items() if key.startswith(old)}
    out.commit(late)
    pool = InlinePool(out.store)
    made = out.update(pool=pool)
    assert (made.generation, made.renewed) == (2, True)
    assert dates(made) == ["2020-01-01", "2020-02-01", "2020-03-01", "2020-04-01"]
    computed = [key for key in pool.keys if not key.endswith("/copy")]
    assert {key.split("/")[-2] for key in computed} == {"1" if late is B else "2"}, "only the date in question"
    assert {key: data for key, data in out.store.objects.items() if key.startswith(old)} == held, (
        "readers of the old one"
    )
    assert snapshot(out.store) == at_once


def test_a_scene_that_is_mapped_anew_replaces_its_pixels_and_one_that_vanishes_takes_its_date_along(
    out: Watched,
) -> None:
    out.commit(A, C)
    out.update()
    renewed = scene("c", "2020-03-01T10:00:00Z", seed=30, version="2.0.0")
    out.commit(renewed)
    out.store.times[f"{C.prefix}/result.json"] = 1.0
    made = out.update()
    assert made.generation == 2
    assert made.cube is not None
    assert made.cube.steps[1].scenes == (renewed.prefix,)
    renewed.withdraw(out.store)
    C.withdraw(out.store)
    made = out.update()
    assert (made.generation, dates(made)) == (3, ["2020-01-01"])
    A.withdraw(out.store)
    assert dates(out.update()) == ["2020-01-01"], "what nothing can be said of stays as it was"


def test_a_time_of_day_that_is_corrected_decides_anew_which_scene_is_the_latest(out: Watched, tmp_path: Path) -> None:
    rules = replace(RULES, overlap="latest")
    first, second = (
        scene(name, f"2020-01-01T{hour}:00:00Z", seed=n) for n, (name, hour) in enumerate((("a", 10), ("b", 11)))
    )
    corrected = scene("b", "2020-01-01T09:00:00Z", seed=1)
    assert corrected.prefix == second.prefix
    out.commit(first, second)
    out.update(rules)
    before = snapshot(out.store, rules)
    out.commit(corrected)
    assert out.update(rules).generation == 2
    fresh = Watched(tmp_path / "fresh")
    fresh.commit(first, corrected)
    fresh.update(rules)
    assert snapshot(out.store, rules) == snapshot(fresh.store, rules)
    assert snapshot(out.store, rules)["cube.zarr/classes/c/0/0/0"] != before["cube.zarr/classes/c/0/0/0"]


def test_a_renewed_mask_renews_the_date(out: Watched) -> None:
    rules = replace(RULES, mask=Mask(product="cloudmask", classes=("cloud",)))
    masks = [scene("a", "2020-01-01T10:00:00Z", seed=n, product="cloudmask", names=("clear", "cloud"), version=f"{n}.0.0")
             for n in (7, 8)]  # fmt: skip
    out.commit(A, masks[0])
    first = out.update(rules)
    before = snapshot(out.store, rules)
    out.commit(masks[1])
    out.store.times[f"{masks[0].prefix}/result.json"] = 1.0
    second = out.update(rules)
    assert (first.generation, second.generation) == (1, 2)
    assert snapshot(out.store, rules) != before


def test_each_mask_is_read_by_its_own_legend(out: Watched) -> None:
    """The model of masks was trained anew, and counts its classes otherwise."""
    rules = replace(RULES, mask=Mask(product="cloudmask", classes=("cloud",)))
    moment = "2020-01-01T10:00:00Z"
    for name, east_px, legend in (("a", 100, ("clear", "cloud")), ("b", 600, ("cloud", "clear"))):
        mask = scene(name, moment, seed=7, east_px=east_px, product="cloudmask", names=legend)
        out.commit(scene(name, moment, seed=1, east_px=east_px), mask)
    cube = out.update(rules).cube
    assert cube is not None
    (classes,) = cube.read(out.store, "classes", AREA.window, [0])
    known = [classes[50:210, left : left + 160] != 255 for left in (100, 600)]
    assert known[0].mean() == pytest.approx(0.45, abs=0.02)
    assert not (known[0] & known[1]).any(), "what one mask calls clear, the other calls cloud"
    assert np.mean(known[0] | known[1]) == pytest.approx(0.9, abs=0.02)


def test_rules_that_change_pixels_make_another_cube(out: Watched) -> None:
    out.commit(A)
    others = [
        replace(RULES, overlap="latest"), replace(RULES, until="2020-12-31"), replace(RULES, shard_px=1024),
        replace(RULES, mask=Mask(product="cloudmask", classes=("cloud",))), replace(RULES, overlap=("a*", "b*")),
        replace(RULES, grid=replace(AREA, height=1024)),
    ]  # fmt: skip
    keys = {rules.key for rules in (RULES, *others)}
    assert len(keys) == len(others) + 1
    assert replace(RULES, aoi="sea").key == RULES.key, "a name changes no pixel"


def test_what_a_dead_writer_claimed_is_finished_by_the_next(out: Watched) -> None:
    out.commit(A, B)
    found = wanted(out.store, "landwater", AREA)
    cube = out.update().cube
    assert cube is not None
    template = replace(cube, prefix="", steps=())
    out.commit(D)
    (step,) = wanted(out.store, "landwater", AREA).steps[2:]
    assert claim_steps(out.store, generation_prefix(RULES.base, 1), 2, [step], template)
    assert not claim_steps(out.store, generation_prefix(RULES.base, 1), 2, [step], template)
    held = newest_generation(out.store, RULES.base)
    assert held is not None
    assert (len(held.steps), held.committed) == (3, 2)
    assert len(open_cube(out.store, current(out.store)).steps) == 2, "a claim shows nobody anything"
    made = update_cube(  # by a writer that has not seen D yet
        out.store, InlinePool(out.store), RULES, found, lambda: wanted(out.store, "landwater", AREA)
    )
    assert dates(made) == ["2020-01-01", "2020-02-01", "2020-04-01"]
    assert made.generation == 1, "no lost date, and no generation for a writer that knew less"


def test_a_damaged_mark_or_a_lost_shard_costs_only_itself(out: Watched) -> None:
    out.commit(A, B, C)
    out.update()
    wanted_bytes = snapshot(out.store)
    prefix = generation_prefix(RULES.base, 1)
    # as if the writer had died before the commit, with one mark torn and one shard lost
    for key in [
        key
        for key in out.store.objects
        if key.startswith(f"{RULES.base}/head") or key == f"{prefix}/cube.zarr/zarr.json"
    ]:
        out.store.delete(key)
    out.store.put(f"{prefix}/steps/0/0_0.json", b'{"format":1,"obj')
    out.store.delete(f"{prefix}/cube.zarr/confidence/c/2/0/1")
    pool = InlinePool(out.store)
    out.update(pool=pool)
    assert sorted(key.split("/generations/")[1] for key in pool.keys) == ["1/0/0_0", "1/2/0_1"]
    assert snapshot(out.store) == wanted_bytes


def test_a_copy_of_what_the_older_generation_has_lost_is_computed(out: Watched) -> None:
    out.commit(A, C)
    out.update()
    out.store.delete(f"{current(out.store)}/classes/c/1/0/0")
    out.commit(B)
    assert out.update().generation == 2
    fresh = Watched(out.store.ref.path)
    fresh.commit(A, B, C)
    fresh.update()
    assert snapshot(out.store) == snapshot(fresh.store)


def test_a_scene_that_cannot_be_read_is_named_and_what_is_before_it_is_seen(out: Watched) -> None:
    out.commit(A, B, D)
    path = (out.files.ref / f"{B.prefix}/landwater.tif").path
    path.write_bytes(path.read_bytes()[:-50])
    made = out.update()
    assert dates(made) == ["2020-01-01"]
    assert all("landwater.tif changed since it was checked" in text for text in made.failures)
    out.commit(B)
    mended = out.update()
    assert dates(mended) == ["2020-01-01", "2020-02-01", "2020-04-01"]
    assert not mended.failures


def test_a_head_never_goes_back(out: Watched) -> None:
    for number, now in ((2, 2), (1, 2), (3, 3)):
        advance_head(out.store, "m", number, {"key": "k"})
        assert read_head(out.store, "m") == now


def test_a_slow_writer_takes_no_date_back(out: Watched) -> None:
    """Two writers have the same claims; the slower one commits fewer of them, and later."""
    out.commit(A, B, D)
    out.update()
    before = snapshot(out.store)
    held = newest_generation(out.store, RULES.base)
    assert held is not None
    commit_steps(out.store, replace(held, committed=0), 1)
    assert snapshot(out.store) == before


def test_steps_that_no_log_knows_are_refused(out: Watched) -> None:
    out.commit(A)
    out.update()
    key = f"{current(out.store)}/zarr.json"
    root = json.loads(out.store.get(key))
    root["attributes"]["earthloom"]["steps"][0]["date"] = "1999-01-01"
    out.store.put(key, json.dumps(root).encode())
    with pytest.raises(PublishError, match="holds steps that its log does not know"):
        out.update()


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The cube of all scenes, made in one go."""
    out = Watched(tmp_path_factory.mktemp("once"))
    out.commit(*SCENES)
    out.update()
    return snapshot(out.store)


@pytest.mark.long
@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_order_of_arrival_changes_no_byte(tmp_path: Path, at_once: dict[str, bytes], data: st.DataObject) -> None:
    """Scenes come in any order, some twice, with updates in between: the cube is that of all at once."""
    arrivals = [*data.draw(st.permutations(SCENES)), *data.draw(st.lists(st.sampled_from(SCENES), max_size=2))]
    updates = data.draw(st.lists(st.booleans(), min_size=len(arrivals), max_size=len(arrivals)))
    out = Watched(tmp_path)
    for result, update in zip(arrivals, updates, strict=True):
        out.commit(result)
        if update:
            out.update()
    out.update()
    assert snapshot(out.store) == at_once


def test_two_writers_at_once_make_one_cube(tmp_path: Path, at_once: dict[str, bytes]) -> None:
    """Each has seen other scenes when it begins, and new ones come in between."""
    out = Watched(tmp_path / "out")
    out.commit(A, C)
    start = threading.Barrier(3)
    ends: list[CubeUpdate | Exception] = []

    def write() -> None:
        start.wait()
        try:
            for _ in range(2):
                ends.append(out.update())
        except Exception as error:
            ends.append(error)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    start.wait()
    out.commit(D, B, C2)
    for thread in threads:
        thread.join()
    assert not [end for end in ends if isinstance(end, Exception)]
    out.update()
    assert snapshot(out.store) == at_once


def test_a_folder_and_workers_in_threads_give_the_same_bytes(tmp_path: Path) -> None:
    memory, store = Watched(tmp_path / "memory"), open_store(ObjectRef.parse(str(tmp_path / "folder")))
    folder = Watched(tmp_path / "folder", store)
    for results in ((A, D), (B,)):
        memory.commit(*results)
        memory.update()
        folder.commit(*results)
        with Pool(EngineOptions(executor="local"), store.ref) as pool:
            assert not folder.update(pool=pool).failures
    assert snapshot(store) == snapshot(memory.store)


@pytest.mark.s3
def test_a_bucket_has_the_same_bytes_and_copies_on_the_server(tmp_path: Path, s3_env: None) -> None:
    memory, store = Watched(tmp_path), open_store(ObjectRef.parse("s3://outputs/test-cube"))
    bucket = Watched(tmp_path, store)
    for results in ((A, D), (B,)):
        memory.commit(*results)
        memory.update()
        bucket.commit(*results)
        assert not bucket.update().failures
    assert snapshot(store) == snapshot(memory.store)
    cube = open_cube(store, current(store))
    held = memory.store
    assert np.array_equal(
        cube.read(store, "classes", AREA.window), open_cube(held, current(held)).read(held, "classes", AREA.window)
    )
