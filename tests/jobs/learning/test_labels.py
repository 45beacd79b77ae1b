"""Labels on the grid of a scene: against numpy, shapely and rasterio, under every cut, and refusals by name."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.features import rasterize

from earthloom.jobs.learning.labels import IGNORE, LabelClass, LabelOptions, LabelSource, label_source
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.vectors import pyogrio
from earthloom.tiling.window import Window
from tests.scenes import write_scene

pyogrio()  # before geopandas does, in whose process rasterio's list of drivers holds

GRID = Grid(crs="EPSG:32633", transform=(10, 0, 300000, 0, -10, 5600000), width=150, height=110)
UTM32 = Transformer.from_crs("EPSG:32633", "EPSG:32632", always_xy=True).transform(299800, 5600100)
CLASSES = (LabelClass(value=0, name="land"), LabelClass(value=1, name="water"), LabelClass(value=4, name="cloud"))
NAMED = LabelOptions(classes=CLASSES, class_column="class")


def options(**kwargs: Any) -> LabelOptions:
    return LabelOptions(classes=CLASSES, **kwargs)


def polygons(crs: str = "EPSG:32633", n: int = 40, seed: int = 0) -> geopandas.GeoDataFrame:
    """Overlapping quadrangles in and around GRID, some with holes, with coordinates like 300123.456."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        x, y = 300000 + rng.uniform(-200, 1700), 5600000 - rng.uniform(-200, 1300)
        radius = rng.uniform(5, 200)
        shape = shapely.Point(x, y).buffer(radius, quad_segs=int(rng.integers(1, 6)))
        hole = shapely.Point(x, y).buffer(radius * rng.uniform(0.05, 0.5), quad_segs=2)
        made.append(shapely.set_precision(shape.difference(hole), 0.001))
    names = rng.choice([c.name for c in CLASSES], n)
    return geopandas.GeoDataFrame({"class": names}, geometry=made, crs="EPSG:32633").to_crs(crs)


def whole(source: LabelSource, grid: Grid = GRID) -> NDArray[np.uint8]:
    return source.read(grid, grid.window)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labels")


@pytest.fixture(scope="module")
def sources(folder: Path) -> dict[str, tuple[LabelSource, NDArray[np.uint8]]]:
    """Each kind of source with what it says of all of GRID."""
    rng = np.random.default_rng(1)
    fine = rng.choice([0, 1, 4, 255], (1, 300, 330)).astype(np.uint8)
    warped = write_scene(
        folder / "utm32.tif", fine, crs="EPSG:32632", transform=Affine(7, 0, UTM32[0], 0, -7, UTM32[1]), nodata=255
    )
    polygons().to_file(folder / "same.gpkg")
    polygons("EPSG:4326").to_file(folder / "lonlat.fgb")
    made = {
        "raster": label_source(str(warped), options()),
        "polygons": label_source(str(folder / "same.gpkg"), NAMED),
        "lonlat": label_source(str(folder / "lonlat.fgb"), NAMED.model_copy(update={"background": "land"})),
    }
    return {kind: (source, whole(source)) for kind, source in made.items()}


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["raster", "polygons", "lonlat"]), col=st.integers(-40, 149), row=st.integers(-40, 109),
    width=st.integers(1, 200), height=st.integers(1, 200),
)  # fmt: skip
def test_any_window_is_a_part_of_the_whole_and_unknown_beyond_it(
    sources: dict[str, tuple[LabelSource, NDArray[np.uint8]]], kind: str, col: int, row: int, width: int, height: int
) -> None:
    source, labels = sources[kind]
    assert len(np.unique(labels)) >= 3
    padded = np.pad(labels, 240, constant_values=IGNORE)
    base = Window(-240, -240, 150 + 480, 110 + 480)
    window = Window(col, row, width, height)
    found = pickle.loads(pickle.dumps(source)).read(GRID, window)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, padded[window.slices(base)])


def test_centres_on_slanted_edges_are_on_one_side_from_every_window(folder: Path) -> None:
    """Edges through many pixel centres, with vertices that rounding has moved by some 1e-12 px."""
    grid = Grid(crs="EPSG:32633", transform=(0.3, 0, 0.1, 0, -0.3, 0.2), width=3000, height=1500)
    corners = np.random.default_rng(0).integers([100, 100], [2900, 1400], (400, 2)) + 0.5
    made = []
    for number, (col, row) in enumerate(corners):
        k = number % 7 + 1
        px = np.array([(col, row), (col + 6 * k, row + 9 * k), (col - 8 * k, row + 8 * k), (col - 5 * k, row - k)])
        made.append(shapely.Polygon(np.column_stack([0.1 + 0.3 * px[:, 0], 0.2 - 0.3 * px[:, 1]])))
    names = [CLASSES[number % 3].name for number in range(400)]
    geopandas.GeoDataFrame({"class": names}, geometry=made, crs="EPSG:32633").to_file(folder / "slanted.gpkg")
    source = label_source(str(folder / "slanted.gpkg"), NAMED)
    labels = whole(source, grid)
    assert set(np.unique(labels)) == {0, 1, 4, IGNORE}
    for part in grid.window.split(211):
        np.testing.assert_array_equal(source.read(grid, part), labels[part.slices(grid.window)])


