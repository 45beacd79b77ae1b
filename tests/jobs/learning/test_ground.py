"""How far pixels lie from what was trained on, against distances counted one by one."""

from __future__ import annotations

import numpy as np
import pyproj
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.jobs.learning.ground import Ground, boxes_onto
from earthloom.tiling.grid import Grid
from earthloom.tiling.window import Window


def grid(col: int = 0, row: int = 0, width: int = 60, height: int = 50, crs: str = "EPSG:32617") -> Grid:
    return Grid(crs=crs, transform=(10, 0, 300000 + 10 * col, 0, -10, 4500000 - 10 * row), width=width, height=height)


@settings(deadline=None, max_examples=40)
@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 40), st.integers(1, 10), st.integers(1, 10)),
        min_size=1,
        max_size=4,
    ),
    reach=st.integers(1, 30),
    corner=st.tuples(st.integers(0, 40), st.integers(0, 30)),
)
def test_distances_are_those_to_the_nearest_trained_pixel(
    boxes: list[tuple[int, int, int, int]], reach: int, corner: tuple[int, int]
) -> None:
    trained = np.zeros((50, 60), bool)
    for left, top, width, height in boxes:
        trained[top : top + height, left : left + width] = True
    corners = np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], np.int32)
    window = Window(*corner, 20, 20)
    found = Ground([grid()]).around(0, {0: corners}, reach).distances(window)
    rows, cols = np.nonzero(trained)
    at_row, at_col = np.mgrid[window.row_off : window.row_end, window.col_off : window.col_end]
    wanted = np.maximum(abs(at_row[..., None] - rows), abs(at_col[..., None] - cols)).min(axis=-1)
    assert np.array_equal(found, np.minimum(wanted, reach + 1))


def test_what_another_scene_of_the_same_ground_trained_on_counts() -> None:
    grids = [grid(), grid(col=30, row=10)]  # pixels of the second lie on those of the first
    trained = {1: np.array([[0, 0, 5, 5]], np.int32)}
    found = Ground(grids).around(0, trained, 40).distances(Window(0, 0, 60, 50))
    assert (found == 0).sum() == 25
    assert found[10, 30] == 0
    assert found[10, 20] == 10


def test_scenes_far_away_are_not_near() -> None:
    grids = [grid(), grid(col=5000)]
    trained = {1: np.array([[0, 0, 60, 50]], np.int32)}
    ground = Ground(grids)
    assert ground.near(0) == [0]
    assert (ground.around(0, trained, 100).distances(Window(0, 0, 60, 50)) == 101).all()


def test_scenes_that_overlap_or_are_linked_by_others_are_one_group() -> None:
    grids = [grid(), grid(col=500), grid(col=50), grid(col=100), grid(col=560)]
    assert Ground(grids).groups() == [[0, 2, 3], [1], [4]], "those that only touch are two"


def test_a_scene_of_another_zone_on_the_same_ground_is_found_there() -> None:
    here = grid(crs="EPSG:32617")
    to_zone = pyproj.Transformer.from_crs("EPSG:32617", "EPSG:32616", always_xy=True)
    x, y = to_zone.transform(300000, 4500000)
    there = Grid(crs="EPSG:32616", transform=(10, 0, round(x, 1), 0, -10, round(y, 1)), width=60, height=50)
    assert Ground([here, there]).groups() == [[0, 1]]
    box = np.array([[10, 10, 20, 20]], np.int32)
    left, top, right, bottom = boxes_onto(box, here, there)[0]
    points = [to_zone.transform(300000 + 10 * col, 4500000 - 10 * row) for col in (10, 20) for row in (10, 20)]
    cols, rows = zip(*(((px - round(x, 1)) / 10, (round(y, 1) - py) / 10) for px, py in points), strict=True)
    assert left <= min(cols) + 1e-6
    assert top <= min(rows) + 1e-6
    assert right >= max(cols) - 1e-6
    assert bottom >= max(rows) - 1e-6
