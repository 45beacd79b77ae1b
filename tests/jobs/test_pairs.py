from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray

from earthloom.jobs.config import load
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.pairs import open_pairs, pair
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, expand, open_all, open_scene
from earthloom.models.cards.card import ModelCard
from earthloom.models.zoo.disaster import BURN_NBR, BURN_SEVERITY, FLOOD
from earthloom.models.zoo.rules import WATER_INDEX
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.window import Window
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.usefixtures("own_cache")

OPTIONS = SceneOptions(scale=1e-4, quantity="reflectance")
NAMES = ("green", "nir")
CORNER = (300000.0, 4500000.0)


def ramp(width: int, height: int, gsd_m: float, left: float, top: float) -> NDArray[np.uint16]:
    """Two bands that grow eastward and southward by 1 per metre, so that every place has its own value."""
    x = left - CORNER[0] + (np.arange(width) + 0.5) * gsd_m
    y = CORNER[1] - top + (np.arange(height) + 0.5) * gsd_m
    bands = np.broadcast_to(x + 2000, (height, width)), np.broadcast_to((y + 4000)[:, None], (height, width))
    return np.stack(bands).astype(np.uint16)


def make(
    path: Path, *, side: int = 64, gsd_m: float = 10, left: float = CORNER[0], top: float = CORNER[1], seed: int = 0,
    **options: Any,
) -> Path:  # fmt: skip
    transform = Affine(gsd_m, 0, left, 0, -gsd_m, top)
    return write_scene(path, landscape(side, side, 2, seed), NAMES, transform=transform, **options)


_inspectors = Disposables()  # its child goes with this process


def opened(reference: Path | str, options: SceneOptions = OPTIONS) -> OpenedScene:
    (request,) = expand([str(reference)])
    return open_scene(request, options, _inspectors)


@pytest.fixture
def after(tmp_path: Path) -> OpenedScene:
    return opened(make(tmp_path / "after.tif", date="2026:07:11 10:00:00"))


@pytest.fixture
def before(tmp_path: Path) -> OpenedScene:
    return opened(make(tmp_path / "before.tif", seed=1, date="2026:07:01 10:00:00"))


# ---- one pair


def test_a_pair_has_the_bands_of_both_dates_on_the_later_ones_grid(after: OpenedScene, before: OpenedScene) -> None:
    scene = pair(after, before).scene
    assert [(band.name, band.asset, band.index) for band in scene.bands] == [
        ("green", 0, 1), ("nir", 0, 2), ("before_green", 1, 1), ("before_nir", 1, 2),
    ]  # fmt: skip
    assert (scene.id, scene.grid, scene.datetime) == (after.scene.id, after.scene.grid, after.scene.datetime)
    assert scene.assets == after.scene.assets + before.scene.assets


def test_scenes_of_several_files_pair_too(tmp_path: Path) -> None:
    dates = []
    for day, seed in (("11", 0), ("01", 2)):
        for at, name in enumerate(NAMES):
            path, date = tmp_path / f"S2_{day}_{name}.tif", f"2026:07:{day} 10:00:00"
            write_scene(path, landscape(64, 64, 1, seed + at), date=date)
        reference = ",".join(f"{name}={tmp_path}/S2_{day}_{name}.tif" for name in NAMES)
        dates.append(opened(reference))
    made = pair(*dates).scene
    assert [(band.name, band.asset) for band in made.bands[2:]] == [("before_green", 2), ("before_nir", 3)]


