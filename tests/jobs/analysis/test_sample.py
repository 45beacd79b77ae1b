"""Random points in the classes of a map, and what follows from those that a person has interpreted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from earthloom.jobs.analysis.accuracy import accuracy, doubts
from earthloom.jobs.analysis.files import read_sample, write_sample
from earthloom.jobs.analysis.sample import allocate, draw_sample
from earthloom.jobs.monitoring.cube.cube import ClassInfo
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.grid import Grid, pixel_areas_m2
from tests.jobs.learning.test_scores import MAPPED_M2, OLOFSSON
from tests.jobs.monitoring.test_zonal import DAY, STORE, InMemory

LONLAT = Grid(crs="EPSG:4326", transform=(0.5, 0, -20, 0, -0.5, 80), width=64, height=160)


def west_and_east() -> InMemory:
    """A map in degrees from 80° N to the equator whose classes are its west and its east."""
    classes = np.zeros(LONLAT.shape, np.uint8)
    classes[:, 40:] = 1
    classes[:5] = 255
    return InMemory(
        name="lake", start=DAY, end=DAY, made_of="lake", grid=LONLAT, shard_px=512,
        classes=(ClassInfo(value=0, name="land", color="#000000"), ClassInfo(value=1, name="water", color="#0000ff")),
        values=classes, trust=np.full(LONLAT.shape, 200, np.uint8),
    )  # fmt: skip


MAPS = [west_and_east()]
CLASSES = MAPS[0].values


def test_points_lie_in_their_class_and_are_spread_by_true_area() -> None:
    drawn = draw_sample(STORE, MAPS, points=600, least=100, seed=0)
    points = drawn.points
    assert len(points) == 600
    assert (CLASSES[points["row"], points["col"]] == points["map_value"]).all()
    assert not points.duplicated(["row", "col"]).any()
    x, y = LONLAT.affine @ (points["col"].to_numpy() + 0.5, points["row"].to_numpy() + 0.5)
    np.testing.assert_allclose(np.c_[points.geometry.x, points.geometry.y], np.c_[x, y], atol=1e-9)
    areas = pixel_areas_m2(LONLAT, LONLAT.window)
    for row in drawn.strata.itertuples():
        assert row.mapped_m2 == pytest.approx(areas[row.value == CLASSES].sum(), rel=1e-9)
    north = (points["row"] < 80).mean()  # half of the rows, but not half of the ground
    known = CLASSES != 255
    share = areas[:80][known[:80]].sum() / areas[known].sum()
    assert share < 0.37
    assert north == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 600))


def test_the_same_seed_draws_the_same_points_and_another_one_others() -> None:
    one, two, other = (draw_sample(STORE, MAPS, points=60, least=10, seed=seed).points for seed in (1, 1, 2))
    assert one.equals(two)
    assert not one[["row", "col"]].equals(other[["row", "col"]])


def test_small_classes_get_their_least_and_the_rest_go_by_area() -> None:
    assert allocate(np.array([970.0, 30.0, 0.0]), 100, 20).tolist() == [78, 22, 0]
    with pytest.raises(ConfigError, match="give `points=150` or more"):
        allocate(np.array([1.0, 2.0, 3.0]), 100, 50)


def test_a_filled_in_sample_gives_the_worked_example_of_olofsson(tmp_path: Path) -> None:
    """Table 8 of the paper, point by point, through the file that people edit."""
    from earthloom.jobs.learning.scores import area_estimates

    names = ["deforestation", "gain", "forest", "other"]
    drawn = draw_sample(STORE, MAPS, points=40, least=10, seed=0)
    cells = [(i, j) for i in range(4) for j in range(4) for _ in range(OLOFSSON[i, j])]
    points = drawn.points.sample(len(cells), replace=True, random_state=0).reset_index(drop=True)
    points["map_value"] = [i for i, _ in cells]
    points["reference"] = [names[j] if n % 2 else str(j) for n, (_, j) in enumerate(cells)]
    points.loc[len(points)] = {**points.iloc[0].to_dict(), "reference": ""}  # one that nobody has looked at
    strata = drawn.strata.iloc[[0] * 4].assign(value=range(4), mapped_m2=MAPPED_M2, **{"class": names})
    write_sample(type(drawn)(points=points, strata=strata), tmp_path / "points.gpkg")
    found = accuracy(*read_sample(tmp_path / "points.gpkg"))
    expected = area_estimates(OLOFSSON.T, MAPPED_M2)
    assert expected is not None
    assert (found["points"], found["interpreted"]) == (len(cells) + 1, len(cells))
    assert found["overall"] == pytest.approx([0.947, 0.018], abs=6e-4)  # as the paper prints it
    assert [found["classes"][name]["area_m2"][0] for name in names] == pytest.approx(expected.area_m2.tolist())
    assert found["classes"]["deforestation"]["users"] == pytest.approx([0.88, 0.07], abs=6e-3)
    assert found["classes"]["deforestation"]["producers"] == pytest.approx([0.75, 0.21], abs=6e-3)


def test_wrong_answers_are_named_with_what_would_be_right(tmp_path: Path) -> None:
    drawn = draw_sample(STORE, MAPS, points=20, least=5, seed=0)
    points = drawn.points.assign(reference="lake")
    with pytest.raises(ConfigError, match="lake, which is no class of the map; classes are land, water"):
        accuracy(points, drawn.strata)
    with pytest.raises(ConfigError, match=r"land, water: fewer than two points of each have a reference class"):
        accuracy(drawn.points, drawn.strata)
    with pytest.raises(ConfigError, match="no column 'truth'"):
        accuracy(points, drawn.strata, reference="truth")
    write_sample(drawn, tmp_path / "a.gpkg")
    with pytest.raises(ConfigError, match="is there already, and somebody may have filled it in"):
        write_sample(drawn, tmp_path / "a.gpkg")
    (tmp_path / "b.gpkg").write_bytes(b"no database")
    with pytest.raises(ConfigError, match="is no sample"):
        read_sample(tmp_path / "b.gpkg")


@pytest.mark.parametrize(
    ("right", "wrong", "doubt"),
    [
        (40, 2, []),
        (60, 0, ["water: all 60 points agree, so ± is 0; still up to 5 % of it may be wrong (3 / 60)"]),
        (27, 2, ["water: 29 points are few, and ± is too narrow; interpret at least 30"]),
        (28, 2, []),
    ],
)
def test_a_class_of_few_points_or_of_points_that_all_agree_is_doubted(right: int, wrong: int, doubt: list[str]) -> None:
    drawn = draw_sample(STORE, MAPS, points=200, least=80, seed=3)
    points = drawn.points.copy()
    of_water, of_land = (points.index[points["map_value"] == value] for value in (1, 0))
    points["reference"] = ""
    points.loc[of_water[:right], "reference"] = "water"
    points.loc[of_water[right : right + wrong], "reference"] = "land"
    points.loc[of_land[:50], "reference"] = "land"
    points.loc[of_land[50:55], "reference"] = "water"
    assert doubts(accuracy(points, drawn.strata)) == doubt
