"""A run is known by what was asked for: neither the order, nor who computes it, nor one bad scene changes the others."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.jobs.config import load
from earthloom.jobs.planning.plan import RunPlan, plan
from earthloom.jobs.planning.resources import Share
from earthloom.jobs.records.canonical import canonical
from earthloom.models.device.resolve import Device
from tests.http_range_server import serve_apart
from tests.maps import OPTIONS, lake
from tests.models.nets import CPU
from tests.scenes import landscape, write_scene


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three scenes, two of which share a name, and one that lacks a band."""
    folder = tmp_path_factory.mktemp("plan")
    good = [lake(folder / sub, name, width=300, height=200, seed=seed)
            for seed, (sub, name) in enumerate((("x", "a"), ("x", "b"), ("y", "a")))]  # fmt: skip
    bad = write_scene(folder / "x/poor.tif", landscape(64, 64, 1), ("green",))
    return [*map(str, good), str(bad)]


def planned(scenes: list[str], **options: Any) -> RunPlan:
    """With two threads to a worker, whatever machine this is."""
    return plan(load({"scenes": tuple(scenes), "out": "/nowhere", **OPTIONS, **options}), None, on(2))


def on(threads: int, memory_bytes: int | None = None) -> Share:
    return Share(workers=1, threads=threads, memory_bytes=memory_bytes)


def keys(made: RunPlan) -> dict[str, str]:
    return {scene.scene.id: scene.key for scene in made.scenes}


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_scenes_changes_neither_keys_nor_the_run(scenes: list[str], seed: int) -> None:
    shuffled = random.Random(seed).sample(scenes, len(scenes))
    result, first = planned(shuffled), planned(scenes)
    assert (result.run_id, keys(result)) == (first.run_id, keys(first))
    assert canonical(result.document()) == canonical(first.document())


def test_a_refused_scene_changes_no_other_scene(scenes: list[str]) -> None:
    whole, without = planned(scenes), planned(scenes[:3])
    assert [refused.id for refused in whole.refused] == ["poor"]
    assert keys(whole) == keys(without)
    assert whole.run_id != without.run_id, "more was asked for"
    assert whole.document()["refused"] == ["poor"]


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 3}, {"workers": 2}, {"block": 1024}, {"memory_per_worker": 3 * 2**30}, {"allow_failures": "any"},
        {"max_failures": 1}, {"max_runtime": 60.0}, {"out": "/elsewhere"}, {"datetime": "2020-01-01"},
    ],
)  # fmt: skip
def test_what_cannot_change_a_pixel_leaves_the_run_as_it_is(scenes: list[str], options: dict[str, Any]) -> None:
    assert planned(scenes, **options).run_id == planned(scenes).run_id


def test_each_scene_and_each_option_that_changes_pixels_is_another_run(scenes: list[str]) -> None:
    first = planned(scenes)
    others = [
        planned(scenes[:2]), planned(scenes[1:]), planned(scenes, nodata=7), planned(scenes, scale=2e-4),
        planned(scenes, core=512), planned(scenes, shard=1024, block=1024), planned(scenes, precision="bf16"),
        planned(scenes, quantity="toa_reflectance"),
    ]  # fmt: skip
    assert len({first.run_id, *(other.run_id for other in others)}) == 1 + len(others)
    for other in others[2:]:
        assert not set(keys(first).values()) & set(keys(other).values()), "stale and fresh results would mix"