@pytest.mark.parametrize(
    ("side", "gsd_m", "crs"),
    [(64, 10, "EPSG:32617"), (40, 20, "EPSG:32617"), (80, 12, "EPSG:32617"), (90, 10, "EPSG:3857")],
)
def test_the_earlier_bands_are_read_onto_the_later_grid(tmp_path: Path, side: int, gsd_m: float, crs: str) -> None:
    later = opened(make(tmp_path / "after.tif", side=32, left=CORNER[0] + 160, top=CORNER[1] - 160))
    left, top, scale = *CORNER, 1.0
    if crs == "EPSG:3857":  # its metres are longer by 1 / cos(latitude), and its grid is turned against UTM's
        from pyproj import Transformer

        left, top = Transformer.from_crs("EPSG:32617", crs, always_xy=True).transform(*CORNER)
        ahead = Transformer.from_crs("EPSG:32617", crs, always_xy=True).transform(CORNER[0] + 1000, CORNER[1])
        scale = (ahead[0] - left) / 1000
    path = write_scene(
        tmp_path / "before.tif", ramp(side, side, gsd_m, *CORNER), NAMES, crs=crs, date="2026:06:01 10:00:00",
        transform=Affine(gsd_m * scale, 0, left, 0, -gsd_m * scale, top),
    )  # fmt: skip
    scene = pair(later, opened(path)).scene
    pixels = read_pixels(scene, scene.select(("before_green", "before_nir", "green")), scene.grid.window, 0)
    truth = ramp(32, 32, 10, CORNER[0] + 160, CORNER[1] - 160)
    assert pixels.valid.all()
    near = 20 if crs == "EPSG:3857" else 1
    assert np.abs(pixels.values[:2].astype(int) - truth).max() <= near
    part = Window(7, 5, 20, 24)
    cut = read_pixels(scene, scene.select(("before_green", "before_nir", "green")), part, 0)
    assert np.array_equal(cut.values, pixels.values[(slice(None), *part.slices(scene.grid.window))])


def test_what_the_earlier_scene_does_not_cover_is_nodata_and_told(tmp_path: Path, after: OpenedScene) -> None:
    half = opened(make(tmp_path / "half.tif", left=CORNER[0] - 320, date="2026:07:01 10:00:00", seed=3))
    made = pair(after, half)
    assert any("half covers 50 % of after; the rest becomes nodata" in note for note in made.notes)
    pixels = read_pixels(made.scene, made.scene.select(("green", "before_green")), made.scene.grid.window, 0)
    assert pixels.valid[:, :31].all()
    assert not pixels.valid[:, 33:].any()


def test_nodata_of_either_date_is_nodata_of_the_pair(tmp_path: Path) -> None:
    pixels = landscape(64, 64, 2)
    late, early = pixels.copy(), pixels[:, ::-1].copy()
    late[:, 10, 10], early[:, 20, 20] = 0, 65535
    write_scene(tmp_path / "late.tif", late, NAMES, nodata=0, date="2026:07:02 10:00:00")
    write_scene(tmp_path / "early.tif", early, NAMES, nodata=65535, date="2026:07:01 10:00:00")
    scene = pair(opened(tmp_path / "late.tif"), opened(tmp_path / "early.tif")).scene
    valid = read_pixels(scene, scene.bands, scene.grid.window, 0).valid
    assert sorted(zip(*np.nonzero(~valid), strict=True)) == [(10, 10), (20, 20)]


def test_the_objects_that_make_the_key_are_those_of_both_dates(
    tmp_path: Path, after: OpenedScene, before: OpenedScene
) -> None:
    other = opened(make(tmp_path / "other.tif", seed=2, date="2026:07:01 10:00:00"))

    def pinned(made: OpenedScene) -> set[str]:
        return {made.scene.assets[band.asset].identity for band in made.scene.select(FLOOD[3].bands)}

    assert len(pinned(pair(after, before))) == 2
    assert pinned(pair(after, before)) != pinned(pair(after, other))


def test_an_unknown_date_is_told(tmp_path: Path, after: OpenedScene) -> None:
    undated = opened(make(tmp_path / "undated.tif", seed=2, date=None))
    notes = pair(after, undated).notes
    assert "the date of undated is unknown, so nothing checks that undated is the earlier of the two" in notes
    assert any(note.startswith("before (undated): unknown date") for note in notes)


