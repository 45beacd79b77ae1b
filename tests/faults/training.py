"""Trainings that are killed: `python -m tests.faults.training FOLDER SEED KILLS` prints what is left of them.

A fork starts in no time, where a fresh interpreter takes seconds to import torch; so many kills fit into a test.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from hashlib import sha256
from pathlib import Path
from unittest import mock

from tests.jobs.learning.meadows import meadow, tables

STEPS = 16


def laid_out(folder: Path) -> None:
    """The scenes that are trained on."""
    for number in range(2):
        meadow(folder, f"s{number}", seed=number, at_px=(2000 * number, 0), width=256)


def train_once(folder: Path, out: Path) -> None:
    """A training from beginning to end, or on from where it stands."""
    from earthloom.jobs.learning.config import load_training
    from earthloom.jobs.learning.train import train

    augment = {"zoom": 1.2, "gain": 0.1, "noise": 0.01, "mixed": 0.5}
    schedule = {"steps": STEPS, "validate_steps": 4, "accumulate": 2}
    values = tables(folder, "s0", "s1", out=str(out), augment=augment, schedule=schedule)
    with mock.patch("earthloom.models.measuring.measure._bytes_per_px", return_value=300.0):
        train(load_training(values))


def digests(out: Path) -> dict[str, str]:
    """What users get, by name."""
    return {
        name: sha256((out / name).read_bytes()).hexdigest()
        for name in ("weights.safetensors", "record.json", "card.json")
    }


def killed(folder: Path, out: Path, seed: int, kills: int) -> list[str]:
    """Start it again and again, each time killed somewhere, then let it end; returns where each kill struck.

    Two kills of ten strike after some time, while data is opened; the others a moment after some more checkpoints, in the
    middle of a step or of a write.
    """
    dice, struck = random.Random(seed), list[str]()
    while True:
        child = os.fork()
        if child == 0:
            try:
                train_once(folder, out)
                os._exit(0)
            except BaseException as error:
                print(f"after {len(struck)} kills: {error!r}", file=sys.stderr)
                os._exit(1)
        if len(struck) == kills:
            _, status = os.waitpid(child, 0)
            if os.waitstatus_to_exitcode(status):
                raise SystemExit("the last life failed")
            return struck
        early = len(struck) % 5 == 4
        more, pause_s = (0, dice.uniform(0.1, 1.0)) if early else (dice.randint(1, 9), dice.uniform(0.0, 0.08))
        _wait_for(out, _state(out), more)
        time.sleep(pause_s)
        struck.append(f"{_state(out)} + {pause_s:.3f} s")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _state(out: Path) -> str:
    """The newest of the files that a training leaves behind while it goes on."""
    files = sorted(out.glob("training/*/seed-*/*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    return "/".join(files[-1].parts[-2:]) if files else "nothing"


def _wait_for(out: Path, state: str, changes: int, patience_s: float = 120.0) -> None:
    """Return when that has changed so many times."""
    end = time.monotonic() + patience_s
    while changes and time.monotonic() < end:
        try:
            found = _state(out)
        except FileNotFoundError:  # it removes what nobody needs any more
            continue
        if found != state:
            state, changes = found, changes - 1
        time.sleep(0.002)


def main(folder: Path, seed: int, kills: int) -> None:
    import earthloom.jobs.learning.train  # noqa: F401  # torch and all that, once for all lives

    folder.mkdir(parents=True, exist_ok=True)
    laid_out(folder)
    child = os.fork()
    if child == 0:
        train_once(folder, folder / "undisturbed")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit("the undisturbed training failed")
    struck = killed(folder, folder / "killed", seed, kills)
    left = sorted(path.name for path in (folder / "killed").rglob("*") if path.is_file())
    print(json.dumps({"struck": struck, "wanted": digests(folder / "undisturbed"),
                      "found": digests(folder / "killed"), "left": left}))  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
