"""Which task comes next: scenes in their order, each surveyed, computed block by block and published.

What finishes a scene comes before what begins one, so that a scene is published while the blocks of later ones run and
no more scenes are half done than need be. Knows no executor and no storage; it is asked for tasks and given outcomes.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from earthloom.cluster.executor import Task
from earthloom.cluster.outcome import Done, Failed
from earthloom.jobs.execution.opening import StoredScene, StoredScenes
from earthloom.jobs.execution.survey import needs_survey
from earthloom.jobs.execution.tasks import BlockTask, PublishTask, SceneTask, SurveyTask
from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.records.markers import missing_blocks
from earthloom.tiling.errors import EarthloomError
from earthloom.tiling.window import Block

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Scene:
    """A scene that has begun and is neither published nor failed."""

    plan: ScenePlan
    blocks: Iterator[Block]
    waiting: int
    """Blocks without an outcome."""


class Schedule:
    """Tasks of a run, made when they are asked for.

    Args:
        ahead: the scenes, with what storage holds of them.
        on_stored: called with a scene's id and what storage holds of it, when its turn has come.
        on_failed: called with a scene's id, the error's class and its text, when storage cannot tell.
    """

    def __init__(
        self, ahead: StoredScenes, *, on_stored: Callable[[str, StoredScene], None],
        on_failed: Callable[[str, str, str], None],
    ) -> None:  # fmt: skip
        self._ahead, self._on_stored, self._on_failed = ahead, on_stored, on_failed
        self._scenes: dict[str, _Scene] = {}
        self._urgent: deque[SceneTask] = deque()
        self._listed: deque[_Scene] = deque()
        """Scenes whose blocks can be sent."""
        self._sent: dict[str, SceneTask] = {}
        self._publishing = 0
        """Scenes that are being published, or are about to be."""
        self._stopping = False

    def tasks(self, attempt: int) -> Iterator[Task | None]:
        """Every task of the run; None where the next one depends on an outcome (`cluster.executor`).

        Args:
            attempt: number of the run's attempt, for the markers.
        """
        while True:
            if task := self._next(attempt):
                self._sent[task.key] = task
                yield Task(key=task.key, payload=task)
            elif self._sent:
                yield None
            else:
                return

    def taken(self, outcome: Done | Failed) -> SceneTask:
        """Take note of an outcome; the task that it is of."""
        task = self._sent.pop(outcome.key)
        scene = self._scenes.get(task.plan.scene.id)
        self._publishing -= isinstance(task, PublishTask)
        if isinstance(outcome, Failed):
            self._scenes.pop(task.plan.scene.id, None)  # its other blocks would be work for nothing
        elif scene is None:
            pass  # a block of a scene that has failed meanwhile
        elif isinstance(task, SurveyTask):
            self._listed.append(scene)
        elif isinstance(task, BlockTask):
            scene.waiting -= 1
            if not scene.waiting:
                self._publish(scene)
        else:
            del self._scenes[task.plan.scene.id]
        return task

    def stop(self) -> bool:
        """Begin nothing more but to publish scenes whose blocks are done; whether there is none of those left."""
        self._stopping = True
        return not self._publishing

    def _next(self, attempt: int) -> SceneTask | None:
        while True:
            if self._urgent:
                return self._urgent.popleft()
            if self._stopping:
                return None
            while self._listed:
                scene = self._listed[0]
                if scene.plan.scene.id in self._scenes and (block := next(scene.blocks, None)):
                    return BlockTask(plan=scene.plan, block=block, attempt=attempt)
                self._listed.popleft()
            if not (coming := self._ahead.next()):
                return None
            plan, stored = coming
            try:
                self._begin(plan, stored.result())
            except EarthloomError as error:
                self._on_failed(plan.scene.id, type(error).__name__, str(error))

    def _begin(self, plan: ScenePlan, stored: StoredScene) -> None:
        self._on_stored(plan.scene.id, stored)
        if stored.result:
            return
        scene = _Scene(plan, missing_blocks(plan.blocks(), plan.shard_px, stored.shards), stored.missing)
        self._scenes[plan.scene.id] = scene
        if not stored.missing:
            self._publish(scene)
        elif needs_survey(plan):
            self._urgent.append(SurveyTask(plan=plan))
        else:
            self._listed.append(scene)

    def _publish(self, scene: _Scene) -> None:
        self._publishing += 1
        self._urgent.append(PublishTask(plan=scene.plan, write_id=secrets.token_hex(16)))
