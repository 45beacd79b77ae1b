"""The process that checks headers, started before anything heavy is imported here: it imports its own meanwhile."""

from __future__ import annotations

from earthloom.tiling.reading import sandbox
from earthloom.tiling.rounding import ceil_div

PRELOAD = ("earthloom.tiling.reading.preflight", "rasterio", "rasterio.session")
"""What a process that checks headers imports first."""

_MOST = 4
_FILES_EACH = 16  # another process costs half a second of a core, a file a few hundredths


def n_processes(n_files: int) -> int:
    """How many processes check the headers of so many files soonest."""
    return min(_MOST, ceil_div(n_files, _FILES_EACH))


def start_early() -> None:
    """Start the first of them, for the next `jobs.intake.scenes.open_all`.

    Raises:
        EngineError: if no process can be started.
    """
    sandbox.start_early(PRELOAD)
