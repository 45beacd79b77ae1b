"""Which of many earlier scenes is taken, against the plain rule, and how many are held against a scene for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from earthloom.jobs.intake import earlier as module
from earthloom.jobs.intake.earlier import Earlier, EarlierScenes, NoEarlierSceneError
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import OpenedScene, expand, open_scene
from earthloom.tiling.footprint import share_covered
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.sandbox import Disposables
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.usefixtures("own_cache")
DAY_0 = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def scene(tmp_path: Path) -> OpenedScene:
    path = write_scene(
        tmp_path / "a.tif", landscape(32, 32, 2), ("green", "nir"), transform=Affine(10, 0, 300000, 0, -10, 4500000)
    )
    (request,) = expand([str(path)])
    return open_scene(request, SceneOptions(scale=1e-4, quantity="reflectance"), Disposables())


def moved(scene: OpenedScene, day: int, east_px: int, south_px: int, side: int = 1000) -> OpenedScene:
    """The same scene on another day, `side` px wide, its corner so many pixels away."""
    transform = (10.0, 0.0, 300000.0 + 10 * east_px, 0.0, -10.0, 4500000.0 - 10 * south_px)
    grid = Grid(crs=scene.scene.grid.crs, transform=transform, width=side, height=side)
    taken = (DAY_0 + timedelta(days=day)).isoformat()
    return replace(scene, scene=replace(scene.scene, grid=grid, datetime=taken), grids=(grid,))


def by_the_rule(later: OpenedScene, earlier: Sequence[Earlier]) -> Earlier | None:
    """Of those that are earlier and show nine tenths of what the best shows, the latest; of one day the first."""
    taken = datetime.fromisoformat(str(later.scene.datetime))
    shown = [
        (share, one.moment, one) for one in earlier
        if isinstance(one.opened, OpenedScene) and one.moment is not None and one.moment < taken
        and (share := share_covered(later.scene.grid, one.opened.grids[0])) > 0
    ]  # fmt: skip
    least = 0.9 * max((share for share, _, _ in shown), default=0)
    return max((each for each in shown if each[0] >= least), key=lambda each: each[1], default=(0, 0, None))[2]


@pytest.mark.parametrize("spread_px", [20, 150, 400, 1500], ids=["alike", "about nine tenths", "half", "many apart"])
def test_of_many_the_one_is_taken_that_the_rule_names_and_few_are_held_against_a_scene(
    scene: OpenedScene, monkeypatch: pytest.MonkeyPatch, spread_px: int
) -> None:
    dice, held = np.random.default_rng(spread_px), 0

    def some(n: int) -> list[OpenedScene]:
        offsets = dice.integers(-spread_px, spread_px + 1, (n, 2)).tolist()
        days = dice.integers(0, 60, n).tolist()
        return [moved(scene, day, *offset) for day, offset in zip(days, offsets, strict=True)]

    def counted(grid: Grid, other: Grid) -> float:
        nonlocal held
        held += 1
        return share_covered(grid, other)

    earlier, later = [Earlier(one, None) for one in some(120)], some(60)
    monkeypatch.setattr(module, "share_covered", counted)
    scenes = EarlierScenes(earlier)
    for one in later:
        expected = by_the_rule(one, earlier)
        if expected is None:
            with pytest.raises(NoEarlierSceneError):
                scenes.latest_before(one)
        else:
            assert scenes.latest_before(one) is expected
    assert held < 0.2 * len(later) * len(earlier), "a million pairs would take minutes"


def test_a_scene_beside_all_others_has_no_earlier_one(scene: OpenedScene) -> None:
    earlier = [Earlier(moved(scene, day, 0, 0), None) for day in range(3)]
    for beside in (1000, 5000):
        with pytest.raises(NoEarlierSceneError, match="none of the 3 scenes that `before` names is earlier and shows"):
            EarlierScenes(earlier).latest_before(moved(scene, 9, beside, 0))