def test_pixels_of_a_polygon_are_those_with_their_centre_inside(folder: Path) -> None:
    frame = polygons()
    expected = rasterize(
        zip(frame.geometry, [{c.name: c.value for c in CLASSES}[name] for name in frame["class"]], strict=True),
        out_shape=GRID.shape, fill=IGNORE, transform=GRID.affine, dtype="uint8",
    )  # fmt: skip
    xs, ys = np.meshgrid(GRID.xs(), GRID.ys())
    edges = shapely.union_all(frame.geometry.boundary)
    near = shapely.distance(shapely.points(xs, ys), edges) < 10 / 256
    for name in ("same.geojson", "same.gpkg", "same.parquet", "same.shp"):
        frame.to_parquet(folder / name) if name.endswith("parquet") else frame.to_file(folder / name)
        found = whole(label_source(str(folder / name), NAMED))
        np.testing.assert_array_equal(found[~near], expected[~near])
    assert near.mean() < 0.02


def test_polygons_of_another_crs_follow_its_straight_edges(folder: Path) -> None:
    """A box in longitude and latitude over a wide grid: an edge between transformed corners would miss it by pixels."""
    grid = Grid(crs="EPSG:32633", transform=(100, 0, 300000, 0, -100, 5650000), width=4000, height=1500)
    box = shapely.box(12.5, 50.0, 17.5, 50.5)
    geopandas.GeoDataFrame({"class": ["water"]}, geometry=[box], crs="EPSG:4326").to_file(folder / "box.gpkg")
    found = label_source(str(folder / "box.gpkg"), NAMED).read(grid, grid.window)
    xs, ys = np.meshgrid(grid.xs(), grid.ys())
    lon, lat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(xs, ys)
    inside = (lon > 12.5) & (lon < 17.5) & (lat > 50.0) & (lat < 50.5)
    near = np.minimum(np.minimum(abs(lon - 12.5), abs(lon - 17.5)), np.minimum(abs(lat - 50), abs(lat - 50.5))) < 2e-5
    assert near.mean() < 0.01
    np.testing.assert_array_equal((found == 1)[~near], inside[~near])


def test_a_raster_is_read_at_the_nearest_pixel(sources: dict[str, tuple[LabelSource, NDArray[np.uint8]]]) -> None:
    import rasterio

    source, labels = sources["raster"]
    with rasterio.open(source.asset.ref.path) as file:  # type: ignore[attr-defined]
        band, transform = file.read(1), file.transform
    xs, ys = np.meshgrid(GRID.xs(), GRID.ys())
    x, y = Transformer.from_crs(GRID.crs, "EPSG:32632", always_xy=True).transform(xs, ys)
    cols, rows = (np.floor(axis).astype(int) for axis in ~transform * (np.asarray(x), np.asarray(y)))
    inside = (rows >= 0) & (rows < band.shape[0]) & (cols >= 0) & (cols < band.shape[1])
    expected = np.where(inside, band[np.where(inside, rows, 0), np.where(inside, cols, 0)], IGNORE)
    assert inside.mean() > 0.2
    assert (labels != expected).mean() < 1e-3, "but for centres on the edge between two pixels"


def test_what_is_stored_need_not_be_what_the_map_holds(tmp_path: Path) -> None:
    pixels = np.zeros((1, 110, 150), np.uint8)
    pixels[0, :, 50:], pixels[0, 40:] = 255, 9
    where: dict[str, Any] = {"crs": "EPSG:32633", "transform": GRID.affine}
    path = write_scene(tmp_path / "buildings.tif", pixels, nodata=0, **where)
    classes = (LabelClass(value=0, name="other"), LabelClass(value=1, name="building", stored=255))  # type: ignore[arg-type]
    labels = whole(label_source(str(path), LabelOptions(classes=classes, ignore=9)))  # type: ignore[arg-type]
    assert np.unique(labels[:40, :50]).tolist() == [0], "the class that the file calls nodata is a class"
    assert np.unique(labels[:40, 50:]).tolist() == [1]
    assert np.unique(labels[40:]).tolist() == [IGNORE]
    floats = write_scene(tmp_path / "floats.tif", np.where(pixels == 9, np.nan, pixels).astype(np.float32), **where)
    np.testing.assert_array_equal(whole(label_source(str(floats), LabelOptions(classes=classes))), labels)


