from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from earthloom.tiling.errors import EngineError, SceneError, StorageError
from earthloom.tiling.reading.sandbox import Cap, Disposables, start_early

# ---- what children are asked to do


def pid() -> int:
    return os.getpid()


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def hoard(mib: int) -> int:
    return len(bytearray(mib << 20))


def hoard_in_native_code() -> None:
    import numpy as np

    np.ones(4 << 30, np.uint8)


def shout(mib: int) -> bytes:
    return bytes(mib << 20)


def falter() -> None:
    raise StorageError("busy", transient=True)


def stumble() -> None:
    raise KeyError("no\nsuch thing")


def write(path: Path) -> None:
    path.write_bytes(bytes(1 << 20))


def limits() -> Any:
    import resource

    return resource.getrlimit(resource.RLIMIT_CORE)


# ---- tests


def test_calls_share_one_child_that_ends_with_the_block() -> None:
    with Disposables() as pool:
        first, second = pool.call("a.tif", pid), pool.call("b.tif", pid)
        assert first == second != os.getpid()
        assert pool.call("a.tif", limits) == (0, 0)
    assert not psutil.pid_exists(first)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (die, (signal.SIGSEGV,), r"^bad\.tif cannot be trusted: checking it killed its process \(SIGSEGV\).*fetch it"),
        (die, (signal.SIGKILL,), r"killed its process \(SIGKILL\)"),
        (os._exit, (7,), r"killed its process \(exit code 7\)"),
        (sleep, (60,), r"took more than 1 s; it is made to keep readers busy"),
        (hoard, (900,), r"would take more than the 600 MiB of memory .* rewrite it"),
        (hoard_in_native_code, (), r"would take more than the 600 MiB of memory"),
        (shout, (20,), r"said more of it than the 16 MiB that are heard"),
        (stumble, (), r"bad\.tif could not be checked: KeyError: 'no\\nsuch thing'; the file says"),
    ],
)
def test_whatever_happens_in_a_child_is_an_error_of_that_call_and_the_next_one_works(
    function: Any, arguments: tuple[Any, ...], message: str
) -> None:
    patience_s = 1.0 if function is sleep else 120.0  # the others are seen at once, however long that takes here
    with Disposables(cap=Cap(deadline_s=patience_s, memory_bytes=600 << 20)) as pool:
        with pytest.raises(SceneError, match=message):
            pool.call("bad.tif", function, *arguments)
        assert pool.call("good.tif", pid) != os.getpid()


def test_errors_of_ours_cross_as_they_are() -> None:
    with Disposables() as pool, pytest.raises(StorageError, match="busy") as caught:
        pool.call("a.tif", falter)
    assert caught.value.transient


def test_a_child_cannot_write_a_file(tmp_path: Path) -> None:
    with Disposables() as pool, pytest.raises(SceneError, match="File too large"):
        pool.call("a.tif", write, tmp_path / "x")
    assert (tmp_path / "x").stat().st_size <= 64 * 1024


def test_a_child_that_cannot_start_is_not_the_scenes_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match=r"did not start .*No module named 'nonsense'"):
        with Disposables(preload=("nonsense",)) as pool:
            pool.call("a.tif", pid)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(EngineError, match="cannot start a process to check scenes in: No such file"):
        Disposables().call("a.tif", pid)


def test_threads_share_the_children_and_one_death_touches_one_call() -> None:
    barrier = threading.Barrier(6)

    def go(number: int) -> object:
        barrier.wait(120)
        try:
            return pool.call(f"{number}.tif", die, signal.SIGABRT) if number == 3 else pool.call(f"{number}.tif", pid)
        except SceneError as error:
            return str(error)

    with Disposables(size=2) as pool, ThreadPoolExecutor(6) as threads:
        results = list(threads.map(go, range(6)))
    assert "3.tif cannot be trusted" in str(results.pop(3))
    assert all(isinstance(result, int) for result in results)
    assert len(set(results)) <= 3, "two children and the one that replaced the dead one"


def test_a_child_that_was_started_early_is_the_first_of_the_next_pool_with_its_modules() -> None:
    start_early(("json",))
    with Disposables(1, preload=("json",)) as pool, Disposables(1, preload=("json",)) as other:
        first = psutil.Process(pool.call("a file", pid))
        assert first.create_time() <= psutil.Process(other.call("a file", pid)).create_time()
        assert first.pid != other.call("a file", pid)


@pytest.mark.parametrize(
    ("preload", "cap", "home"),
    [(("json", "csv"), None, None), (("json",), Cap(memory_bytes=1 << 30), None), (("json",), None, "elsewhere")],
)
def test_a_child_that_was_started_early_for_something_else_is_ended_and_not_used(
    preload: tuple[str, ...], cap: Cap | None, home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(psutil.Process().children())
    start_early(("json",))
    (early,) = set(psutil.Process().children()) - before
    if home:
        monkeypatch.setenv("AWS_PROFILE", home)
    with Disposables(1, cap, preload) as pool:
        assert pool.call("a file", pid) != early.pid
        assert not early.is_running()
