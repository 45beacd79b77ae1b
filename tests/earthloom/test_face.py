"""The public face: what `import earthloom` gives, and that its functions do what the commands do."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest
import rasterio
import xarray as xr

import earthloom
from earthloom.jobs.config import load
from earthloom.jobs.planning.plan import plan as plan_of_config
from earthloom.tiling.errors import ConfigError
from infra.s3_server import Server
from tests.maps import OPTIONS, go, go_until_commit, lake

matplotlib.use("agg")

ROOT = Path(__file__).resolve().parents[2]
_HEAVY = ("torch", "ray", "rasterio", "xarray", "dask", "zarr", "pydantic", "numpy")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of 1300 x 700 and 600 x 600 px, mapped; their sources lie in `in` beside it."""
    base = tmp_path_factory.mktemp("face")
    scenes = [lake(base / "in", "lake"), lake(base / "in", "pond", width=600, height=600, seed=1)]
    result = earthloom.run(scenes, out=base / "out", **OPTIONS)
    assert result.exit_code == 0
    assert set(result.results) == {"lake", "pond"}
    return base / "out"


def test_all_names_what_is_defined_here_and_public() -> None:
    defined = {name for name, value in vars(earthloom).items() if getattr(value, "__module__", "") == "earthloom"}
    assert {name for name in defined if not name.startswith("_")} == set(earthloom.__all__)


def test_its_types_are_there_for_those_who_check_theirs() -> None:
    assert (Path(earthloom.__file__).parent / "py.typed").is_file()
    for name in earthloom.__all__:
        hints = getattr(earthloom, name).__annotations__
        assert "return" in hints, name


def test_importing_it_imports_nothing_heavy() -> None:
    code = f"import sys, earthloom; print([name for name in {_HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_plan_is_that_of_the_command_and_writes_nothing(tmp_path: Path) -> None:
    scene = lake(tmp_path)
    made = earthloom.plan(str(scene), out=tmp_path / "out", **OPTIONS)
    asked = load({"scenes": (str(scene),), "out": str(tmp_path / "out"), **OPTIONS})
    assert made.document() == plan_of_config(asked).document()
    assert [scene.scene.id for scene in made.scenes] == ["lake"]
    assert not (tmp_path / "out").exists()


def test_a_wrong_option_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no option 'sensr'"):
        earthloom.plan(tmp_path / "a.tif", model="water-index", out=tmp_path, sensr="sentinel2-l2a")


def test_an_opened_result_is_the_published_map_with_its_integers_grid_and_names(out: Path) -> None:
    data = earthloom.open(out, "water-index", scene="lake")
    (tif,) = out.glob("scenes/lake/*/water-index.tif")
    with rasterio.open(tif) as cog, rasterio.open(tif.with_name("water-index-confidence.tif")) as confidence:
        assert data.classes.dtype == np.uint8
        np.testing.assert_array_equal(data.classes, cog.read(1))
        np.testing.assert_array_equal(data.confidence, confidence.read(1))
        assert (data.rio.crs, data.rio.transform()) == (cog.crs, cog.transform)
        assert data.classes.rio.nodata == cog.nodata == 255
        decoded = xr.decode_cf(data)
        expected = np.ma.filled(confidence.read(1, masked=True) / np.float32(250), np.nan)
        np.testing.assert_allclose(decoded.confidence, expected, atol=1e-6)
    assert data.classes.attrs["flag_values"].tolist() == [0, 1]
    assert data.classes.attrs["flag_meanings"] == "land water"
    assert (data.attrs["EARTHLOOM_SCENE"], data.attrs["EARTHLOOM_KEY"]) == ("lake", tif.parent.name)


