"""How many tasks travel in one call to a worker. Pure: knows no clock and no Ray.

A call costs the driver about 0.4 ms of processor time, whatever is in it. Blocks that are computed take seconds and go one
to a call; of those that are over in a moment several go together. A call is never trusted to be short: the worker begins
nothing more in it after `CALL_S`, and what it has not begun comes back.
"""

from __future__ import annotations

from collections.abc import Sequence

from earthloom.cluster.worker import Reply

CALL_S = 0.05
"""How long a call of several tasks may go on beginning them."""
MOST = 64
"""Tasks in one call, at most: all of them are under suspicion when their worker dies."""


class Pace:
    """Learns from the answers of a run how many tasks its next call should hold."""

    def __init__(self) -> None:
        self.size = 1

    def answered(self, replies: Sequence[Reply]) -> None:
        """Take note of what one call came to: grow while calls are far from their time, and shrink at once."""
        seconds = sum(reply.seconds for reply in replies)
        if not replies or any(reply.fault for reply in replies):
            self.size = 1  # an outage must not pull many tasks, nor a fault concern more than one
        elif seconds > CALL_S:
            self.size = max(1, len(replies) // 2)
        elif seconds <= CALL_S / 2:
            self.size = min(MOST, max(self.size, 2 * len(replies)))

    def lost(self) -> None:
        """Take note that a worker died: the next to die shall leave few suspects."""
        self.size = 1
