"""How a run ended, in counts and in one line: what changed is listed elsewhere, what did not is counted here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from earthloom.jobs.records.attempt import SceneProgress

PUBLISHED = ("published", "already published", "corrected")
"""States of a scene that has a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Scenes by what became of them."""

    published: int = 0
    new: int = 0
    """How many of the published scenes this run published."""
    corrected: int = 0
    refused: int = 0
    known_refused: int = 0
    """How many of the refused scenes an earlier run named already, with the same bytes and reason."""
    failed: int = 0
    known_failed: int = 0
    unfinished: int = 0
    """Number of scenes that are neither published nor given up."""

    def __str__(self) -> str:
        """`27 published (5 new), 3 refused (3 known), 0 failed`."""
        changed = f"{self.new} new" + (f", {self.corrected} corrected" if self.corrected else "")
        refused, failed = (
            f"{n} {what}" + (f" ({known} known)" if known else "")
            for n, what, known in (
                (self.refused, "refused", self.known_refused), (self.failed, "failed", self.known_failed),
            )
        )  # fmt: skip
        rest = f", {self.unfinished} unfinished" if self.unfinished else ""
        return f"{self.published} published ({changed}), {refused}, {failed}{rest}"

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in Counts.__slots__})

    @property
    def has_news(self) -> bool:
        """Whether anything happened that did not stand there before."""
        problems = self.refused - self.known_refused + self.failed - self.known_failed
        return bool(self.new or self.corrected or self.unfinished or problems)


def count(scenes: Iterable[SceneProgress]) -> Counts:
    """Count scenes by their state."""
    found = list(scenes)

    def n(*states: str, known: bool | None = None) -> int:
        return sum(scene.status in states and known in (None, scene.known) for scene in found)

    return Counts(
        published=n(*PUBLISHED), new=n("published"), corrected=n("corrected"), refused=n("refused"),
        known_refused=n("refused", known=True), failed=n("failed"), known_failed=n("failed", known=True),
        unfinished=n("waiting", "running", "unfinished"),
    )  # fmt: skip
