from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from tiling.background import Background


def test_values_and_errors_come_back_and_the_threads_go_on() -> None:
    pool = Background(2, "test")
    assert [pool.submit(pow, 2, n).result(10) for n in range(5)] == [1, 2, 4, 8, 16]
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result(10)
    meeting = threading.Barrier(2)
    waits = [pool.submit(meeting.wait, 10) for _ in range(2)]
    assert sorted(wait.result(10) for wait in waits) == [0, 1], "both threads are alive"


def test_the_threads_end_with_it_after_what_was_submitted() -> None:
    before = threading.active_count()
    pool = Background(3, "test")
    assert threading.active_count() == before + 3
    late = pool.submit(time.sleep, 0.1)
    del pool
    late.result(10)
    until = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < until, "threads are left"
        time.sleep(0.01)


def test_a_process_ends_without_waiting_for_them() -> None:
    code = "import time; from tiling.background import Background; Background(1, 'x').submit(time.sleep, 600); print('end')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "end\n"