def test_numbers_of_a_raster_are_known_in_its_precision(tmp_path: Path) -> None:
    """0.1 and the usual fill of 32-bit floats are other numbers in 64 bits, so no spelling of theirs was known."""
    values = np.full((1, GRID.height, GRID.width), 0.1, np.float32)
    values[0, :9], values[0, 9:20], values[0, 20:30] = -3.4028235e38, 2, np.nan
    write_scene(tmp_path / "a.tif", values, transform=Affine(*GRID.transform), crs=GRID.crs)
    classes = (LabelClass(value=0, name="dry", stored=(0.1,)), LabelClass(value=1, name="wet", stored=(2,)))
    source = label_source(str(tmp_path / "a.tif"), LabelOptions(classes=classes, ignore=(-3.4028235e38,)))
    wanted = np.repeat([IGNORE, 1, IGNORE, 0], [9, 11, 10, GRID.height - 30])
    assert np.array_equal(whole(source), np.broadcast_to(wanted[:, None], (GRID.height, GRID.width)))


def test_a_list_in_the_column_of_the_class_is_refused(tmp_path: Path) -> None:
    """It ended with a TypeError."""
    place = {"type": "Polygon", "coordinates": [[[12.1, 50.5], [12.2, 50.5], [12.2, 50.6], [12.1, 50.5]]]}
    feature = {"type": "Feature", "properties": {"class": ["land"]}, "geometry": place}
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    with pytest.raises(SceneError, match=r"class of a feature is \['land'\], and not one value"):
        label_source(str(tmp_path / "a.geojson"), NAMED)


def test_points_label_the_pixel_they_lie_in_and_nulls_none(folder: Path) -> None:
    points = [shapely.Point(300000 + 10 * col + 3, 5600000 - 10 * row - 8) for col, row in ((3, 5), (149, 109), (7, 7))]
    frame = geopandas.GeoDataFrame({"class": ["water", "4", None]}, geometry=points, crs="EPSG:32633")
    frame.to_file(folder / "points.gpkg")
    labels = whole(label_source(str(folder / "points.gpkg"), NAMED))
    assert {(int(r), int(c)): int(labels[r, c]) for r, c in np.argwhere(labels != IGNORE)} == {(5, 3): 1, (109, 149): 4}


def test_features_without_a_class_column_are_of_the_one_class_that_is_no_background(folder: Path) -> None:
    polygons(n=3).drop(columns="class").to_file(folder / "plain.gpkg")
    two = LabelOptions(classes=CLASSES[:2], background="land")
    assert set(np.unique(whole(label_source(str(folder / "plain.gpkg"), two)))) == {0, 1}
    with pytest.raises(SceneError, match=r"nothing says which of water, cloud a feature is.*`class_column`"):
        label_source(str(folder / "plain.gpkg"), options(background="land"))


def test_classes_that_nobody_named_are_refused_by_name(folder: Path) -> None:
    frame = polygons(n=8)
    frame.loc[3, "class"] = "glacier"
    frame.to_file(folder / "strange.gpkg")
    with pytest.raises(
        SceneError, match=r"strange.gpkg: column class holds 'glacier', which none .* land, water, cloud"
    ):
        label_source(str(folder / "strange.gpkg"), NAMED)
    assert label_source(str(folder / "strange.gpkg"), NAMED.model_copy(update={"ignore": ("glacier",)}))
    with pytest.raises(SceneError, match=r"has no column 'kind'; it has class"):
        label_source(str(folder / "strange.gpkg"), options(class_column="kind"))
    pixels = np.ones((1, 110, 150), np.uint8)
    pixels[0, 60, 70] = 7
    path = write_scene(folder / "seven.tif", pixels, crs="EPSG:32633", transform=GRID.affine)
    source = label_source(str(path), options())
    assert (source.read(GRID, Window(0, 0, 150, 60)) == 1).all()
    with pytest.raises(
        SceneError, match=r"seven.tif holds 7 \(1 px, the first at column 70, row 60 .* land, water, cloud"
    ):
        whole(source)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"classes": (*CLASSES, LabelClass(value=1, name="sea"))}, "two classes have one value: .*1=water.*1=sea"),
        ({"ignore": (1,)}, "1 stands for water and is to be ignored"),
        ({"background": "snow"}, "`background=snow` is none of the classes land, water, cloud"),
        ({"classes": (LabelClass(value=0, name="a", stored=(5, 6)), LabelClass(value=1, name="b", stored=(6,)))},
         "6 stands for a and for b"),
        ({"classes": ()}, "no class is named"),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        label_source("/nowhere.tif", NAMED.model_copy(update=words))


