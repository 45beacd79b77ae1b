"""The process that checks headers, started before anything heavy is imported here: it imports its own meanwhile."""

from __future__ import annotations

from earthloom.tiling.reading import sandbox

PRELOAD = ("earthloom.tiling.reading.preflight", "rasterio", "rasterio.session")
"""What a process that checks headers imports first."""


def start_early() -> None:
    """Start the first of them, for the next `jobs.intake.scenes.open_all`.

    Raises:
        EngineError: if no process can be started.
    """
    sandbox.start_early(PRELOAD)
