"""A training that is stopped keeps the steps that it took, wherever the signal strikes, and ends with the same bytes."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.learning.batches import Crops
from earthloom.jobs.learning.checkpoints import Checkpoints
from earthloom.jobs.learning.config import load_training
from earthloom.jobs.learning.fitting import Progress
from earthloom.jobs.learning.looks import ClassLook
from earthloom.jobs.learning.train import train
from earthloom.jobs.learning.training_file import to_toml
from earthloom.jobs.learning.unbroken import unbroken
from earthloom.models.training.team import Team
from tests.faults.training import digests
from tests.jobs.learning.meadows import meadow, tables

ROOT = Path(__file__).resolve().parents[2]
STEPS = 6
MEMORY = "earthloom.models.measuring.measure._bytes_per_px"  # measured by tests/models, which takes a minute


def laid_out(folder: Path, out: Path, **schedule: Any) -> dict[str, Any]:
    """A training with looks after every second step, and no checkpoint between two of them."""
    return tables(
        folder, "here", "there", out=str(out), compute={"checkpoint_s": 3600},
        schedule={"steps": STEPS, "validate_steps": 2} | schedule,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes, and in `undisturbed` what comes of them."""
    made = tmp_path_factory.mktemp("scenes")
    for number, name in enumerate(("here", "there")):
        meadow(made, name, seed=number, at_px=(2000 * number, 0), width=256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MEMORY, lambda *_: 300.0)
        train(load_training(laid_out(made, made / "undisturbed")))
    return made


@pytest.fixture(autouse=True)
def _leaving() -> Iterator[None]:
    """A handler as the command's, without its timer, and Python's own of Ctrl-C, which a background job of a shell lacks."""
    handlers = {signal.SIGTERM: lambda *_: sys.exit(143), signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _nth(function: Callable[..., Any], n: int, stop: signal.Signals) -> Callable[..., Any]:
    """The same function, within whose n-th call the process is stopped."""
    calls = 0

    def called(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == n:
            signal.raise_signal(stop)
            time.sleep(0)  # where Python hears of it
        return function(*arguments)

    return called


@pytest.mark.parametrize(
    ("stop", "place", "name", "n", "kept"),
    [
        pytest.param(signal.SIGTERM, Team, "average", 7, 3, id="within-a-step"),  # which calls it three times
        pytest.param(signal.SIGINT, Team, "average", 8, 3, id="within-a-step-by-Ctrl-C"),
        pytest.param(signal.SIGTERM, ClassLook, "__call__", 2, 4, id="within-a-look"),
        pytest.param(signal.SIGTERM, None, "", 0, 5, id="between-steps"),
    ],
)
def test_it_goes_on_with_the_step_after_the_last_that_was_taken(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stop: signal.Signals,
    place: type | None, name: str, n: int, kept: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(MEMORY, lambda *_: 300.0)
    config = load_training(laid_out(folder, tmp_path / "model"))

    def between(progress: Progress) -> None:
        if not n and progress.step == kept:
            signal.raise_signal(stop)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        if place:
            patch.setattr(place, name, _nth(getattr(place, name), n, stop))
        with pytest.raises((SystemExit, KeyboardInterrupt)):
            train(config, on_progress=between)
    assert f"stopped after step {kept} of {STEPS}, which is kept" in caplog.text
    told: list[Progress] = []
    train(config, on_progress=told.append)
    looked_again = name == "__call__"
    assert told[0].step == kept + (not looked_again)
    assert (told[0].look is not None) == (looked_again or told[0].step % 2 == 0)
    assert digests(tmp_path / "model") == digests(folder / "undisturbed")


def test_it_does_not_wait_for_storage_and_keeps_the_steps_before(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(MEMORY, lambda *_: 300.0)
    config = load_training(laid_out(folder, tmp_path / "model"))
    crop, storage, gave_up = Crops.crop, threading.Event(), list[int]()
    main = threading.main_thread().ident
    assert main is not None

    def hangs(self: Crops, step: int, place: int) -> tuple[Any, Any]:
        if step >= 3 and not storage.wait(30):
            gave_up.append(step)
        return crop(self, step, place)

    def tell(progress: Progress) -> None:
        if progress.step == 3:
            threading.Timer(
                0.3, signal.pthread_kill, (main, signal.SIGTERM)
            ).start()  # when it waits for its next batch

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Crops, "crop", hangs)
        with pytest.raises(SystemExit):
            train(config, on_progress=tell)
        assert not gave_up
        storage.set()
    assert f"stopped after step 3 of {STEPS}, which is kept" in caplog.text
    train(config)
    assert digests(tmp_path / "model") == digests(folder / "undisturbed")


def test_a_signal_does_not_wait_for_ever_for_what_is_to_stay_whole() -> None:
    def stays_whole() -> None:
        with unbroken(within_s=0.05):
            signal.raise_signal(signal.SIGTERM)
            threading.Event().wait(30)
            pytest.fail("it waited to the end")

    with pytest.raises(SystemExit):
        stays_whole()


@pytest.mark.parametrize("place", [Team, Checkpoints])
def test_a_second_signal_leaves_nothing_half_done(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: type
) -> None:
    monkeypatch.setattr(MEMORY, lambda *_: 300.0)
    config = load_training(laid_out(folder, tmp_path / "model"))
    name, n = ("average", 12) if place is Team else ("save_best", 1)
    with monkeypatch.context() as patch:
        once = _nth(getattr(place, name), n, signal.SIGTERM)
        patch.setattr(place, name, _nth(once, n, signal.SIGTERM))  # two signals within one call
        with pytest.raises(SystemExit):
            train(config)
    train(config)
    assert digests(tmp_path / "model") == digests(folder / "undisturbed")


@pytest.mark.long
def test_the_command_writes_where_it_stands_before_it_ends(folder: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "model", tmp_path / "meadows.toml"
    file.write_text(to_toml(laid_out(folder, out, steps=100_000, validate_steps=100_000)))
    command = [sys.executable, "-m", "earthloom", "train", str(file)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "step" not in (line := process.stderr.readline()):
            assert line, "it ended before its first steps"
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
    assert process.returncode == 143
    step = int(said.partition("stopped after step ")[2].partition(" ")[0])
    assert list(out.glob(f"training/*/seed-0/step-{step:09d}.safetensors"))
    assert "run the same command again" in said
