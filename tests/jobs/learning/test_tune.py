"""A study: which trials go on, that it is resumed, and that the best file can be trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.jobs.command import main
from earthloom.jobs.learning.config import load_training
from earthloom.jobs.learning.halving import goes_on, rungs, score_at
from earthloom.jobs.learning.training_file import to_toml
from earthloom.jobs.learning.tune import Study, _proposed, tune
from earthloom.jobs.records.canonical import canonical
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.rounding import ceil_div
from tests.jobs.learning.meadows import meadow, tables

LOOKS = st.lists(st.floats(0, 1), min_size=0, max_size=6).map(
    lambda scores: [(3 * i + 3, s) for i, s in enumerate(scores)]
)


def test_rungs_rise_by_the_reduction_and_leave_the_end_out() -> None:
    assert rungs(4, 108, 3) == [4, 12, 36]
    assert rungs(4, 109, 3) == [4, 12, 36, 108]
    assert rungs(200, 100, 3) == []


@settings(deadline=None, max_examples=60)
@given(every=st.lists(LOOKS, min_size=1, max_size=9), rung=st.integers(1, 18), reduction=st.integers(2, 4))
def test_at_a_rung_the_best_share_goes_on_and_the_best_always_does(
    every: list[list[tuple[int, float]]], rung: int, reduction: int
) -> None:
    scores = [score_at(looks, rung) for looks in every]
    there = [score for score in scores if score is not None]
    on = [goes_on(looks, [o for j, o in enumerate(every) if j != i], rung, reduction) for i, looks in enumerate(every)]
    for score, still in zip(scores, on, strict=True):
        if score is None:
            assert still, "it has not come there"
        elif score == max(there):
            assert still
        elif sum(other > score for other in there) >= ceil_div(len(there), reduction):
            assert not still


def test_what_is_proposed_depends_on_the_trials_that_ended_and_the_number_alone(tmp_path: Path) -> None:
    space = load_training(studied(tmp_path)).tune
    assert space is not None
    ended = {
        n: {"parameters": {"schedule.rate": 0.01 / (n + 1), "model.arguments": {"base": 4}}, "score": n / 20, "number": n}
        for n in range(10)
    }  # fmt: skip
    first = _proposed(dict(space.space), 0, 10, ended)
    assert first == _proposed(dict(space.space), 0, 10, dict(reversed(ended.items())))
    assert first != _proposed(dict(space.space), 0, 11, ended)
    assert 1e-7 <= first["schedule.rate"] <= 0.03
    assert first["model.arguments"] in ({"base": 4}, {"base": 2})


def test_a_table_of_several_keys_is_known_again_among_what_was_tried() -> None:
    """Documents have keys in order; the second trial ended with Optuna's ValueError."""
    space = {"model.arguments": ({"depth": 3, "base": 4}, {"depth": 2, "base": 4})}
    first = _proposed(space, 0, 0, {})
    ended = {0: {"parameters": json.loads(canonical(first)), "score": 0.5, "number": 0}}
    assert _proposed(space, 0, 1, ended)["model.arguments"] in space["model.arguments"]


def studied(folder: Path) -> dict[str, Any]:
    meadow(folder, "a", width=256, height=192)
    space = {"schedule.rate": {"low": 1e-7, "high": 0.03, "log": True}, "model.arguments": [{"base": 4}, {"base": 2}]}
    return tables(
        folder, "a", schedule={"steps": 10, "validate_steps": 2}, tune={"space": space, "least_steps": 2},
        split={"validation": 0.3, "test": 0},
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.slow
def test_a_study_ends_hopeless_trials_goes_on_where_it_was_stopped_and_names_the_best(tmp_path: Path) -> None:
    config = load_training(studied(tmp_path))
    told: list[int] = []

    def stop(result: dict[str, Any]) -> None:
        told.append(result["number"])
        if len(told) < 3:
            return
        (study,) = (tmp_path / "model" / "tune").iterdir()
        for number in range(90, 94):  # others, elsewhere, that do far better
            (study / f"trial-{number:04d}").mkdir()
            looks = {"format": 1, "looks": [[2, 0.9], [6, 0.95]]}
            (study / f"trial-{number:04d}" / "looks.json").write_text(json.dumps(looks))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(config, 6, on_trial=stop)
    study = tune(config, 6, on_trial=lambda result: told.append(result["number"]))
    assert sorted(told) == list(range(6)), "no trial is run twice"
    assert [result["number"] for result in study.trials] == list(range(6))
    pruned = [result for result in study.trials if result["state"] == "pruned"]
    complete = [result for result in study.trials if result["state"] == "complete"]
    assert [result["number"] for result in pruned] == [3, 4, 5]
    assert all(result["steps"] == 2 for result in pruned), "at the first rung"
    assert all(result["steps"] == 10 for result in complete)
    best = max(complete, key=lambda result: float(result["score"]))
    assert study.best == best["number"]
    assert study.file is not None
    chosen = load_training(study.file)
    assert chosen.schedule.rate == best["parameters"]["schedule.rate"]
    assert (chosen.out, chosen.tune) == (f"{config.out}/best", None)
    kept = json.loads((Path(config.out) / "study.json").read_bytes())
    assert kept["best"] == study.best
    assert not list(Path(config.out).glob("tune/*/*/*/*.safetensors")), "what a trial needed is gone when it ends"
    again: Study = tune(config, 6)
    assert again == study


def test_the_command_tells_what_it_tries_while_it_tries(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "meadows.toml"
    file.write_text(to_toml(studied(tmp_path)))
    with pytest.raises(SystemExit) as ended:
        main(["tune", str(file), "--trials", "1"])
    said = capfd.readouterr().err.splitlines()
    assert ended.value.code == 0
    begun, *looks, done = [line for line in said if line.startswith("trial 0")]
    assert "begins: schedule.rate = " in begun
    assert [line.partition(", loss")[0] for line in looks] == [
        f"trial 0: step {step} of 10" for step in range(2, 12, 2)
    ]
    assert "complete with" in done


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tune": {"space": {}}}, "nothing is to be tried"),
        ({"tune": {"space": {"schedule.rat": [1]}}}, "schedule has no key 'rat'"),
        ({"tune": {"space": {"rate": [1]}}}, "'rate' is no key of a table"),
        ({"tune": {"space": {"schedule.batch": [0, 2]}}}, r"schedule\.batch must be greater than 0"),
        ({"split": {"validation": 0}}, "trials are chosen by the validation part, and there is none"),
    ],
)
def test_a_study_that_cannot_be_made_is_refused_at_once(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    values = studied(tmp_path)
    for key, value in changes.items():
        values[key] = values[key] | value
    with pytest.raises(ConfigError, match=message):
        tune(load_training(values), 2)