def test_a_file_of_the_wrong_kind_is_refused(folder: Path) -> None:
    (folder / "lines.geojson").write_text(
        '{"type": "Feature", "properties": {"class": "water"}, "geometry": {"type": "LineString", "coordinates": '
        "[[12, 50], [13, 51]]}}"
    )
    with pytest.raises(SceneError, match=r"lines.geojson holds LineString; labels are polygons or points"):
        label_source(str(folder / "lines.geojson"), NAMED)
    (folder / "run.gdalg.json").write_text(
        '{"type": "gdal_streamed_alg", "command_line": "gdal vector read /etc/passwd"}'
    )
    with pytest.raises(SceneError, match=r"run.gdalg.json"):
        label_source(str(folder / "run.gdalg.json"), NAMED)
    pixels = np.zeros((3, 20, 20), np.uint8)
    rgb = write_scene(folder / "rgb.tif", pixels, photometric="RGB")
    with pytest.raises(SceneError, match=r"rgb.tif has 3 bands; say which holds the labels: `label_band=<number>`"):
        label_source(str(rgb), options())
    assert (label_source(str(rgb), options(band=2)).read(GRID, Window(0, 0, 4, 4)) == IGNORE).all(), "elsewhere"
    with pytest.raises(ConfigError, match=r"is a raster; `class_column`"):
        label_source(str(rgb), NAMED)
    with pytest.raises(ConfigError, match=r"holds vectors, and `label_band=1`"):
        label_source(str(folder / "lines.geojson"), options(class_column="class", band=1))


@pytest.mark.parametrize("column", ["text", "number"])
def test_a_value_that_is_the_name_of_one_class_and_the_number_of_another_is_refused(
    tmp_path: Path, column: str
) -> None:
    """Names that are codes: the class that was listed last got both."""
    values = [1, 0] if column == "number" else ["1", "0"]
    shapes = [shapely.box(0, 0, 40, 40), shapely.box(60, 60, 90, 90)]
    file = tmp_path / "codes.gpkg"
    geopandas.GeoDataFrame({"code": values}, geometry=shapes, crs="EPSG:32617").to_file(file)
    classes = (LabelClass(value=0, name="1"), LabelClass(value=1, name="0"))
    options = LabelOptions(classes=classes, class_column="code")
    if column == "number":
        label_source(str(file), options)  # a number is no name
    else:
        with pytest.raises(
            ConfigError, match=r"column code holds '[01]', which stands for [01] and for [01], once as a name"
        ):
            label_source(str(file), options)
    told = tuple(each.model_copy(update={"stored": (each.name,)}) for each in classes)
    if column == "text":
        label_source(str(file), options.model_copy(update={"classes": told}))


@pytest.mark.parametrize("corner", [(300100.0, 5599000.0), (50.5, 120.1)], ids=["metres", "latitude first"])
def test_coordinates_that_are_no_degrees_are_refused(tmp_path: Path, corner: tuple[float, float]) -> None:
    """GeoJSON that names no CRS is WGS 84: metres in it lay nowhere, and with a background a whole scene was that."""
    x, y = corner
    ring = [[x, y], [x + 0.1, y], [x, y + 0.1], [x, y]]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    file = tmp_path / "fields.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    classes = (LabelClass(value=0, name="land"), LabelClass(value=1, name="field"))
    with pytest.raises(
        SceneError, match=r"geojson has coordinates from .*, which are no degrees, and its CRS is WGS 84"
    ):
        label_source(str(file), LabelOptions(classes=classes, background="land"))


def test_a_text_to_be_ignored_is_refused_of_a_raster(tmp_path: Path) -> None:
    """The value that it spells was refused, with the advice to ignore it."""
    transform = Affine(10, 0, 300000, 0, -10, 5600000)
    write_scene(
        tmp_path / "codes.tif", np.full((1, 4, 4), 9, np.uint8), crs="EPSG:32633", transform=transform, date=None
    )
    with pytest.raises(
        ConfigError, match="a raster, which holds numbers: `label_ignore` has the text '9'; give a number"
    ):
        label_source(str(tmp_path / "codes.tif"), options(ignore=("9",)))
    with pytest.raises(ConfigError, match="has the text 'clouds'; give a number"):
        label_source(str(tmp_path / "codes.tif"), options(ignore=("clouds",)))
    for known in ((9,), (9, "9"), (9.0, "9.0"), (9, "clouds")):  # the last where other labels are vectors
        read = label_source(str(tmp_path / "codes.tif"), options(ignore=known)).read(GRID, Window(0, 0, 4, 4))
        assert (read == IGNORE).all()
