from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref

import pytest

from earthloom.tiling.background import Background


def test_values_and_errors_come_back_and_the_threads_go_on() -> None:
    pool = Background(2, "test")
    assert [pool.submit(pow, 2, n).result(120) for n in range(5)] == [1, 2, 4, 8, 16]
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result(120)
    meeting = threading.Barrier(2)
    waits = [pool.submit(meeting.wait, 120) for _ in range(2)]
    assert sorted(wait.result(120) for wait in waits) == [0, 1], "both threads are alive"


def alive() -> int:
    return sum(thread.name.startswith("ending-") for thread in threading.enumerate())


def test_the_threads_end_with_it_after_what_was_submitted() -> None:
    pool = Background(3, "ending")
    assert alive() == 3
    late = pool.submit(time.sleep, 0.1)
    del pool
    late.result(120)
    until = time.monotonic() + 120
    while alive():
        assert time.monotonic() < until, "threads are left"
        time.sleep(0.01)


def test_what_a_failed_call_held_goes_with_its_future() -> None:
    class Large:
        pass

    def fail(_: Large) -> None:
        raise ValueError

    pool, large = Background(1, "test"), Large()
    gone = weakref.ref(large)
    gc.disable()  # nothing must wait for the collector of cycles
    try:
        future = pool.submit(fail, large)
        assert isinstance(future.exception(120), ValueError)
        pool.submit(int).result(120)
        del future, large
        assert gone() is None
    finally:
        gc.enable()


def test_a_process_ends_without_waiting_for_them() -> None:
    code = (
        "import time; from earthloom.tiling.background import Background; "
        "Background(1, 'x').submit(time.sleep, 600); print('end')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "end\n"
