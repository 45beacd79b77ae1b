"""What GDAL remarks is not for the screen, but what a server answered is heard all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import logging, sys
from earthloom.jobs.command import cli
from earthloom.tiling.reading.gdal_faults import listening

cli.main([*sys.argv[1:], "models", "list"], standalone_mode=False)
gdal = logging.getLogger("rasterio._env")
with listening() as heard:
    gdal.warning("CPLE_AppDefined in HTTP response code: 503. Retrying again in 1 s")
gdal.error("a real fault")
logging.getLogger("earthloom.jobs").warning("our own word")
assert heard.faults == ["HTTP 503"], heard.faults
"""


@pytest.mark.parametrize(("flags", "shown"), [((), False), (("-v",), True)])
def test_a_remark_of_gdal_is_shown_on_request_and_always_heard(flags: tuple[str, ...], shown: bool) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("Retrying again" in done.stderr) == shown
    assert "a real fault" in done.stderr
    assert "our own word" in done.stderr
