"""Which scenes of a run are in trouble that an earlier run named already, with the same bytes and for the same reason."""

from __future__ import annotations

from collections.abc import Mapping

from earthloom.jobs.planning.plan import RunPlan
from earthloom.jobs.records.attempt import SceneProgress
from earthloom.jobs.records.known import Trouble, read_known, remember
from earthloom.tiling.storage.store import Store

_UNMAPPED = ("refused", "failed")


class KnownTroubles:
    """What earlier runs below an OUT have named."""

    def __init__(self, store: Store, plan: RunPlan) -> None:
        self._store, self._plan = store, plan
        self._refused = {scene.id: scene.identities for scene in plan.refused}
        self._known = read_known(store)

    def mark(self, scene_id: str, progress: SceneProgress) -> None:
        """Say of a scene whether its trouble is known."""
        progress.known = self._trouble(scene_id, progress).digest in self._known

    def remember(self, scenes: Mapping[str, SceneProgress]) -> None:
        """Keep what a run has ended with, for the next one."""
        troubles = [self._trouble(name, scene) for name, scene in scenes.items() if scene.status in _UNMAPPED]
        remember(self._store, self._plan.model, list(scenes), troubles)

    def _trouble(self, scene_id: str, progress: SceneProgress) -> Trouble:
        failed = progress.status == "failed"  # which of its blocks ends first, and how, is chance
        return Trouble(
            scene=scene_id, product=self._plan.model, kind=progress.kind or "", message="" if failed else progress.error or "",
            bytes=(progress.key,) if failed and progress.key else self._refused.get(scene_id, ()),
        )  # fmt: skip


def problems(scenes: Mapping[str, SceneProgress], stopped: str | None) -> dict[str, tuple[str, str]]:
    """What people are told of: class and text of each trouble."""
    found = {name: (scene.kind or "", scene.error or "") for name, scene in scenes.items() if scene.status in _UNMAPPED}
    return {**found, "the run": ("stopped", stopped)} if stopped else found
