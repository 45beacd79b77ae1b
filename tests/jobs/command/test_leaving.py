"""How the command's own process ends: with the code that was meant, whatever threads of libraries do."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CODE = """
import atexit, ctypes, sys
from earthloom.jobs import command

command.cli.main = lambda **_: (atexit.register(print, "put away"), {ending})
class Aborts:
    def __del__(self):
        ctypes.CDLL(None).abort()  # as a library's destructor does, once Python has ended
sys.aborts = Aborts()
try:
    command.main()
finally:
    print("said")
"""


@pytest.mark.parametrize(
    ("ending", "code"), [("None", 0), ("sys.exit(3)", 3), ("sys.exit()", 0), ("1 / 0", 1), ("sys.exit('no')", 1)]
)
def test_the_code_is_what_was_meant_and_what_was_said_is_said(ending: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(ending=ending)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.split("\n")[:2]) == (code, ["said", "put away"]), done.stderr