def test_an_opened_result_is_lazy_a_chunk_is_a_shard_and_it_travels_to_workers(tmp_path: Path) -> None:
    result = go(lake(tmp_path), out=tmp_path / "out", shard=1024, block=1024)
    data = earthloom.open(tmp_path / "out", "water-index")
    assert data.classes.chunks == ((700,), (1024, 276))
    assert earthloom.open(tmp_path / "out", "water-index", level=1).classes.chunks == ((350,), (512, 138))
    travelled = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(travelled.classes, data.classes)
    folder = tmp_path / "out" / result.results["lake"].prefix / "data.zarr" / "0" / "classes" / "c"
    for shard in folder.rglob("*"):
        if shard.is_file():
            shard.unlink()  # had anything been read when it was opened, it would not be seen
    assert (data.classes == 255).all()


def test_an_overview_level_is_half_as_large_and_one_that_is_not_there_is_refused(out: Path) -> None:
    half = earthloom.open(out, "water-index", scene="lake", level=1)
    assert dict(half.sizes) == {"y": 350, "x": 650}
    assert half.rio.transform().a == 2 * earthloom.open(out, "water-index", scene="lake").rio.transform().a
    with pytest.raises(ConfigError, match=r"levels 0, 1, 2, not 3$"):
        earthloom.open(out, "water-index", scene="lake", level=3)


def test_of_several_scenes_one_has_to_be_named_and_the_error_lists_them(out: Path) -> None:
    with pytest.raises(ConfigError, match=r"several scenes; give scene=, one of lake, pond$"):
        earthloom.open(out, "water-index")