def test_pixels_of_another_size_are_told(tmp_path: Path, after: OpenedScene) -> None:
    coarse = opened(make(tmp_path / "coarse.tif", gsd_m=30, seed=2, date="2026:07:01 10:00:00"))
    assert any(
        "pixels of coarse are 30 m and are resampled to the 10 m of after" in n for n in pair(after, coarse).notes
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"date": "2026:08:01 10:00:00"},
         "after was taken on 2026-07-11T10:00:00Z, before bad on 2026-08-01T10:00:00Z, which `before` names: swap them"),
        ({"date": "2026:07:11 10:00:00"}, "after and bad, .* were both taken on 2026-07-11T10:00:00Z"),
        ({"left": 500000.0}, "they do not overlap; give an earlier scene of the same ground"),
        ({"left": CORNER[0] + 640}, "they do not overlap"),
    ],
    ids=["swapped", "same date", "far away", "side by side"],
)  # fmt: skip
def test_two_scenes_that_are_no_pair_are_refused(
    tmp_path: Path, after: OpenedScene, change: dict[str, Any], message: str
) -> None:
    options: dict[str, Any] = {"date": "2026:07:01 10:00:00", "seed": 4} | change
    bad = opened(make(tmp_path / "bad.tif", **options))
    with pytest.raises(SceneError, match=message):
        pair(after, bad)


def test_a_scene_is_no_pair_with_a_copy_of_itself(tmp_path: Path, after: OpenedScene) -> None:
    copy = tmp_path / "copy.tif"
    copy.write_bytes((tmp_path / "after.tif").read_bytes())
    with pytest.raises(SceneError, match=r"after: `before` names the same bytes .*copy\.tif"):
        pair(after, opened(copy))


def test_values_that_mean_different_things_are_not_compared(after: OpenedScene, tmp_path: Path) -> None:
    path = make(tmp_path / "early.tif", seed=5, date="2026:07:01 10:00:00")
    raw = opened(path, SceneOptions(scale=1e-4, quantity="toa_reflectance"))
    with pytest.raises(SceneError, match="its values are reflectance but those of early before it are toa_reflectance"):
        pair(after, raw)


def test_the_antimeridian_parts_no_pair(tmp_path: Path) -> None:
    pixels = landscape(40, 40, 2)
    for name, left, date in (("east", 179.98, "2026:07:02 10:00:00"), ("west", -180.0, "2026:07:01 10:00:00")):
        write_scene(
            tmp_path / f"{name}.tif", pixels if name == "east" else pixels[:, ::-1], NAMES, crs="EPSG:4326", date=date,
            transform=Affine(0.001, 0, left, 0, -0.001, 10),
        )  # fmt: skip
    notes = pair(opened(tmp_path / "east.tif"), opened(tmp_path / "west.tif")).notes
    assert any("west covers 50 % of east" in note for note in notes)


# ---- a run's scenes


def test_a_run_pairs_every_scene_and_one_bad_pair_stops_no_other(tmp_path: Path) -> None:
    for name, date, left in (
        ("b", "2026:07:11 10:00:00", CORNER[0]),
        ("c", "2026:06:11 10:00:00", CORNER[0]),
        ("d", "2026:07:12 10:00:00", 500000.0),
        ("e", "2026:07:13 10:00:00", CORNER[0]),
    ):
        make(tmp_path / f"{name}.tif", date=date, seed=ord(name), left=left)
    (tmp_path / "a.tif").write_bytes(b"no TIFF")
    early = make(tmp_path / "early" / "early.tif", date="2026:07:01 10:00:00", seed=1)
    scenes = open_all(expand([f"{tmp_path}/*.tif"]), OPTIONS)
    made = open_pairs(scenes, [str(early)], OPTIONS, FLOOD)
    assert [type(one) for one in made] == [RefusedScene, OpenedScene, RefusedScene, RefusedScene, OpenedScene]
    assert [one.id for one in made if isinstance(one, RefusedScene)] == ["a", "c", "d"]
    assert all(len(one.scene.bands) == 4 for one in made if isinstance(one, OpenedScene))


