"""What the C library keeps, seen from outside: each case in a process of its own, whose heap is untouched.

The kernel counts resident pages per CPU and adds them up late, so what it tells is right to a few MiB only.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from earthloom.tiling import heap

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")

_PRELUDE = """
import ctypes, threading
from pathlib import Path
from earthloom.tiling import heap

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
MIB = 2**20

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // MIB

def use(n_mib):
    pages = libc.malloc(ctypes.c_size_t(n_mib * MIB))
    libc.memset(ctypes.c_void_p(pages), 1, ctypes.c_size_t(n_mib * MIB))
    libc.free(ctypes.c_void_p(pages))

def in_a_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join()

before = resident_mib()
"""


def told_by(code: str, **env: str) -> list[str]:
    free = {name: value for name, value in os.environ.items() if name not in heap.ONE_ARENA}
    done = subprocess.run([sys.executable, "-c", _PRELUDE + code], env=free | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_what_threads_free_stays_until_it_is_given_back() -> None:
    found = told_by("""
heap.share_one_arena()
kept = heap.keep_pages(2**40)
in_a_thread(use, 200)
grown = resident_mib() - before
heap.settle()
settled = resident_mib() - before
heap.give_back()
print(kept, grown >= 195, settled >= 195, resident_mib() - before < 20)
""")
    assert found == ["True"] * 4


def test_no_more_is_kept_than_may_be() -> None:
    found = told_by("""
heap.share_one_arena()
heap.keep_pages((before + 100) * MIB)
use(50)
heap.settle()
within = resident_mib() - before
use(200)
heap.settle()
print(within >= 45, resident_mib() - before < 20)
""")
    assert found == ["True"] * 2


def test_a_process_keeps_nothing_unless_it_is_told_to_or_no_longer() -> None:
    found = told_by("""
use(200)
by_itself = resident_mib() - before
heap.share_one_arena()
heap.keep_pages(2**40)
kept = heap.keep_pages(0)
use(200)
heap.settle()
print(by_itself < 20, kept, resident_mib() - before < 20)
""")
    assert found == ["True", "False", "True"]


@pytest.mark.parametrize("env", [{}, {"MALLOC_ARENA_MAX": "8"}])
def test_pages_are_not_kept_where_threads_have_arenas_of_their_own(env: dict[str, str]) -> None:
    code = "heap.share_one_arena()\n" if env else ""  # leaves what the user has set
    assert told_by(f"{code}print(heap.keep_pages(2**40))", **env) == ["False"]


def test_processes_that_are_started_share_one_arena_too() -> None:
    found = told_by("""
import subprocess, sys
heap.share_one_arena()
print(subprocess.run([sys.executable, "-c", "from earthloom.tiling import heap; print(heap.keep_pages(1))"],
                     capture_output=True, text=True).stdout)
""")
    assert found == ["True"]
