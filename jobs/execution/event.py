"""What a run tells of its scenes while it works, for whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A scene that moved on."""

    run_id: str
    product: str
    scene_id: str
    status: str
    blocks_done: int
    blocks: int
    computed_px: int
    """Output pixels of the block that was just computed."""
    error: str | None = None
    known: bool = False
    """Whether an earlier run ended with the same error for the same bytes."""