def test_options_about_one_scene_are_not_said_of_the_earlier_one(tmp_path: Path) -> None:
    late, early = (make(tmp_path / f"{name}.tif", date=None, seed=at) for at, name in enumerate(("late", "early")))
    options = OPTIONS.model_copy(update={"datetime": "2026-07-11", "scene_id": "mine", "sun_elevation": 50.0})
    (made,) = open_pairs(open_all(expand([str(late)]), options), [str(early)], options, FLOOD[3:])
    assert isinstance(made, OpenedScene)
    assert made.scene.datetime == "2026-07-11T00:00:00Z"
    assert any("the date of early is unknown" in note for note in made.notes)
    assert "`sun_elevation=50` is taken for both dates" in made.notes


def test_an_earlier_scene_that_cannot_be_read_refuses_each_scene_by_name(tmp_path: Path) -> None:
    make(tmp_path / "late.tif")
    (tmp_path / "broken.tif").write_bytes(b"no TIFF")
    scenes = open_all(expand([str(tmp_path / "late.tif")]), OPTIONS)
    (made,) = open_pairs(scenes, [str(tmp_path / "broken.tif")], OPTIONS, FLOOD)
    assert isinstance(made, RefusedScene)
    assert made.message.startswith("late: its earlier scene cannot be used: broken: ")


def test_of_several_earlier_scenes_each_scene_takes_the_latest_before_it(tmp_path: Path) -> None:
    days = {"a": "2026:06:01", "b": "2026:06:20", "c": "2026:07:11", "d": "2026:08:01", "e": "2026:05:01"}
    for seed, (name, day) in enumerate(days.items()):
        make(tmp_path / f"{name}.tif", seed=seed, date=f"{day} 10:00:00")
    before = [str(tmp_path / f"{name}.tif") for name in ("b", "a", "c")]
    later = open_all(expand([str(tmp_path / f"{name}.tif") for name in ("c", "d", "b", "e")]), OPTIONS)
    made = open_pairs(later, before, OPTIONS, FLOOD)
    names = [one.scene.assets[1].ref.name if isinstance(one, OpenedScene) else one.kind for one in made]
    assert names == ["b.tif", "c.tif", "a.tif", "NoEarlierSceneError"]
    assert open_pairs(later[:3], [f"{tmp_path}/[abc].tif"], OPTIONS, FLOOD) == made[:3]


def test_the_latest_before_a_scene_is_one_of_its_own_tile(tmp_path: Path) -> None:
    """Tiles overlap by a tenth, and the next one was taken seconds later."""
    tiles = {"west": CORNER[0], "east": CORNER[0] + 576, "far": CORNER[0] + 5000}
    for month in (6, 7):
        for second, (name, left) in enumerate(tiles.items()):
            make(tmp_path / f"{name}-{month}.tif", seed=month, left=left, date=f"2026:{month:02}:01 10:00:{second:02}")
    later = open_all(expand([f"{tmp_path}/*-7.tif"]), OPTIONS)
    assert len(later) == 3
    for made in open_pairs(later, [f"{tmp_path}/*-6.tif"], OPTIONS, FLOOD):
        assert isinstance(made, OpenedScene)
        assert made.scene.assets[1].ref.name == made.scene.assets[0].ref.name.replace("-7", "-6")
        assert not any("the rest becomes nodata" in note for note in made.notes)


def test_a_tile_with_no_earlier_scene_of_its_own_is_told_so(tmp_path: Path, after: OpenedScene) -> None:
    for day in (1, 2):
        make(tmp_path / f"far{day}.tif", seed=day, left=CORNER[0] + 5000, date=f"2026:06:0{day} 10:00:00")
    (made,) = open_pairs([after], [f"{tmp_path}/far*.tif"], OPTIONS, FLOOD)
    assert isinstance(made, RefusedScene)
    assert made.kind == "NoEarlierSceneError"
    assert "none of the 2 scenes that `before` names is earlier and shows its ground" in made.message


