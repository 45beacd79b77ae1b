"""How much one worker does at once: decided by the memory plan, obeyed by the worker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerShape:
    """What one worker does side by side. The default is the least that works."""

    lanes: int = 3
    """Tasks in the worker at once: blocks that are computed, read ahead and written; or scenes that are published."""
    passes: int = 1
    """Forward passes at once, at most."""
    computing: int = 1
    """Blocks that are computed at once, so that there are chips for all passes."""
    ahead: int = 1
    """Blocks that are read while others are computed."""
    kept_bytes: int = 0
    """Up to which a worker keeps what one chip frees for the next (`tiling.heap`); 0 where there is no memory for that."""
    publishing_bytes: int = 0
    """That scenes which are published at once may take together (`jobs.planning.memory`)."""

    def with_threads(self, threads: int) -> WorkerShape:
        """The shape for a worker that is given so many threads; more passes than threads would only wait."""
        passes = min(self.passes, threads)
        return replace(self, passes=passes, computing=min(self.computing, passes))


def common(shapes: Iterable[WorkerShape]) -> WorkerShape:
    """The shape that all scenes of a run have memory for; the default if there are none.

    Freed pages are kept only if every scene has memory for that, and as many as the largest one plans.
    """
    every = list(shapes)
    if not every:
        return WorkerShape(lanes=1)
    return WorkerShape(
        lanes=min(one.lanes for one in every),
        passes=min(one.passes for one in every),
        computing=min(one.computing for one in every),
        ahead=min(one.ahead for one in every),
        kept_bytes=max(one.kept_bytes for one in every) if all(one.kept_bytes for one in every) else 0,
        publishing_bytes=max(one.publishing_bytes for one in every),
    )
