"""SIGTERM ends a run before it is done, whatever is in its way, and the same command continues it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.scenes import landscape, write_scene

ROOT = Path(__file__).resolve().parents[2]


SIDE_PX = 7 * 512
"""Seven blocks a side: enough to be in the middle of them."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.tile(landscape(SIDE_PX // 8, SIDE_PX // 8, 2), (1, 8, 8))
    return write_scene(tmp_path_factory.mktemp("in") / "lake.tif", pixels, ("green", "swir16"), compress=None)


@pytest.mark.parametrize(
    "executor", ["local", *(pytest.param(name, marks=pytest.mark.long) for name in ("auto", "ray"))]
)
def test_a_run_leaves_in_the_middle_of_its_blocks_and_is_continued(executor: str, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "earthloom", "run", str(scene), "--out", str(out), "--model", "water-index", "--scale", "0.0001",
        "--quantity", "toa_reflectance", "--shard", "512", "--block", "512", "--json", "--executor", executor,
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600
    while not list(out.glob("scenes/*/*/blocks/*.json")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "no block was done in time"
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "Traceback" not in errors
    assert not list(out.glob("scenes/*/*/result.json"))
    done = len(list(out.glob("scenes/*/*/blocks/*.json")))
    assert done < (SIDE_PX // 512) ** 2, "all blocks were waited for"
    finished = subprocess.run([*command[:-1], "local"], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert finished.returncode == 0, finished.stderr
    computed_px = json.loads(finished.stdout)["telemetry"]["computed_px"]
    assert computed_px <= SIDE_PX**2 - done * 512**2, "finished blocks were computed again"


_READY = """
import ctypes, time
from earthloom.jobs.command.sigterm import exit_on_sigterm
exit_on_sigterm()
print("ready", flush=True)
"""
_GOES_ON = """
while True:
    try:
        time.sleep(60)
    except SystemExit:
        pass
"""
_WAITS_IN_NATIVE_CODE = """
mutex, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
libc.pthread_mutex_lock(mutex)
libc.pthread_mutex_lock(mutex)  # for ever, and no signal ends it: like a request of obstore that is not answered
"""


@pytest.mark.parametrize("stubborn", [_GOES_ON, _WAITS_IN_NATIVE_CODE], ids=["catches", "native"])
def test_code_that_does_not_let_go_is_left_too(stubborn: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", _READY + stubborn], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143


_ENDED_BEFORE = """
import os, signal, threading, time
import click
from earthloom.jobs.command.sigterm import exit_on_sigterm

@click.command()
def command():
    exit_on_sigterm(0.1)

command.main([], standalone_mode=False)
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(1)
print(*(thread.name for thread in threading.enumerate()))
"""


def test_a_command_that_has_ended_leaves_signals_to_the_program_that_called_it() -> None:
    done = subprocess.run([sys.executable, "-c", _ENDED_BEFORE], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["heard", "MainThread"]
