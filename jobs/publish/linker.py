"""Links scenes into catalogues while a run goes on, some at a time, so that the cost of a run is linear in its scenes.

A catalogue is rewritten whole. Once per scene that would cost the square of their number; here the pause before the next
rewriting grows with what the last one cost, so that linking never takes more than a small share of the time.
"""

from __future__ import annotations

import logging
import threading
import time

from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.publish.catalog import link
from earthloom.tiling.storage.store import Store

PAUSE_S = 2.0
"""Least time between two rewritings, and before the first."""
SHARE = 0.05
"""Largest share of the time that linking may take."""

log = logging.getLogger(__name__)


class Linker:
    """Takes committed scenes and links them in a thread of its own, until it is closed.

    What is not linked by then, or could not be, is left to whoever links all scenes at the end of the run.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[ScenePlan] = []
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, plan: ScenePlan) -> None:
        """Link this scene soon."""
        self._waiting.append(plan)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="linker", daemon=True)
            self._thread.start()

    def close(self, *, wait: bool) -> None:
        """Link no more; optionally wait until what is being linked is done."""
        self._closed.set()
        if wait and self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        rest_s = PAUSE_S
        while not self._closed.wait(rest_s):
            plans = self._waiting[:]
            del self._waiting[: len(plans)]  # others may have come meanwhile
            rest_s = PAUSE_S
            if not plans:
                continue
            begun = time.monotonic()
            try:
                link(self._store, plans)
            except Exception as error:  # the end of the run tries again, and names the scene that is at fault
                log.warning("%d scenes are published and not yet in the catalogue: %s", len(plans), error)
            rest_s = pause_s(time.monotonic() - begun)


def pause_s(cost_s: float) -> float:
    """Seconds until the next rewriting, after one that took so long."""
    return max(PAUSE_S, cost_s * (1 / SHARE - 1))
