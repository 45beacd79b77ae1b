"""A command that nobody watches: one at a time if that is wanted, within its budget, and its end told.

It is opened around the work of `run` and of `monitor`. Knows nothing of what the work is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from earthloom.jobs.config import ReportOptions
from earthloom.jobs.records.canonical import digest
from earthloom.jobs.records.lease import Lease, lease
from earthloom.jobs.report.notify import News, tell
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.store import Store

_POLL_S = 2.0

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Operation:
    """One command at work."""

    options: ReportOptions
    skipped: str | None = None
    """Why nothing was done: the same command is at work elsewhere."""
    news: News
    """What is told when it ends; whoever does the work says how it went by `end`."""
    _started: float = field(default_factory=lambda: time.monotonic())

    @property
    def cost(self) -> float | None:
        """Cost so far; None if no price is known."""
        price = self.options.price_per_hour
        return None if price is None else price * (time.monotonic() - self._started) / 3600

    @property
    def budget_left(self) -> float | None:
        """None where there is no limit."""
        return None if self.options.max_cost is None else self.options.max_cost - (self.cost or 0.0)

    def over_budget(self) -> str | None:
        """Why the command must stop, if it must."""
        left = self.budget_left
        if left is None or left > 0:
            return None
        return f"`max_cost` of {self.options.max_cost:g} is reached; the same command continues"

    def check_budget(self, seconds: float | None) -> None:
        """Refuse work that would cost more than it may.

        Args:
            seconds: that it will take, roughly; None where nobody knows.

        Raises:
            ConfigError: with both sums.
        """
        left, price = self.budget_left, self.options.price_per_hour
        if left is None or price is None or seconds is None or (cost := price * seconds / 3600) <= left:
            return
        raise ConfigError(
            f"what is missing would take about {seconds / 3600:.2g} h and cost about {cost:.3g} at `price_per_hour` {price:g}; "
            f"{max(0.0, left):.3g} of `max_cost` {self.options.max_cost:g} is left: allow more, or name fewer scenes"
        )

    def end(
        self, summary: str, problems: Mapping[str, tuple[str, str]], *, known: frozenset[str] = frozenset(), new: int = 0,
        link: str = "",
    ) -> None:  # fmt: skip
        """Say how the work went; see `News`."""
        self.news = replace(self.news, summary=summary, problems=problems, known=known, new=new, link=link)


@contextmanager
def operating(options: ReportOptions, store: Store, what: str, asked: object) -> Iterator[Operation]:
    """Open a command, and tell how it ended, also when it ends by an error.

    Args:
        what: for people, `landwater to s3://maps`.
        asked: plain data by which the same command is known again.
    """
    subject = digest(asked)
    made = Operation(options=options, news=News(what=what, summary="", problems={}))
    taken = _take(options, store, subject)
    if taken and not taken.held:
        made.skipped = f"the same command is at work: {taken.holder}"
    try:
        yield made
    except Exception as error:
        made.end("stopped by an error", {"the command": (type(error).__name__, str(error))})
        raise
    finally:
        if taken:
            taken.release()
        if options.notify and (made.news.summary or made.news.problems):
            tell(options.notify, store, subject, made.news)


def _take(options: ReportOptions, store: Store, subject: str) -> Lease | None:
    if options.if_running is None:
        return None
    waits = False
    while not (found := lease(store, f"leases/{subject}.json")).held and options.if_running == "join":
        if not waits:
            log.warning("waiting for the same command, which is at work: %s", found.holder)
            waits = True
        time.sleep(_POLL_S)
    return found
