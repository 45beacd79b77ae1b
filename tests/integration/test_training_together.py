"""A training on two workers of Ray: what comes of it, and that it goes on when one of them is killed."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import earthloom
from earthloom.cluster.session import Session
from earthloom.jobs.learning.config import load_training
from earthloom.jobs.learning.train import train
from earthloom.tiling.errors import ConfigError
from tests.jobs.learning.meadows import meadow, tables

pytestmark = pytest.mark.usefixtures("unmeasured_memory")


def laid_out(folder: Path, **schedule: Any) -> dict[str, Any]:
    meadow(folder, "a", width=256, height=256)
    return tables(folder, "a", schedule={"batch": 4, "validate_steps": 4} | schedule)


def kill_a_worker(out: Path, killed: list[int], patience_s: float = 300) -> None:
    """End a process that trains, once it has left a checkpoint."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if list(out.glob("training/*/seed-0/step-*.safetensors")):
            for process in psutil.process_iter(["cmdline"]):
                line = " ".join(process.info["cmdline"] or [])
                if line.startswith("ray::") and "TrainWorker" in line:
                    process.kill()
                    killed.append(process.pid)
                    return
        time.sleep(0.02)


@pytest.mark.long
@pytest.mark.slow
def test_a_training_goes_on_when_a_worker_is_killed(tmp_path: Path, ray_session: Session) -> None:
    values = laid_out(tmp_path, steps=40)
    out, killed = Path(values["out"]), list[int]()
    killer = threading.Thread(target=kill_a_worker, args=(out, killed), daemon=True)
    killer.start()
    trained = earthloom.train(values, workers=2)
    killer.join(1)
    assert killed, "a worker was killed"
    (seed,) = trained.record["seeds"]
    assert seed["steps"] == 40
    assert trained.record["made_by"]["workers"] == 2
    looks = [look["step"] for look in seed["validation"]["looks"]]
    assert looks == list(range(4, 41, 4)), "no look is missed and none taken twice"
    assert earthloom.train(values, workers=2).was_there
    undisturbed = earthloom.train(values | {"out": str(tmp_path / "undisturbed")}, workers=2)
    assert undisturbed.card.weights == trained.card.weights, "the bytes of one in which nobody was killed"


def test_a_training_goes_on_with_the_workers_that_it_was_begun_with(tmp_path: Path) -> None:
    config = load_training(laid_out(tmp_path))

    def stop(stage: str) -> None:
        if stage == "training":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, on_stage=stop)
    with pytest.raises(
        ConfigError, match="begun with 1 workers, which decides what is learned, and `workers` is now 2"
    ):
        train(config, workers=2)


def test_an_address_without_workers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="of no use without `workers`"):
        earthloom.train(laid_out(tmp_path), address="head:6379")
