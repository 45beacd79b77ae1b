"""Shares an amount of memory among the tasks of one worker. Knows nothing of what they do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Allowance:
    """An amount that several threads share; whoever asks first is served first, so a large share is not starved."""

    def __init__(self, amount: int) -> None:
        self._amount = self._free = amount
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, share: int) -> Iterator[None]:
        """Wait until the share is free and hold it; one that is larger than all there is takes all there is."""
        share = min(share, self._amount)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._free >= share)
            self._free -= share
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify()
