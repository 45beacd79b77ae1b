"""Which committed results make which step: dated, on the area's ground, one of each scene, and what is left out is said."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from earthloom.jobs.monitoring.cube.members import Mask, wanted
from earthloom.jobs.monitoring.cube.sources import source_at
from earthloom.tiling.errors import ConfigError, MissingObjectError, PublishError
from tests.jobs.monitoring.results import Result, class_result, image_result
from tests.jobs.monitoring.watched import AREA, Watched, scene

MORNING, EVENING = "2020-06-01T10:00:00Z", "2020-06-01T23:30:00Z"

OLD, NEW = "LC08_L2SP_192025_20200601_20200601_02_RT", "LC08_L2SP_192025_20200601_20200614_02_T1"
PIECE = "S2A_MSIL2A_20200601T105441_N{}_R051_T31TCJ_{}"


def counted(out: Watched, **rules: Any) -> list[str]:
    """Scenes of the only step."""
    (step,) = wanted(out.store, "landwater", AREA, **rules).steps
    return [prefix.split("/")[1] for prefix in step.scenes]


def half(scene_id: str, known: slice) -> Result:
    """A map on the whole area's grid that knows some of its columns."""
    classes = np.full(AREA.shape, 255, np.uint8)
    classes[:, known] = 1
    return class_result(scene_id, MORNING, AREA, classes, classes)


