"""A guarded process: its ends are those of its work, and only a death at work that was announced lets it go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_GUARDED = """
import os, signal, sys, time
from earthloom.cluster.guard import is_guarded, rely_on_guard, stand_guard
killed_by = stand_guard()
if killed_by:
    print(f"outlived {killed_by}, guarded {is_guarded()}", flush=True)
    sys.exit(5)
assert is_guarded()
"""


def _start(work: str, before: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", before + _GUARDED + work], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def _ended(work: str) -> tuple[int, str]:
    process = _start(work)
    return process.wait(timeout=120), process.communicate()[0]


@pytest.mark.parametrize("code", [0, 3, 143])
def test_the_exit_code_of_the_work_is_that_of_the_process(code: int) -> None:
    assert _ended(f"print('worked', flush=True); sys.exit({code})") == (code, "worked\n")


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_work_that_is_killed_after_it_was_announced_is_outlived(name: str) -> None:
    code, said = _ended(f"rely_on_guard(); os.kill(os.getpid(), signal.{name})")
    assert (code, said) == (5, f"outlived {name}, guarded False\n")


def test_a_death_before_that_is_the_death_of_the_process() -> None:
    assert _ended("os.kill(os.getpid(), signal.SIGKILL)") == (-signal.SIGKILL, "")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_a_command_reaches_the_work_and_nothing_is_begun_again(stop: signal.Signals) -> None:
    process = _start(
        "rely_on_guard()\n"
        f"signal.signal({int(stop)}, lambda *_: (print('put away', flush=True), os._exit(7)))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.1)",  # a signal just before a long sleep would be heard after it
        before=f"import signal; signal.signal({int(stop)}, signal.SIG_DFL)",  # a background job of a shell ignores some
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(stop)
    assert process.wait(timeout=60) == 7
    assert process.communicate()[0] == "put away\n"


def test_work_that_a_signal_kills_outright_is_not_outlived_where_somebody_wanted_its_end() -> None:
    process = _start("rely_on_guard(); print('ready', flush=True); time.sleep(100)")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == -signal.SIGTERM


def test_what_was_ignored_stays_so() -> None:
    ignored = "import signal\nfor one in (signal.SIGHUP, signal.SIGCHLD): signal.signal(one, signal.SIG_IGN)\n"
    work = "rely_on_guard(); print('ready', flush=True); time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)"
    process = subprocess.Popen(
        [sys.executable, "-c", ignored + _GUARDED + work], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 5
    assert process.communicate()[0] == "outlived SIGKILL, guarded False\n"


def test_work_does_not_outlive_its_guard() -> None:
    process = _start("print(os.getpid(), flush=True); time.sleep(100)")
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.kill()
    process.wait(timeout=60)
    deadline = time.monotonic() + 60
    while _is_running(worker):
        assert time.monotonic() < deadline, "the work goes on"
        time.sleep(0.02)


def test_a_process_with_threads_is_not_forked() -> None:
    threaded = "import threading, time\nthreading.Thread(target=time.sleep, args=(3,), daemon=True).start()\n"
    process = subprocess.run(
        [sys.executable, "-c", threaded + _GUARDED.replace("assert is_guarded()", "print(is_guarded(), os.getpid())")],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert process.stdout.startswith("False ")


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z" and os.getpid() != pid
    except OSError:
        return False
