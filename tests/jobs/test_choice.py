"""Who computes a run that leaves it open."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest

from earthloom.jobs.config import load
from earthloom.jobs.execution.choice import LARGE_MPX, LONG_S, RAY_START_S, pays, settle
from earthloom.jobs.execution.opening import StoredScenes
from earthloom.jobs.planning.plan import RunPlan, plan
from earthloom.tiling.storage.store import open_store
from tests.scenes import landscape, write_scene


@pytest.mark.parametrize(
    ("seconds", "mpx", "n_workers", "wanted"),
    [
        (LONG_S, 2.0, 1, False),  # one worker gains nothing by Ray
        (LONG_S + 1, 2.0, 1, True),
        (RAY_START_S, 2.0, 100, False),
        (2 * RAY_START_S, 2.0, 2, False),  # half of it is saved: as much as the start costs
        (2 * RAY_START_S + 1, 2.0, 2, True),
        (0.0, 2.0, 1, False),
        (None, LARGE_MPX, 1, False),
        (None, LARGE_MPX + 1, 1, True),
    ],
)
def test_ray_pays_where_it_saves_more_than_its_start_or_the_run_is_long(
    seconds: float | None, mpx: float, n_workers: int, wanted: bool
) -> None:
    assert pays(seconds, mpx, n_workers) is wanted


def _settled(tmp_path: Path, *, guarded: bool = True, **options: object) -> tuple[str, str | None, bool]:
    """(executor, sentence, whether the guard was told)"""
    write_scene(tmp_path / "lake.tif", landscape(300, 300, 2), ("green", "swir16"))
    config = load(
        {"scenes": (str(tmp_path / "lake.tif"),), "out": str(tmp_path / "out"), "model": "water-index", "scale": 1e-4,
         "quantity": "toa_reflectance", **options}
    )  # fmt: skip
    made: RunPlan = plan(config)
    ahead = StoredScenes(open_store(made.out), made.scenes)
    with (
        mock.patch("earthloom.jobs.execution.choice.is_guarded", return_value=guarded),
        mock.patch("earthloom.jobs.execution.choice.rely_on_guard") as relied,
    ):
        settled, choice = settle(config, made, ahead)
        assert choice is None or choice.executor == settled.engine.executor
        assert ahead.next() is not None, "what was asked of storage is there for the driver"
        return settled.engine.executor, choice.sentence if choice else None, relied.called


def test_a_small_run_of_a_guarded_command_is_computed_in_its_process_and_says_why(tmp_path: Path) -> None:
    executor, sentence, relied = _settled(tmp_path)
    assert (executor, relied) == ("local", True)
    assert sentence is not None
    assert "0.1 Mpx" in sentence
    assert f"{RAY_START_S:.0f} s" in sentence


@pytest.mark.parametrize("options", [{"guarded": False}, {"workers": 2}])
def test_a_program_of_others_and_several_workers_get_ray(tmp_path: Path, options: dict[str, object]) -> None:
    if "workers" in options and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    executor, sentence, relied = _settled(tmp_path, **options)  # type: ignore[arg-type]  # both kinds
    assert (executor, sentence, relied) == ("ray", "computed by workers on Ray", False)


@pytest.mark.parametrize("executor", ["ray", "local"])
def test_what_the_user_decided_stays_and_needs_no_sentence(tmp_path: Path, executor: str) -> None:
    assert _settled(tmp_path, executor=executor) == (executor, None, False)