def test_what_is_not_there_is_an_error_that_says_what_is(out: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no product 'landwater'; there is water-index"):
        earthloom.open(out, "landwater")
    with pytest.raises(ConfigError, match=r"no product 'water-indx' \(did you mean 'water-index'\?\)"):
        earthloom.open(out, "water-indx")
    with pytest.raises(
        ConfigError, match=r"scene lkae: .* is there \(did you mean 'lake'\?\); water-index is there of lake, pond$"
    ):
        earthloom.open(out, "water-index", scene="lkae")
    with pytest.raises(ConfigError, match=r"scene sea: no committed scene is there; `earthloom status`"):
        earthloom.open(tmp_path / "nothing", "water-index", scene="sea")
    with pytest.raises(ConfigError, match="no committed scene is there"):
        earthloom.open(tmp_path / "nothing", "water-index")


def test_a_scene_that_is_not_committed_is_not_opened(tmp_path: Path) -> None:
    go_until_commit(lake(tmp_path), out=tmp_path / "out")
    with pytest.raises(ConfigError, match="no committed scene is there"):
        earthloom.open(tmp_path / "out", "water-index")


def test_of_several_results_of_a_scene_the_last_is_opened_and_a_key_opens_any(tmp_path: Path) -> None:
    keys = []
    for seed in (0, 1):
        keys.append(go(lake(tmp_path, seed=seed), out=tmp_path / "out").results["lake"].key)
    assert earthloom.open(tmp_path / "out", "water-index").attrs["EARTHLOOM_KEY"] == keys[1]
    assert earthloom.open(tmp_path / "out", "water-index", key=keys[0][:12]).attrs["EARTHLOOM_KEY"] == keys[0]
    corrected = go(lake(tmp_path, seed=0), out=tmp_path / "out", datetime="2020-01-01T00:00:00Z")
    assert corrected.scenes["lake"].status == "corrected"
    assert earthloom.open(tmp_path / "out", "water-index").attrs["EARTHLOOM_KEY"] == keys[1], "as in the tables"
    shutil.copytree(tmp_path / "out", tmp_path / "copy", copy_function=shutil.copyfile)
    for key in keys[::-1]:  # a copy has its own times
        (tmp_path / "copy" / "scenes" / "lake" / key / "result.json").touch()
    assert earthloom.open(tmp_path / "copy", "water-index").attrs["EARTHLOOM_KEY"] == keys[1]
    (tmp_path / "out" / "collections" / "water-index" / "items.parquet").unlink()
    assert earthloom.open(tmp_path / "out", "water-index").attrs["EARTHLOOM_KEY"] == keys[1], (
        "by the times of the commits"
    )


@pytest.mark.s3
def test_a_bucket_is_opened_with_the_standard_names_alone(
    s3: Server, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from earthloom.tiling.storage.objects import ObjectRef
    from earthloom.tiling.storage.store import open_store

    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    bucket = open_store(ObjectRef.parse("s3://outputs/face"))
    for path in out.rglob("*"):
        if path.is_file():
            bucket.put(path.relative_to(out).as_posix(), path.read_bytes())
    there = earthloom.open("s3://outputs/face", "water-index", scene="lake")
    np.testing.assert_array_equal(there.classes, earthloom.open(out, "water-index", scene="lake").classes)


def test_what_is_opened_saves_to_netcdf_and_comes_back_with_flags_of_bytes(out: Path, tmp_path: Path) -> None:
    data = earthloom.open(out, "water-index", scene="lake")
    data.to_netcdf(tmp_path / "lake.nc")
    with xr.open_dataset(tmp_path / "lake.nc", mask_and_scale=False, decode_coords="all") as back:
        np.testing.assert_array_equal(back.classes, data.classes)
        assert (back.classes.dtype, back.classes.attrs["flag_values"].dtype) == (np.uint8, np.uint8)
        assert back.rio.crs == data.rio.crs
        assert back.attrs["Conventions"] == "CF-1.11"


def test_a_level_of_the_plain_zarr_saves_to_netcdf_without_earthloom(out: Path, tmp_path: Path) -> None:
    (path,) = out.glob("scenes/lake/*/data.zarr")
    with xr.open_zarr(path, group="1", mask_and_scale=False) as data:
        data.to_netcdf(tmp_path / "level.nc")
        with xr.open_dataset(tmp_path / "level.nc", mask_and_scale=False) as back:
            np.testing.assert_array_equal(back.confidence, data.confidence)


def test_areas_of_opened_classes_are_those_of_the_workers(out: Path) -> None:
    data = earthloom.open(out, "water-index", scene="lake")
    (path,) = out.glob("scenes/lake/*/result.json")
    published = json.loads(path.read_text())["class_areas"]
    found = data.classes.earthloom.areas()
    assert found["px"].tolist() == [row["pixels"] for row in published]
    np.testing.assert_allclose(found["area_m2"], [row["area_m2"] for row in published], rtol=1e-9)
    decoded = xr.decode_cf(data).classes.earthloom.areas()  # floats with NaN, as xarray makes them unless told not to
    assert decoded.equals(found)
    part = data.classes.isel(x=slice(100, 400), y=slice(50, 300)).earthloom.areas()
    assert part["px"].sum() == int((data.classes[50:300, 100:400] != 255).sum())


def test_areas_go_by_the_coordinates_of_what_was_selected_and_not_by_the_geotransform(out: Path) -> None:
    classes = earthloom.open(out, "water-index", scene="lake").classes
    whole = classes.earthloom.areas()
    half = classes[::2, ::2].earthloom.areas()  # a quarter of the pixels, each four times as large
    np.testing.assert_allclose(half["area_m2"].sum(), whole["area_m2"].sum(), rtol=1e-6)
    for same in (classes.sortby("y"), classes.sortby("x", ascending=False), classes.transpose("x", "y")):
        found = same.earthloom.areas()
        assert found["px"].tolist() == whole["px"].tolist()
        np.testing.assert_allclose(found["area_m2"], whole["area_m2"], rtol=1e-9)
    row = classes.isel(y=slice(3, 4)).earthloom.areas()
    np.testing.assert_allclose(row["area_m2"].sum(), classes.sizes["x"] * 100, rtol=2e-3)


def test_coordinates_that_were_rounded_to_32_bits_are_as_even_as_they_can_be() -> None:
    import rioxarray  # noqa: F401 - registers the accessor .rio

    import earthloom.jobs.products.accessor  # noqa: F401 - registers it

    x, y = -112 + 1e-4 * np.arange(40), 41 - 1e-4 * np.arange(30)
    flags = {"flag_values": [0], "flag_meanings": "land"}
    data = xr.DataArray(np.zeros((30, 40), np.uint8), {"y": y, "x": x}, ("y", "x"), name="classes", attrs=flags)
    data = data.rio.write_crs("EPSG:4326")
    single = data.assign_coords(x=x.astype(np.float32), y=y.astype(np.float32))
    assert np.ptp(np.diff(single.x)) > 5e-6, "a twentieth of a pixel"
    (area, rounded) = (float(each.earthloom.areas()["area_m2"].iloc[0]) for each in (data, single))
    assert rounded == pytest.approx(area, rel=5e-3)


def test_areas_of_data_that_is_no_map_are_refused(out: Path) -> None:
    classes = earthloom.open(out, "water-index", scene="lake").classes
    with pytest.raises(ConfigError, match=r"coordinate x of classes goes in steps of 10 to 30"):
        classes.isel(x=[0, 1, 4]).earthloom.areas()
    with pytest.raises(ConfigError, match=r"dimensions x; a map has y, x .*\.isel\(y=slice\(0, 1\)\)"):
        classes.isel(y=0).earthloom.areas()
    with pytest.raises(ConfigError, match="no coordinate y"):
        classes.drop_vars("y").earthloom.areas()


def test_a_plot_is_north_up_whichever_way_its_rows_and_columns_run(out: Path) -> None:
    classes = earthloom.open(out, "water-index", scene="lake", level=1).classes
    expected = classes.earthloom.plot().get_images()[0]
    for turned in (classes.sortby("y"), classes.sortby("x", ascending=False), classes.transpose("x", "y")):
        (image,) = turned.earthloom.plot().get_images()
        np.testing.assert_array_equal(image.get_array(), expected.get_array())
        assert image.get_extent() == pytest.approx(expected.get_extent())
    matplotlib.pyplot.close("all")


def test_a_plot_has_the_legend_s_own_colours_and_names(out: Path) -> None:
    from PIL import Image

    data = earthloom.open(out, "water-index", scene="lake", level=1)
    axes = data.classes.earthloom.plot()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["land", "water"]
    (image,) = axes.get_images()
    with rasterio.open(next(out.glob("scenes/lake/*/water-index.tif"))) as cog:
        palette = cog.colormap(1)
    drawn, classes = image.get_array(), data.classes.values
    for value in (0, 1):
        assert (drawn[classes == value] == palette[value]).all()
    assert (drawn[classes == 255][:, 3] == 0).all()
    buffer = io.BytesIO()
    axes.figure.savefig(buffer)
    assert Image.open(buffer).size[0] > 100
    matplotlib.pyplot.close(axes.figure)
    grey = data.confidence.earthloom.plot()
    assert float(np.nanmax(grey.get_images()[0].get_array())) <= 1
    matplotlib.pyplot.close(grey.figure)


def test_a_plot_in_degrees_has_the_proportions_of_the_ground() -> None:
    import rioxarray  # noqa: F401 - registers the accessor .rio

    import earthloom.jobs.products.accessor  # noqa: F401 - registers it

    def drawn(crs: str, y: list[float]) -> float:
        data = xr.DataArray(np.zeros((2, 2), np.uint8), {"y": y, "x": [0.0, 1.0]}, ("y", "x"), name="classes")
        axes = data.rio.write_crs(crs).earthloom.plot(legend=False)
        matplotlib.pyplot.close(axes.figure)
        return float(axes.get_aspect())

    assert drawn("EPSG:4326", [60.5, 59.5]) == pytest.approx(2)  # cos 60° is a half
    assert drawn("EPSG:32633", [60.5, 59.5]) == 1
    assert drawn("EPSG:4326", [89.5, 88.5]) == pytest.approx(10)


def test_a_plot_of_many_dates_asks_for_one() -> None:
    import rioxarray  # noqa: F401 - registers the accessor .rio

    import earthloom.jobs.products.accessor  # noqa: F401 - registers it

    cube = xr.DataArray(np.zeros((2, 3, 3), np.uint8), dims=("time", "y", "x"), name="classes")
    with pytest.raises(ConfigError, match=r"choose one date with \.isel"):
        cube.earthloom.plot()