def test_a_newer_half_is_not_taken_over_a_whole(tmp_path: Path, after: OpenedScene) -> None:
    make(tmp_path / "half.tif", seed=5, left=CORNER[0] + 310, date="2026:06:20 10:00:00")
    make(tmp_path / "most.tif", seed=6, left=CORNER[0] + 40, date="2026:06:19 10:00:00")
    make(tmp_path / "whole.tif", seed=7, date="2026:06:18 10:00:00")
    (made,) = open_pairs([after], [f"{tmp_path}/{name}.tif" for name in ("half", "most", "whole")], OPTIONS, FLOOD)
    assert isinstance(made, OpenedScene)
    assert made.scene.assets[1].ref.name == "most.tif"


@pytest.mark.parametrize("width", [34, 28], ids=["a strip of the newest", "none of the newest"])
def test_on_a_given_grid_the_share_of_that_grid_counts(tmp_path: Path, after: OpenedScene, width: int) -> None:
    """The newest scene shows more than nine tenths of the later file, but of the grid a strip or nothing."""
    make(tmp_path / "newest.tif", seed=5, left=CORNER[0] + 310, side=640, date="2026:06:20 10:00:00")
    make(tmp_path / "whole.tif", seed=6, side=640, date="2026:06:19 10:00:00")
    wide = make(tmp_path / "wide.tif", side=640, date="2026:07:11 10:00:00")
    onto = Grid(crs=after.scene.grid.crs, transform=(10, 0, CORNER[0], 0, -10, CORNER[1]), width=width, height=32)
    (made,) = open_pairs(
        open_all(expand([str(wide)]), OPTIONS, onto=onto), [f"{tmp_path}/newest.tif", f"{tmp_path}/whole.tif"], OPTIONS,
        FLOOD, onto=onto,
    )  # fmt: skip
    assert isinstance(made, OpenedScene)
    assert made.scene.assets[1].ref.name == "whole.tif"
    beside = CORNER[0] + 5000
    make(tmp_path / "beside1.tif", left=beside, date="2026:06:01 10:00:00")
    make(tmp_path / "beside2.tif", left=beside, date="2026:06:02 10:00:00")
    later = open_all(expand([str(wide)]), OPTIONS, onto=onto)
    (made,) = open_pairs(later, [f"{tmp_path}/beside*.tif"], OPTIONS, FLOOD, onto=onto)
    assert isinstance(made, RefusedScene)
    assert made.kind == "NoEarlierSceneError"
    (tmp_path / "broken.tif").write_bytes(b"no TIFF")
    (made,) = open_pairs(later, [f"{tmp_path}/whole.tif", f"{tmp_path}/broken.tif"], OPTIONS, FLOOD, onto=onto)
    assert isinstance(made, RefusedScene)
    assert "so the latest is not known: broken: " in made.message


def test_the_latest_of_several_needs_all_of_their_dates(tmp_path: Path, after: OpenedScene) -> None:
    make(tmp_path / "one.tif", seed=1, date="2026:07:01 10:00:00")
    make(tmp_path / "two.tif", seed=2, date=None)
    (made,) = open_pairs([after], [str(tmp_path / "one.tif"), str(tmp_path / "two.tif")], OPTIONS, FLOOD)
    assert isinstance(made, RefusedScene)
    assert "the date of two is unknown" in made.message
    (tmp_path / "two.tif").write_bytes(b"no TIFF")
    (made,) = open_pairs([after], [str(tmp_path / "one.tif"), str(tmp_path / "two.tif")], OPTIONS, FLOOD)
    assert isinstance(made, RefusedScene)
    assert "after: an earlier scene cannot be used, so the latest is not known: two: " in made.message


