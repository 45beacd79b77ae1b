"""What a worker can be asked to do: survey a scene, compute one of its blocks, publish it. Small values that travel.

Each may be done twice, by the same worker or another, and leaves the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from earthloom.jobs.planning.plan import ScenePlan
from earthloom.tiling.window import Block


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyTask:
    """What networks want to know of a whole scene before its blocks are computed."""

    plan: ScenePlan

    @property
    def key(self) -> str:
        return f"{self.plan.scene.id}/survey"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTask:
    """One block of one scene."""

    plan: ScenePlan
    block: Block
    attempt: int
    """Number of the run's attempt, for the marker."""

    @property
    def key(self) -> str:
        return f"{self.plan.scene.id}/{self.block.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishTask:
    """A scene whose blocks are all done."""

    plan: ScenePlan
    write_id: str
    """Id by which a repetition knows a commit that is this task's own."""

    @property
    def key(self) -> str:
        return f"{self.plan.scene.id}/publish"


SceneTask: TypeAlias = SurveyTask | BlockTask | PublishTask