@pytest.fixture
def out(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_step_is_a_utc_day_and_steps_ascend(out: Watched) -> None:
    late, early, same_day = scene("c", "2021-01-01T00:00:00Z"), scene("b", MORNING), scene("a", EVENING, seed=1)
    out.commit(late, early, same_day)
    found = wanted(out.store, "landwater", AREA)
    assert [step.date.isoformat() for step in found.steps] == ["2020-06-01", "2021-01-01"]
    assert found.steps[0].scenes == tuple(sorted([early.prefix, same_day.prefix]))
    assert [(entry.value, entry.name, entry.color) for entry in found.classes] == [
        (0, "land", "#b59f6b"), (1, "water", "#1f78b4"),
    ]  # fmt: skip
    assert found.layers[0].attributes["flag_meanings"] == "land water"
    assert found.sources[late.prefix] == source_at(out.store, late.prefix), "a claim can be finished without the table"


def test_undated_scenes_are_left_out_and_named(out: Watched) -> None:
    out.commit(scene("dated", MORNING), scene("undated", None))
    found = wanted(out.store, "landwater", AREA)
    assert len(found.steps) == 1
    assert found.notes == (
        "undated is left out: nobody knows when they were taken; run them again with `datetime` or `date_pattern`",
    )


def test_only_what_lies_on_the_area_counts(out: Watched) -> None:
    out.commit(scene("inside", MORNING), scene("beside", MORNING, east_px=1024), scene("across", MORNING, east_px=950))
    (step,) = wanted(out.store, "landwater", AREA).steps
    assert [prefix.split("/")[1] for prefix in step.scenes] == ["across", "inside"]


def test_no_scene_later_than_until(out: Watched) -> None:
    out.commit(scene("a", "2020-06-01T23:59:59Z"), scene("b", "2020-06-02T00:00:00Z"))
    (step,) = wanted(out.store, "landwater", AREA, until=datetime.date(2020, 6, 1)).steps
    assert step.scenes[0].startswith("scenes/a/")


def test_of_several_results_of_a_scene_the_one_committed_last_counts_unless_the_run_stands_for_another(
    out: Watched,
) -> None:
    old, new = scene("lake", MORNING, version="1.0.0"), scene("lake", MORNING, version="2.0.0")
    out.commit(old, new)
    out.store.times[f"{old.prefix}/result.json"] = 1000.0
    out.store.times[f"{new.prefix}/result.json"] = 2000.0
    assert wanted(out.store, "landwater", AREA).steps[0].scenes == (new.prefix,)
    assert wanted(out.store, "landwater", AREA, preferred=[old.prefix]).steps[0].scenes == (old.prefix,)
    out.store.times[f"{old.prefix}/result.json"] = 3000.0
    assert wanted(out.store, "landwater", AREA).steps[0].scenes == (old.prefix,)


def test_a_scene_that_the_run_does_not_name_again_keeps_the_result_that_was_made_like_those_of_the_run(
    out: Watched,
) -> None:
    own, tried = scene("earlier", MORNING, version="1.0.0"), scene("earlier", MORNING, version="1.1.0-beta")
    new = scene("new", MORNING, version="1.0.0", east_px=100)
    out.commit(own, tried, new)
    out.store.times[f"{own.prefix}/result.json"] = 1000.0
    out.store.times[f"{tried.prefix}/result.json"] = 2000.0
    assert set(wanted(out.store, "landwater", AREA).steps[0].scenes) == {tried.prefix, new.prefix}
    assert set(wanted(out.store, "landwater", AREA, preferred=[new.prefix]).steps[0].scenes) == {own.prefix, new.prefix}
    out.commit(scene("earlier", MORNING, version="1.0.0", side=100))
    own.withdraw(out.store)
    assert set(wanted(out.store, "landwater", AREA, preferred=[new.prefix]).steps[0].scenes) == {
        tried.prefix,
        new.prefix,
    }


def test_a_map_of_a_part_never_takes_the_place_of_one_that_shows_more_of_the_area(out: Watched) -> None:
    whole, part = scene("lake", MORNING), scene("lake", MORNING, side=100)
    beyond = scene("lake", MORNING, east_px=-20, side=100)
    out.commit(whole, part, beyond)
    for hours, one in enumerate((whole, beyond, part)):
        out.store.times[f"{one.prefix}/result.json"] = 1000.0 + hours
    assert wanted(out.store, "landwater", AREA).steps[0].scenes == (whole.prefix,)
    assert wanted(out.store, "landwater", AREA, preferred=[part.prefix]).steps[0].scenes == (part.prefix,)
    left = '{"type": "Polygon", "coordinates": [[[11.8, 50], [11.9, 50], [11.9, 51], [11.8, 51], [11.8, 50]]]}'
    assert wanted(out.store, "landwater", AREA, outline=left).steps[0].scenes == (beyond.prefix,)


def test_an_outline_that_crosses_itself_is_mended(out: Watched) -> None:
    out.commit(scene("lake", MORNING), scene("lake", MORNING, side=100))
    west, south, east, north = 11.5, 50.2, 12.5, 50.6
    bow = {
        "type": "Polygon",
        "coordinates": [[[west, south], [east, north], [east, south], [west, north], [west, south]]],
    }
    assert len(wanted(out.store, "landwater", AREA, outline=json.dumps(bow)).steps) == 1


def test_an_acquisition_that_was_delivered_again_counts_once(out: Watched) -> None:
    old, new = (scene(f"LC08_L2SP_192025_20200601_{name}", MORNING) for name in ("20200601_02_RT", "20200614_02_T1"))
    out.commit(old, scene("other", MORNING, seed=1))
    assert len(wanted(out.store, "landwater", AREA).steps[0].scenes) == 2
    out.commit(new)
    found = wanted(out.store, "landwater", AREA)
    assert [prefix.split("/")[1] for prefix in found.steps[0].scenes] == [
        new.item["properties"]["earthloom:scene"],
        "other",
    ]
    assert found.notes == (
        "LC08_L2SP_192025_20200601_20200601_02_RT is left out, which a later delivery of the same acquisition replaces "
        "(LC08_L2SP_192025_20200601_20200614_02_T1)",
    )


def test_a_delivery_without_a_mask_takes_the_place_of_none_that_has_one(out: Watched) -> None:
    clouds = scene(OLD, MORNING, product="cloudmask", names=("clear", "cloud"))
    out.commit(scene(OLD, MORNING), clouds, scene(NEW, MORNING))
    assert counted(out, mask=Mask(product="cloudmask", classes=("cloud",))) == [OLD]


def test_a_delivery_that_shows_less_adds_to_the_older_one(out: Watched) -> None:
    out.commit(scene(OLD, MORNING), scene(NEW, MORNING, side=20))
    assert counted(out) == [OLD, NEW]


def test_a_delivery_of_the_own_run_gives_way_only_to_another_of_it(out: Watched) -> None:
    old, new = scene(OLD, MORNING), scene(NEW, MORNING)
    out.commit(old, new)
    assert counted(out) == [NEW]
    assert counted(out, preferred=[old.prefix]) == [OLD]
    assert "the own run's delivery" in wanted(out.store, "landwater", AREA, preferred=[old.prefix]).notes[0]
    assert counted(out, preferred=[old.prefix, new.prefix]) == [NEW]


def test_a_piece_of_a_tile_replaces_only_the_ground_that_it_shows(out: Watched) -> None:
    west, east = (PIECE.format("0213", f"20200601T{hour}0303") for hour in (14, 15))
    west_new, east_new = (PIECE.format("0500", f"20230603T{hour}1010") for hour in (10, 11))
    out.commit(scene(west, MORNING, east_px=0), scene(east, MORNING, east_px=600), scene(west_new, MORNING, east_px=0))
    assert counted(out) == [east, west_new]
    out.commit(scene(east_new, MORNING, east_px=600))
    assert counted(out) == [west_new, east_new]


def test_pieces_with_the_outline_of_the_tile_are_replaced_together(out: Watched) -> None:
    west, east = (PIECE.format("0213", f"20200601T{hour}0303") for hour in (14, 15))
    west_new, east_new = (PIECE.format("0500", f"20230603T{hour}1010") for hour in (10, 11))
    out.commit(half(west, np.s_[:600]), half(east, np.s_[600:]), half(west_new, np.s_[:600]))
    corner = (
        '{"type": "Polygon", "coordinates": [[[12.2, 50.3], [12.25, 50.3], [12.25, 50.4], [12.2, 50.4], [12.2, 50.3]]]}'
    )
    assert counted(out) == counted(out, outline=corner) == [west, east, west_new], "the corner is the eastern piece's"
    out.commit(half(east_new, np.s_[600:]))
    assert counted(out) == counted(out, outline=corner) == [west_new, east_new]


def test_pixels_without_a_class_show_nothing(out: Watched) -> None:
    native, onto = scene("lake", MORNING), half("lake", np.s_[:50])
    smaller = half("lake", np.s_[:10])
    out.commit(native, smaller)
    out.store.times[f"{native.prefix}/result.json"] = 1000.0
    out.store.times[f"{smaller.prefix}/result.json"] = 2000.0
    out.store.times[f"{onto.prefix}/result.json"] = 500.0
    assert wanted(out.store, "landwater", AREA).steps[0].scenes == (native.prefix,), "its outline is smaller"
    out.commit(onto)
    assert wanted(out.store, "landwater", AREA).steps[0].scenes == (onto.prefix,), (
        "25600 px, and 24320 of the native one"
    )


def test_maps_by_several_models_are_said(out: Watched) -> None:
    out.commit(scene("a", MORNING), scene("b", EVENING))
    assert not wanted(out.store, "landwater", AREA).notes
    out.commit(scene("c", EVENING, version="2.0.0"))
    (note,) = wanted(out.store, "landwater", AREA).notes
    assert "the maps of landwater are by several models: landwater 1.0.0 (2), landwater 2.0.0 (1)" in note


def test_a_mask_is_that_of_the_same_scene_and_what_has_none_is_left_out(out: Watched) -> None:
    clouds = scene("a", MORNING, seed=5, product="cloudmask", names=("clear", "cloud", "shadow"))
    out.commit(scene("a", MORNING), scene("b", MORNING, seed=1), clouds)
    found = wanted(out.store, "landwater", AREA, mask=Mask(product="cloudmask", classes=("cloud", "shadow")))
    (step,) = found.steps
    assert [prefix.split("/")[1] for prefix in step.scenes] == ["a"]
    assert step.masks == (clouds.prefix,)
    assert "b is left out, which cloudmask has not mapped" in found.notes[0]
    with pytest.raises(ConfigError, match="cloudmask has no class 'haze'; it has clear, cloud, shadow"):
        wanted(out.store, "landwater", AREA, mask=Mask(product="cloudmask", classes=("haze",)))


def test_results_that_mean_other_things_are_refused_with_both(out: Watched) -> None:
    out.commit(scene("a", MORNING), scene("b", EVENING, names=("land", "ice")))
    with pytest.raises(PublishError, match=r"0 land, 1 water.* has the classes 0 land, 1 ice"):
        wanted(out.store, "landwater", AREA)


def test_images_keep_dtype_scale_and_nodata(out: Watched) -> None:
    grid = replace(AREA, width=100, height=100)
    out.commit(image_result("a", MORNING, grid, {"ndvi": np.full((100, 100), 7, np.int16)}, nodata=-1.0))
    found = wanted(out.store, "ndvi", AREA)
    (layer,) = found.layers
    assert (layer.name, layer.dtype, layer.nodata, layer.attributes["scale_factor"]) == ("ndvi", "int16", -1.0, 1e-4)
    assert found.classes == ()
    out.commit(image_result("b", EVENING, grid, {"ndvi": np.full((100, 100), 7, np.float32)}, nodata=float("nan")))
    with pytest.raises(PublishError, match=r"ndvi int16 x 0\.0001, nodata -1 .* ndvi float32 x 0\.0001, nodata nan"):
        wanted(out.store, "ndvi", AREA)


def test_pixels_far_finer_than_the_grid_are_left_out(out: Watched) -> None:
    out.commit(scene("a", MORNING))
    coarse = replace(AREA, transform=(3000, 0, 276480, 0, -3000, 5591040), width=10, height=5)
    found = wanted(out.store, "landwater", coarse)
    assert not found.steps
    assert "a is left out: their pixels are so much finer" in found.notes[0]


def test_no_table_is_no_step_and_a_result_that_is_gone_is_an_error(out: Watched) -> None:
    assert wanted(out.store, "landwater", AREA).steps == ()
    with pytest.raises(MissingObjectError):
        source_at(out.store, "scenes/x/y")