def item_of_ours(folder: Path, start: str, end: str, **band: Any) -> str:
    """A composite as Earthloom publishes it: bands under other names and scales than its file says, over a period."""
    folder.mkdir()
    make(folder / "bands.tif", seed=4, date=None)
    bands = [{"name": name, "raster:scale": 2e-4, "raster:offset": 0.0, **band} for name in NAMES]
    document = {
        "type": "Feature", "stac_version": "1.1.0", "id": folder.name, "links": [],
        "properties": {"datetime": None, "start_datetime": start, "end_datetime": end, "earthloom:key": "0" * 64},
        "assets": {"image": {"href": "./bands.tif", "type": "image/tiff", "roles": ["data"], "bands": bands}},
    }  # fmt: skip
    (folder / "item.json").write_text(json.dumps(document))
    return str(folder / "item.json")


def test_an_earlier_item_of_ours_says_itself_what_it_is_and_ends_before_the_scene(
    tmp_path: Path, after: OpenedScene
) -> None:
    said = {"earthloom:quantity": "reflectance"}
    items = [
        item_of_ours(tmp_path / month, f"2026-{number}-01T00:00:00Z", f"2026-{number}-{days}T23:59:59Z", **said)
        for month, number, days in (("may", "05", 31), ("june", "06", 30), ("july", "07", 31))
    ]
    options = SceneOptions(bands=(("nir", 2), ("green", 1)), scale=1e-4, quantity="reflectance")
    (made,) = open_pairs([after], items, options, FLOOD)
    assert isinstance(made, OpenedScene)
    assert made.scene.assets[1].ref.url.endswith("/june/bands.tif")
    scales = {band.name: band.scale for band in made.scene.bands}
    assert scales == {"green": 1e-4, "nir": 1e-4, "before_green": 2e-4, "before_nir": 2e-4}


def test_an_earlier_item_of_ours_of_another_quantity_is_refused(tmp_path: Path, after: OpenedScene) -> None:
    item = item_of_ours(
        tmp_path / "may", "2026-05-01T00:00:00Z", "2026-05-31T23:59:59Z", **{"earthloom:quantity": "toa_reflectance"}
    )
    (made,) = open_pairs([after], [item], OPTIONS, FLOOD)
    assert isinstance(made, RefusedScene)
    assert "its values are reflectance but those of may before it are toa_reflectance" in made.message


@pytest.mark.parametrize(
    "model", [FLOOD, BURN_SEVERITY, (*FLOOD, *WATER_INDEX)], ids=["flood", "burn-severity", "flood after water-index"]
)
def test_a_model_of_two_dates_asks_for_the_earlier_one(after: OpenedScene, model: tuple[ModelCard, ...]) -> None:
    with pytest.raises(ConfigError, match=f"{model[0].name} compares two dates, .* `before=<scene>`"):
        open_pairs([after], (), OPTIONS, model)


@pytest.mark.parametrize("model", [WATER_INDEX, BURN_NBR], ids=["water-index", "burn-nbr"])
def test_a_model_of_one_date_leaves_the_earlier_one_alone_and_says_so(
    after: OpenedScene, model: tuple[ModelCard, ...]
) -> None:
    refused = RefusedScene(id="a", message="", kind="SceneError")
    assert open_pairs([refused, after], (), OPTIONS, model) == [refused, after]
    kept, noted = open_pairs([refused, after], ["/nowhere.tif"], OPTIONS, model)
    assert kept == refused
    assert isinstance(noted, OpenedScene)
    assert noted.scene == after.scene
    assert noted.notes[-1] == f"`before` is not used: {model[0].name} looks at one date"


def test_before_is_an_option_and_a_key_of_the_config_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('scenes = ["a.tif"]\nmodel = "flood"\nout = "o"\nbefore = "b.tif"\n')
    assert load({}, file).before == ("b.tif",)
    assert load({"before": ("c.tif", "d.tif")}, file).before == ("c.tif", "d.tif")
    assert load({"scenes": ("a.tif",), "model": "flood", "out": "o"}).before == ()
