"""What the values of a scene mean, and when it was taken."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from earthloom.jobs.config import check
from earthloom.jobs.intake.dates import utc
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, expand, open_all
from earthloom.jobs.intake.wanted import Wanted
from earthloom.tiling.errors import ConfigError, SceneError
from tests.jobs.sources import make, names, opened, scaling, stac_item
from tests.scenes import landscape, real, shipped, write_scene

pytestmark = pytest.mark.usefixtures("own_cache")


def test_unknown_values_are_said_to_be_unknown(tmp_path: Path) -> None:
    scene = opened(make(tmp_path / "a.tif"))
    assert (scene.scene.quantity, scene.scale_known) == ("dn", False)
    assert (
        "unknown value scale: say what the numbers mean by `sensor=<preset>`, or `scale` with `quantity`" in scene.notes
    )
    output = opened(tmp_path / "a.tif", quantity="dn")
    assert (output.scene.quantity, output.scale_known) == ("dn", True)


def test_scales_come_from_options_then_stac_then_tags_then_preset(tmp_path: Path) -> None:
    path = make(tmp_path / "a.tif", 1, ("B02",))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (2e-4,), (0.3,)
    item = tmp_path / "i.json"
    stac_item(item, "x", a=["a.tif", "blue"], scale=2.5e-4, offset=-0.2)
    assert scaling(opened(path)) == [(2e-4, 0.3)]
    assert opened(path).scene.quantity == "reflectance"
    tagged = opened(path, sensor="sentinel2-l2a")
    assert scaling(tagged) == [(2e-4, 0.3)]
    assert "scale 0.0002 by the file's tags is taken, not 0.0001 by `sensor=sentinel2-l2a`" in tagged.notes
    assert "offset 0.3 by the file's tags is taken, not 0 by `sensor=sentinel2-l2a`" in tagged.notes
    assert scaling(opened(item)) == scaling(opened(item, sensor="sentinel2-l2a")) == [(2.5e-4, -0.2)]
    assert scaling(opened(item, sensor="sentinel2-l2a", scale=3e-4, offset=0.7)) == [(3e-4, 0.7)]
    both = opened(path, sensor="sentinel2-l2a", offset=-0.1)
    assert scaling(both) == [(2e-4, -0.1)]
    assert "offset -0.1 by the option is taken, not 0.3 by the file's tags" in both.notes
    assert "scale 0.0002 is by the file's tags, offset -0.1 by the option" in both.notes
    assert scaling(opened(item, quantity="dn")) == [(1.0, 0.0)]
    assert opened(path, sensor="sentinel2-l2a").scene.quantity == "boa_reflectance"
    assert opened(path, sensor="sentinel2-l2a", quantity="reflectance").scene.quantity == "reflectance"


@pytest.mark.parametrize(
    ("properties", "scale_and_offset", "expected"),
    [
        ({}, {}, 0.0),
        ({"s2:processing_baseline": "03.01"}, {}, 0.0),
        ({"s2:processing_baseline": "05.09"}, {}, -0.1),
        ({"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True}, {}, 0.0),
        ({"earthsearch:boa_offset_applied": True}, {"scale": 1e-4, "offset": -0.1}, 0.0),
        ({"earthsearch:boa_offset_applied": False}, {"scale": 1e-4, "offset": -0.1}, -0.1),
        ({"s2:processing_baseline": "05.09"}, {"scale": 1e-4}, -0.1),
    ],
)
def test_sentinel2_has_an_offset_when_the_item_says_so(
    tmp_path: Path, properties: dict[str, Any], scale_and_offset: dict[str, Any], expected: float
) -> None:
    make(tmp_path / "B02.tif")
    stac_item(tmp_path / "i.json", "x", properties, a=["B02.tif", "blue"], **scale_and_offset)
    assert scaling(opened(tmp_path / "i.json", sensor="sentinel2-l2a")) == [(1e-4, expected)]


def test_a_preset_on_values_of_another_type_is_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", landscape(64, 64, 1).astype("float32") / 10_000, ("B02",))
    with pytest.raises(
        SceneError, match=r"`sensor=sentinel2-l2a` describes uint16 or int16 values, but blue holds float32"
    ):
        opened(path, sensor="sentinel2-l2a")
    assert scaling(opened(path, sensor="sentinel2-l2a", scale=1.0)) == [(1.0, 0.0)]


def test_whole_numbers_cannot_be_reflectance_unscaled(tmp_path: Path) -> None:
    told = r"whole numbers \({}\) cannot be that as they are.*`scale=<factor>` \({} if {} stands for 1\)"
    with pytest.raises(SceneError, match=told.format("uint16", "0.0001", "10000")):
        opened(make(tmp_path / "a.tif"), quantity="boa_reflectance")
    bytes_ = write_scene(tmp_path / "c.tif", landscape(64, 64, 1).astype("uint8"))
    with pytest.raises(SceneError, match=told.format("uint8", "0.00392157", "255")):
        opened(bytes_, quantity="reflectance")
    floats = write_scene(tmp_path / "b.tif", landscape(64, 64, 1).astype("float32") / 10_000)
    assert scaling(opened(floats, quantity="boa_reflectance")) == [(1.0, 0.0)]
    assert scaling(opened(tmp_path / "a.tif", quantity="unit")) == [(1 / 65535, 0.0)]


def test_landsat7_takes_the_sun_from_the_item_or_asks_for_it(tmp_path: Path) -> None:
    write_scene(tmp_path / "a_B1.tif", (landscape(64, 64, 1) >> 6).astype("uint8"), date=None)
    with pytest.raises(SceneError, match="a_B1: landsat7-etm-dn needs the sun's elevation"):
        opened(tmp_path / "a_B1.tif", sensor="landsat7-etm-dn")
    stac_item(tmp_path / "i.json", "x", {"view:sun_elevation": 40.0}, a=["a_B1.tif", "blue"])
    by_item = opened(tmp_path / "i.json", sensor="landsat7-etm-dn")
    by_hand = opened(tmp_path / "a_B1.tif", sensor="landsat7-etm-dn", sun_elevation=40, datetime="2024-05-01T10:00:00Z")
    assert scaling(by_item) == scaling(by_hand)
    no_date = opened(tmp_path / "a_B1.tif", sensor="landsat7-etm-dn", sun_elevation=40)
    assert any("taken to be 1 AU away, as the date is unknown" in note for note in no_date.notes)


def test_nodata_comes_from_the_option_then_the_file_then_stac(tmp_path: Path) -> None:
    make(tmp_path / "a.tif", nodata=7)
    make(tmp_path / "b.tif", nodata=None)
    stac_item(tmp_path / "i.json", "x", a=["a.tif", "red"], b=["b.tif", "nir"], nodata=0)
    assert [band.nodata for band in opened(tmp_path / "i.json").scene.bands] == [7, 0]
    assert [band.nodata for band in opened(tmp_path / "i.json", nodata=9).scene.bands] == [9, 9]
    doubts = [note for note in opened(tmp_path / "a.tif", nodata=9).notes if "the option is taken" in note]
    assert len(doubts) == 1
    assert "nodata 9 by the option is taken, not 7 by the file, whose pixels of that value are data then" in doubts[0]
    assert not any("the option is taken" in note for note in opened(tmp_path / "a.tif", nodata=7).notes)
    with pytest.raises(SceneError, match=r"`nodata=-9999` cannot occur in red, which holds uint16 values"):
        opened(tmp_path / "i.json", nodata=-9999)


def test_a_border_that_looks_like_fill_is_noted_until_nodata_is_given(tmp_path: Path) -> None:
    pixels = landscape(300, 300, 2)
    pixels[:, :100] = 0
    path = write_scene(tmp_path / "a.tif", pixels)
    assert any("33 % of the pixels looked at hold nothing but 0" in note for note in opened(path).notes)
    assert not any("corners" in note for note in opened(path, nodata=0).notes)


def test_the_date_comes_from_the_option_then_stac_then_the_file(tmp_path: Path) -> None:
    make(tmp_path / "a.tif")
    make(tmp_path / "b.tif", date=None)
    stac_item(tmp_path / "i.json", "x", a=["a.tif", "red"])
    by_item = opened(tmp_path / "i.json")
    assert (by_item.scene.datetime, by_item.scene.dated_by) == ("2024-05-01T10:00:00Z", "item")
    assert any("by the STAC item is taken, not 2026-07-01T10:00:00Z by TIFFTAG_DATETIME" in n for n in by_item.notes)
    from_file = opened(tmp_path / "a.tif")
    assert (from_file.scene.datetime, from_file.scene.dated_by) == ("2026-07-01T10:00:00Z", "tag")
    assert any(
        "TIFFTAG_DATETIME 2026-07-01T10:00:00 has no time zone, taken as UTC" in note for note in from_file.notes
    )
    for reference in ("a.tif", "b.tif", "i.json"):
        said = opened(tmp_path / reference, datetime="2020-01-01")
        assert (said.scene.datetime, said.scene.dated_by) == ("2020-01-01T00:00:00Z", "option")
        others = [note for note in said.notes if "by `datetime` is taken, not" in note]
        assert len(others) == {"a.tif": 1, "b.tif": 0, "i.json": 2}[reference]


def test_an_unknown_date_is_a_note_and_never_made_up(tmp_path: Path) -> None:
    scene = opened(make(tmp_path / "a.tif", date=None))
    assert scene.scene.datetime is None
    assert "unknown date; give `datetime` if it matters" in scene.notes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-07-31", ("2020-07-31T00:00:00Z", True)),
        ("2020-07-31T18:04:00Z", ("2020-07-31T18:04:00Z", False)),
        ("2020-07-31T18:04:00.25+02:00", ("2020-07-31T16:04:00.250000Z", False)),
        ("2020-07-31 18:04", ("2020-07-31T18:04:00Z", True)),
    ],
)
def test_dates_are_kept_in_utc(text: str, expected: tuple[str, bool]) -> None:
    assert utc(text) == expected


@pytest.mark.parametrize(
    "text", ["yesterday", "2020", "20200731", "2020-W31-5", "2020-13-01", "0001-01-01T00:00:00+01:00"]
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a date such as"):
        utc(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sensor": "spot5"}, "no sensor preset 'spot5'"),
        ({"quantity": "albedo"}, "`quantity` must be 'toa_reflectance'.*got 'albedo'"),
        ({"datetime": "soon"}, "is not a date"),
        ({"scale": 0.0}, "`scale=0`"),
    ],
)
def test_options_that_no_scene_could_make_right_stop_the_run(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(SceneOptions, options)


def reflectance(path: Path, scene: OpenedScene, name: str) -> NDArray[np.float64]:
    (band,) = scene.scene.select((name,))
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read(band.index) * band.scale + band.offset, np.float64)


def test_a_real_sentinel2_scene_needs_only_its_preset() -> None:
    path = real("ships_s2/durban.tif")
    scene = opened(path, sensor="sentinel2-l2a")
    assert names(scene) == ["blue", "green", "red", "nir", "swir16"]
    assert scene.scene.quantity == "boa_reflectance"
    water = np.median(reflectance(path, scene, "nir")[:, -200:])  # the Indian Ocean
    assert -0.01 < water < 0.05


def test_a_real_landsat7_scene_gets_plausible_reflectance() -> None:
    path = shipped("salt_lake")
    scene = opened(path, sensor="landsat7-etm-dn", sun_elevation=60)
    assert names(scene) == ["blue", "green", "red", "nir", "swir16", "swir22"]
    for name in ("blue", "green", "red", "nir", "swir16", "swir22"):
        values = reflectance(path, scene, name)
        assert values.min() > -0.05
        assert values.max() < 1
        assert 0.02 < np.percentile(values, 90) < 0.6, "dry land; brine is darker"


def test_a_band_of_unknown_scale_is_refused_beside_reflectance_if_a_model_computes_with_it(tmp_path: Path) -> None:
    for name in ("red", "nir"):
        make(tmp_path / f"{name}.tif")
    item = tmp_path / "i.json"
    stac_item(item, "x", red=["red.tif", "red"], nir=["nir.tif", "nir"])
    document = json.loads(item.read_text())
    document["assets"]["red"]["bands"][0]["raster:scale"] = 1e-4
    item.write_text(json.dumps(document))

    def opened_for(*names: str, **options: Any) -> OpenedScene | RefusedScene:
        models = Wanted(models=((frozenset(names),),))
        (found,) = open_all(expand([str(item)]), SceneOptions(**options), models=models)
        return found

    refused = opened_for("red", "nir")
    assert isinstance(refused, RefusedScene)
    assert "nothing says how nir is scaled, while other bands are reflectance" in refused.message
    assert isinstance(opened_for("red"), OpenedScene)
    mended = opened_for("red", "nir", scale=1e-4)
    assert isinstance(mended, OpenedScene)
    assert scaling(mended) == [(1e-4, 0.0), (1e-4, 0.0)]


@pytest.mark.parametrize("name", ["dem", "height", "lwir11"])
def test_what_is_no_colour_stays_as_stored_beside_reflectance_with_a_note(tmp_path: Path, name: str) -> None:
    """Metres in whole numbers, which the scale of all bands would make nonsense of."""
    for one in ("B04", "B08", "other"):
        make(tmp_path / f"{one}.tif")
    reference = f"B04={tmp_path}/B04.tif,B08={tmp_path}/B08.tif,{name}={tmp_path}/other.tif"
    models = Wanted(models=((frozenset(("red", "nir", name)),),))
    (found,) = open_all(expand([reference]), SceneOptions(sensor="sentinel2-l2a"), models=models)
    assert isinstance(found, OpenedScene)
    assert scaling(found) == [(1e-4, 0.0), (1e-4, 0.0), (1.0, 0.0)]
    assert f"nothing says how these bands are scaled, so they stay as stored: {name}" in found.notes


@pytest.mark.parametrize(("declared", "told"), [(math.nan, False), (-3.4028234663852886e38, False), (-1.0, True)])
def test_another_nodata_than_the_files_is_told_unless_that_is_never_data(
    tmp_path: Path, declared: float, told: bool
) -> None:
    path = write_scene(tmp_path / "a.tif", landscape(64, 64, 1).astype(np.float32), nodata=declared)
    notes = opened(path, nodata=-9999.0).notes
    assert any("whose pixels of that value are data then" in note for note in notes) == told
