"""Real signals to real processes: the driver and the workers of a run on Ray, at moments that a seed decides."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from earthloom.tiling.rounding import ceil_div
from infra.processes import end
from tests.faults.golden import SIDE_PX, Golden, differences, markers, published
from tests.faults.loop import lost_bytes
from tests.faults.reader import Reader

ROOT = Path(__file__).resolve().parents[2]
_ARGUMENTS = (
    "--model", "water-index", "--scale", "0.0001", "--quantity", "reflectance", "--shard", "512", "--block", "512",
    "--precision", "fp32", "--device", "cpu", "--json",
)  # fmt: skip
_PATIENCE_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KillVerdict:
    """What became of one run that was killed again and again."""

    seed: int
    kills: tuple[str, ...]
    """`driver` or `worker`, in order."""
    runs: int
    excess_blocks: int
    """That the last run computed although storage vouched for them."""
    lost_bytes: int
    seconds: float
    wrong: tuple[str, ...]


def start(
    golden: Golden, out: Path | str, executor: str, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    words = ("run", str(golden.scenes), "--out", str(out), *_ARGUMENTS, "--executor", executor)
    return subprocess.Popen(
        [sys.executable, "-m", "earthloom", *words], cwd=ROOT, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip


def kill_loop(
    golden: Golden, out: Path, *, seed: int, kills: int, patience_s: float = _PATIENCE_S
) -> KillVerdict:  # fmt: skip
    """Run on Ray, killing the driver or a worker `kills` times in all, until a run comes to its end.

    The last one is killed while a scene is being published, the others after some more blocks.

    Args:
        patience_s: how long a run may take that nobody kills any more.
    """
    dice, begun, done, runs = random.Random(seed), time.monotonic(), list[str](), 0
    fates = [(dice.choice(("driver", "worker")), dice.randint(1, 6)) for _ in range(kills)]
    wrong: list[str] = []
    computed_px = missing_px = 0
    with Reader(out, pause_s=0.1) as reader:
        while runs <= kills + 1:
            process, runs, missing_px = start(golden, out, "ray"), runs + 1, _missing_px(out)
            try:
                while len(done) < kills and _reached(
                    process, _moment(out, fates[len(done)][1], len(done) == kills - 1)
                ):
                    who, _ = fates[len(done)]
                    if who == "driver":
                        process.kill()
                        process.wait()
                    else:
                        _kill_a_worker(process, dice)
                    done.append(who)
                stdout, _ = process.communicate(timeout=patience_s)
            except subprocess.TimeoutExpired:
                wrong.append(f"run {runs} was not done after {patience_s:g} s, with {markers(out)} blocks")
                break
            finally:
                end(process, grace_s=3)
            if process.returncode == 0:
                last = max(out.glob("runs/*/attempts/*.json"), key=lambda path: int(path.stem))
                computed_px = json.loads(last.read_bytes())["telemetry"]["computed_px"]
                break
            if process.returncode != -signal.SIGKILL:
                wrong.append(f"run {runs} ended with {process.returncode}: {stdout[-500:]}")
        else:
            wrong.append(f"not done after {runs} runs")
    excess_px = computed_px - missing_px
    if excess_px > 0:
        wrong.append(f"{excess_px} pixels were computed that storage vouched for")
    lost = differences(published(out), golden.published)
    wrong += [*reader.violations, *(f"{name} differs" for name in lost)]
    return KillVerdict(
        seed=seed, kills=tuple(done), runs=runs, excess_blocks=ceil_div(max(0, excess_px), 512**2),
        lost_bytes=lost_bytes(lost, golden), seconds=time.monotonic() - begun, wrong=tuple(wrong),
    )  # fmt: skip


def paused_driver(golden: Golden, out: Path) -> list[str]:
    """A driver is stopped in the middle, another finishes the run, the first one wakes up: what is wrong then."""
    first = start(golden, out, "local")
    second = None
    try:
        if not _reached(first, _moment(out, 5, False)):
            return ["the first driver was done too soon"]
        first.send_signal(signal.SIGSTOP)
        second = start(golden, out, "local")
        second.communicate(timeout=_PATIENCE_S)
        before = {path: path.stat().st_size for path in out.glob("scenes/*/*/result.json")}
        first.send_signal(signal.SIGCONT)
        first.communicate(timeout=_PATIENCE_S)
    finally:
        for process in (first, second):
            if process is not None:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                end(process, grace_s=3)
    wrong = [f"driver {n} ended with {one.returncode}" for n, one in enumerate((first, second), 1) if one.returncode]
    if len(before) != 2:
        wrong.append(f"the second driver committed {len(before)} scenes of 2")
    return wrong + [f"{name} differs" for name in differences(published(out), golden.published)]


def _reached(process: subprocess.Popen[str], moment: Callable[[], bool]) -> bool:
    """Wait for a moment; False if the process ended before."""
    deadline = time.monotonic() + _PATIENCE_S
    while not moment():
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _moment(out: Path, blocks: int, publishing: bool) -> Callable[[], bool]:
    """When so many more blocks are done, or when a scene is being published."""
    if not publishing:
        wanted = markers(out) + blocks
        return lambda: markers(out) >= wanted
    return lambda: any(
        not (path.parent / "result.json").exists() for path in out.glob("scenes/*/*/water-index-confidence.tif")
    )


def _kill_a_worker(process: subprocess.Popen[str], dice: random.Random) -> None:
    workers = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if child.name().startswith("ray::Lanes"):
                    workers.append(child)
    if workers:
        with suppress(psutil.NoSuchProcess):
            dice.choice(sorted(workers, key=lambda one: one.pid)).kill()


def _missing_px(out: Path) -> int:
    """Pixels of the blocks that storage does not vouch for."""
    last = SIDE_PX // 512
    side = [SIDE_PX - 512 * last if place == last else 512 for place in range(last + 1)]
    total = 2 * SIDE_PX**2
    for marker in out.glob("scenes/*/*/blocks/*.json"):
        row, _, col = marker.stem.partition("_")
        total -= side[int(row)] * side[int(col)]
    return total