def test_a_changed_source_is_another_result_and_a_copied_one_is_not(scenes: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "a.tif"
    copy.write_bytes(Path(scenes[0]).read_bytes())
    assert planned([str(copy)]).run_id == planned(scenes[:1]).run_id
    copy.write_bytes(Path(scenes[1]).read_bytes())
    assert planned([str(copy)]).run_id != planned(scenes[:1]).run_id


def test_where_unused_files_stand_among_a_scenes_files_changes_nothing(tmp_path: Path) -> None:
    pixels = landscape(300, 200, 3)
    parts = {
        name: write_scene(tmp_path / f"{name}.tif", pixels[[band]])
        for band, name in enumerate(("green", "swir16", "nir"))
    }

    def key(*names: str) -> str:
        reference = ",".join(f"{name}={parts[name]}" for name in names)
        (found,) = planned([reference], scene_id="pond").scenes
        return found.key

    one = key("green", "swir16")
    assert {one, key("swir16", "green"), key("nir", "green", "swir16"), key("green", "nir", "swir16")} == {one}


def test_where_a_scene_is_far_away_more_blocks_are_read_ahead_as_far_as_memory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small: dict[str, Any] = {"block": 512, "shard": 512}  # so that there are blocks to be read ahead
    pixels, names = landscape(1300, 700, 2), ("far.tif", "too.tif")
    near = planned([str(write_scene(tmp_path / name, pixels, ("green", "swir16"))) for name in names], **small)
    with serve_apart(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.removeprefix("http://"))
        there = [f"{server}/{name}" for name in names]
        far = planned(there, **small)
        tight = planned(there, memory_per_worker=far.worker_bytes - 1, **small)
    assert far.shape.lanes == near.shape.lanes + 3
    assert near.worker_bytes < tight.worker_bytes < far.worker_bytes
    assert near.shape.lanes <= tight.shape.lanes < far.shape.lanes


def test_blocks_come_in_strips_whose_shared_tiles_fit_the_cache(scenes: list[str]) -> None:
    made = planned(scenes[:1], core=512).scenes[0]
    wide = dataclasses.replace(made, scene=dataclasses.replace(
        made.scene, grid=dataclasses.replace(made.scene.grid, width=40 * 2048, height=5 * 2048)
    ), block_px=2048, shard_px=2048)  # fmt: skip
    assert [block.row for block in wide.blocks()] == sorted(block.row for block in wide.blocks()), "no halo: row by row"
    halo = dataclasses.replace(wide.chain.stages[0].chips, halo_px=96)
    stages = (dataclasses.replace(wide.chain.stages[0], chips=halo), *wide.chain.stages[1:])
    strips = dataclasses.replace(wide, chain=dataclasses.replace(wide.chain, stages=stages))
    order = [(block.row, block.col) for block in strips.blocks()]
    assert len(set(order)) == 200
    assert strips.strip
    assert 1 < strips.strip < 40
    first = [place for place in order if place[1] < strips.strip]
    assert order[: len(first)] == sorted(first), "the first strip is done before the second begins"


def test_chips_are_computed_side_by_side_as_far_as_threads_chips_and_memory_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.full((3, 2048, 3000), 1000, np.uint16)
    path = write_scene(tmp_path / "wide.tif", pixels, ("green", "red", "nir"))
    options = OPTIONS | {"model": "denoise", "shard": 2048, "block": 2048, "out": "/nowhere", "scenes": (str(path),)}

    def passes(threads: int, **others: Any) -> int:
        config = load(options | others)
        return plan(config, CPU, on(threads)).shape.passes

    assert [passes(threads) for threads in (1, 2, 3, 4, 6, 8)] == [1, 2, 3, 4, 6, 6], "the scene has six chips"
    made = [plan(load(options), CPU, on(n)) for n in (1, 2, 3, 4, 6)]
    assert [(one.shape.computing, one.shape.lanes) for one in made] == [(1, 3), (2, 4), (2, 4), (2, 4), (3, 5)], (
        "a block has four"
    )
    coarse = [plan(load(options | {"core": 2048}), CPU, on(n)) for n in (1, 2, 4)]
    assert [(one.shape.passes, one.shape.computing, one.shape.lanes) for one in coarse] == [
        (1, 1, 3),
        (2, 2, 4),
        (2, 2, 4),
    ]
    sizes = [made[number].worker_bytes for number in (0, 1, 3)]
    assert sizes == sorted(set(sizes)), "each pass has activations of its own"
    tight = plan(load(options | {"memory_per_worker": sizes[1]}), CPU, on(4))
    assert (tight.shape.passes, tight.worker_bytes) == (2, sizes[1])
    note = "memory for 2 chips at once where 4 could be computed; `memory_per_worker=2GiB` would do"
    assert ("wide", note) in tight.notes
    assert passes(8, batch=4) == 2, "four chips make one pass"
    little = plan(load(options), CPU, on(4, sizes[1]))
    assert (little.shape.passes, little.worker_bytes) == (2, sizes[1]), "a worker wants no more than the machine has"
    assert ("wide", "memory for 2 chips at once where 4 could be computed") in little.notes
    assert plan(load(options), CPU, on(4, 1)).shape.passes == 1, "what is free now may be more when the run begins"
    tiny = write_scene(tmp_path / "tiny.tif", pixels[:, :100, :100], ("green", "red", "nir"))
    assert passes(8, scenes=(str(tiny),)) == 1
    assert passes(4, scenes=(str(tiny), str(path))) == 4, "a small scene leaves the others as they are"
    monkeypatch.setattr("earthloom.jobs.planning.plan.flop_per_s", lambda _: 1e12)
    on_gpu = plan(load(options), dataclasses.replace(CPU, kind="cuda"), on(4))
    assert (on_gpu.shape.passes, on_gpu.shape.computing) == (1, 1), "a GPU has batches"


def test_where_memory_allows_a_worker_keeps_what_chips_free(scenes: list[str], tmp_path: Path) -> None:
    bands = ("blue", "green", "red", "nir", "swir16", "swir22")
    path = write_scene(tmp_path / "lake.tif", np.full((6, 600, 600), 1000, np.uint16), bands)
    options = OPTIONS | {"bands": None, "model": "landwater", "out": "/nowhere", "scenes": (str(path),)}
    roomy = plan(load(options), CPU, on(1))
    tight = plan(load(options | {"memory_per_worker": roomy.worker_bytes - 1}), CPU, on(1))
    assert 0.8 * roomy.worker_bytes < roomy.shape.kept_bytes < roomy.worker_bytes
    assert tight.shape.kept_bytes == 0
    assert tight.worker_bytes < roomy.worker_bytes
    assert [scene.key for scene in tight.scenes] == [scene.key for scene in roomy.scenes]
    assert planned(scenes).shape.kept_bytes == 0, "an index needs no activations worth keeping"


def test_a_machine_without_a_gpu_plans_for_nodes_that_have_one(scenes: list[str]) -> None:
    """The head of a cluster; its nodes have said how fast they are."""
    device = Device(kind="cuda", precision="bf16", device_class="cuda-sm90x132-12.8-91002")
    config = load({"scenes": tuple(scenes), "out": "out", **OPTIONS, "device": "cuda"})
    given = Share(workers=2, threads=4, gpus=1.0)
    made = plan(config, device, given, speed=2e9)
    assert len(made.scenes) == 3
    assert made.estimated_s == {one.scene.id: (one.flop or 0) / 2e9 for one in made.scenes if one.flop is not None}


def test_scenes_that_are_alike_share_what_is_alike(scenes: list[str]) -> None:
    """100,000 plans have to lie in the driver's memory."""
    first, second = planned(scenes).scenes[:2]
    assert first.scene.bands is second.scene.bands
    assert first.memory is second.memory
