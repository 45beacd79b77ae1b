"""Finds for each later scene the latest of several earlier ones that shows its ground.

A thousand scenes before a thousand others are a million pairs, so only few of them are held against each other exactly:
boxes say which may decide. Reads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from earthloom.jobs.intake.grids import OffGridError
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene
from earthloom.tiling.errors import SceneError
from earthloom.tiling.footprint import box_of, describe_extent, most_covered, share_covered

_SHOWN = 0.9  # of what the scene that shows most of it shows: an older full scene is worth more than a newer half


class NoEarlierSceneError(SceneError):
    """None of several earlier scenes was taken before this one and shows its ground."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """A scene that `before` names."""

    opened: OpenedScene | RefusedScene
    end: str | None
    """The last moment that it stands for, where its item spans an interval."""

    @property
    def moment(self) -> datetime | None:
        """When all of it was taken."""
        text = self.end or (self.opened.scene.datetime if isinstance(self.opened, OpenedScene) else None)
        return datetime.fromisoformat(text) if text else None


class EarlierScenes:
    """Several scenes that `before` names, in the order of their dates."""

    def __init__(self, scenes: Sequence[Earlier]) -> None:
        self._n = len(scenes)
        refused = [one.opened for one in scenes if isinstance(one.opened, RefusedScene)]
        self._broken = [one.message for one in refused if one.kind != OffGridError.__name__]
        opened = [(one, one.opened, one.moment) for one in scenes if isinstance(one.opened, OpenedScene)]
        self._undated = [scene.scene.id for _, scene, moment in opened if moment is None]
        dated = [(moment.timestamp(), scene.grids[0], one) for one, scene, moment in opened if moment is not None]
        dated.sort(key=lambda each: each[0], reverse=True)  # the latest first; of one date in the order of `before`
        self._times = np.array([time for time, _, _ in dated])
        self._grids = [grid for _, grid, _ in dated]
        self._scenes = [one for _, _, one in dated]
        boxes = []
        try:
            boxes = [box_of(grid) for grid in self._grids]
        except SceneError as error:  # one of them lies off the Earth
            self._broken.append(str(error))
        self._boxes = np.array(boxes).reshape(-1, 4)

    def latest_before(self, later: OpenedScene) -> Earlier:
        """The latest that was taken before a scene, of those that show at least nine tenths of what the best of them shows of
        its grid: scenes of other tiles are passed over, also those that share a border's overlap with it and those that lie
        off the grid of `onto`. An interval, as a composite has, must end before it.

        Raises:
            NoEarlierSceneError: if none is earlier and shows any of it.
            SceneError: if a date is not known, or one of them cannot be used, whose date then is not known either.
        """
        scene = later.scene
        if self._broken:
            raise SceneError(
                f"{scene.id}: an earlier scene cannot be used, so the latest is not known: {self._broken[0]}"
            )
        if scene.datetime is None or self._undated:
            who = scene.id if scene.datetime is None else self._undated[0]
            raise SceneError(
                f"{scene.id}: of {self._n} scenes that `before` names the latest before it is wanted, and the date of "
                f"{who} is unknown; say when it was taken: `datetime`, `date_pattern`"
            )
        taken = datetime.fromisoformat(scene.datetime).timestamp()
        first = int(np.searchsorted(-self._times, -taken, side="right"))
        most = most_covered(scene.grid, self._boxes[first:])
        likely = np.argsort(-most, kind="stable")  # the first of them may show most
        best, limit, n_held = 0.0, float(most.max(initial=0)), 0  # what the best shows lies between these two

        def shown(number: int) -> float:
            return share_covered(scene.grid, self._grids[first + number])

        for number in np.flatnonzero(most).tolist():
            if most[number] < _SHOWN * best:
                continue
            share = shown(number)
            best = max(best, share)
            while _SHOWN * best <= share < _SHOWN * limit:  # it depends on what the best shows
                best = max(best, shown(int(likely[n_held])))
                n_held += 1
                limit = max(best, float(most[likely[n_held]]) if n_held < len(likely) else 0.0)
            if share > 0 and share >= _SHOWN * best:
                return self._scenes[first + number]
        raise NoEarlierSceneError(
            f"{scene.id} was taken on {scene.datetime}, and none of the {self._n} scenes that `before` names is earlier and "
            f"shows its ground, {describe_extent(scene.grid)}; give one that is and does"
        )
