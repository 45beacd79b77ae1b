"""Where files say that they lie, and what is no place for a scene of Earth."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.vrt import WarpedVRT

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.place import check_place, is_disc_in_space
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.preflight import Header, inspect
from earthloom.tiling.storage.objects import ObjectRef
from tests.scenes import write_scene

MOON = "+proj=eqc +lat_ts=0 +lat_0=0 +lon_0=0 +x_0=0 +y_0=0 +R=1737400 +units=m +no_defs"


def grid(crs: str, x: float, y: float, side: float = 10, size: int = 100) -> Grid:
    return Grid(crs=crs, transform=(side, 0.0, x, 0.0, -side, y), width=size, height=size)


def wkt(proj: str) -> str:
    return str(rasterio.crs.CRS.from_proj4(proj).to_wkt())


def ramp(rows: int = 100, cols: int = 100) -> NDArray[np.uint16]:
    return np.arange(1, rows * cols + 1, dtype=np.uint16).reshape(1, rows, cols)


def header(path: Path) -> Header:
    return inspect(pin(ObjectRef.parse(str(path))))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (grid(wkt(MOON), 0, 0, 100), r"a\.tif is no scene of Earth: .* the Moon, of 1737\.4 km radius, and Earth has 6378\.1"),
        (grid("GEOGCS['m',DATUM['D_Mars',SPHEROID['Mars',3396190,169.9]],PRIMEM['0',0],UNIT['degree',0.0174532925199433]]"
              .replace("'", '"'), 10, 20, 0.01), r"Mars, of 3396\.2 km radius"),
        (grid(wkt("+proj=eqc +R=600000 +units=m"), 0, 0, 100), r"a body of 600 km radius"),
        (grid("EPSG:4326", 300000, 4500000), r"4326 and covers latitudes from 4499000 to 4500000 degrees, where only -90"),
        (grid("EPSG:4326", 30, 91, 0.01), r"latitudes from 90 to 91 degrees"),
        (grid("EPSG:4269", 5000, 45, 0.01), r"longitudes from 5000 to 5001 degrees"),
        (grid("EPSG:4326", -180, 45, 3.7), r"latitudes from -325|longitudes from -180 to 190"),
        (grid("EPSG:4807", 5, 101, 0.01), r"latitudes from 90 to 90\.9 degrees"),
        (grid("EPSG:32633", 1e8, 1e8), r"covers x 1e\+08 to 1\.00001e\+08, .* in EPSG:32633, which is nowhere on Earth"),
        (grid("EPSG:27700", -5e6, 2e5), r"EPSG:27700, which is around .* used from \(-9\.01 °E, 49\.75 °N\).*gdalwarp -t_srs"),
        (grid("EPSG:3031", 0, 1.2e7, 100), r"EPSG:3031, which is around .* degrees away \(at most 10\)"),
        (grid("EPSG:2056", 0, 0), r"EPSG:2056, which is around \(-19\.\d+ °E, 32\.\d+ °N\)"),
        (grid("EPSG:2305", 0, 0), r"EPSG:2305, from which PROJ knows no way"),
        (grid(wkt("+proj=sinu +R=6371007.181 +units=m"), 1.5e7, 9e6, 100), "nowhere on Earth"),
    ],
)  # fmt: skip
def test_grids_off_the_earth_or_far_from_their_crs_are_refused_with_both_values(where: Grid, message: str) -> None:
    with pytest.raises(SceneError, match=message) as refused:
        check_place("a.tif", where)
    for command in re.findall(r"gdal_edit\.py[^;,]*", str(refused.value)):
        assert command.endswith(" a.tif"), "a command that works names its file"


@pytest.mark.parametrize(
    "where",
    [
        grid("EPSG:32633", 1.1e6, 7.85e6),  # Vardø, Norway, in the zone of the country's maps
        grid("EPSG:32632", 1.25e6, 4.48e6),  # Lecce, Italy
        grid("EPSG:32601", 1.5e5, 8.5e6),  # across the antimeridian
        grid("EPSG:32617", 3e5, -3.5e6, 30),  # Landsat, south of the equator with a negative northing
        grid("EPSG:32717", 3e5, 1.01e7, 30),
        grid("EPSG:3411", -3.85e6, 5.85e6, 25000, 300),  # sea ice: corners down to 31 degrees
        grid("EPSG:3857", -2.0037508e7, 2.0037508e7, 156543, 256),
        grid("EPSG:3857", 1.99e7, 1e6, 100, 5000),  # beyond 180 degrees
        grid("EPSG:2193", 2.0e6, 5.5e6),  # New Zealand's area of use crosses the antimeridian
        Grid(crs="EPSG:4326", transform=(0.25, 0.0, -0.125, 0.0, -0.25, 90.125), width=1440, height=721),  # nodes at the poles
        Grid(crs="EPSG:4326", transform=(1.0, 0.0, 0.0, 0.0, -1.0, 90.0), width=360, height=180),
        Grid(crs="EPSG:4326", transform=(0.1, 0.0, -180.0, 0.0, 0.1, -90.0), width=3600, height=1800),  # south up
        grid("EPSG:4807", 2.5, 50, 0.01),  # grads from Paris
        grid(wkt("+proj=utm +zone=17 +datum=WGS84"), 3e5, 4.5e6),
        grid(wkt("+proj=longlat +R=6371229"), 10, 50, 0.1),  # a sphere of weather models
    ],
)  # fmt: skip
def test_grids_that_people_have_are_places(where: Grid) -> None:
    check_place("a.tif", where)


@given(zone=st.integers(1, 60), lat=st.floats(-79, 83), beside=st.floats(-4, 4), south=st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_scene_in_or_next_to_its_zone_is_a_place_and_its_metres_are_no_degrees(
    zone: int, lat: float, beside: float, south: bool
) -> None:
    code = f"EPSG:{32700 if south else 32600}"[:-2] + f"{zone:02d}"
    x, y = Transformer.from_crs("EPSG:4326", code, always_xy=True).transform(6 * zone - 183 + beside, lat)
    where = grid(code, x, y)
    check_place("a.tif", where)
    assume(abs(y) > 2000)
    with pytest.raises(SceneError, match="where only"):
        check_place("a.tif", grid("EPSG:4326", x, y))


@given(code=st.sampled_from(["EPSG:27700", "EPSG:2056", "EPSG:2154", "EPSG:3035", "EPSG:5514"]), lon=st.floats(-180, 180),
       lat=st.floats(-89, 89))  # fmt: skip
@example(code="EPSG:3035", lon=154.0, lat=86.0)  # 830 km away, over the pole
@settings(deadline=None, max_examples=60)
def test_a_place_is_refused_exactly_where_it_is_far_from_the_area_of_use(code: str, lon: float, lat: float) -> None:
    from pyproj import CRS, Geod

    use = CRS(code).area_of_use
    assert use is not None
    x, y = Transformer.from_crs("EPSG:4326", code, always_xy=True).transform(lon, lat)
    assume(np.isfinite(x) and np.isfinite(y))
    back = Transformer.from_crs(code, "EPSG:4326", always_xy=True).transform(x, y)
    assume(abs(back[0] - lon) < 0.1 and abs(back[1] - lat) < 0.1)
    edge_lon, edge_lat = np.meshgrid(np.linspace(use.west, use.east, 40), np.linspace(use.south, use.north, 40))
    geod = Geod(ellps="WGS84")
    many = np.full(edge_lon.size, 1.0)
    apart_km = geod.inv(lon * many, lat * many, edge_lon.ravel(), edge_lat.ravel())[2].min() / 1000
    if apart_km < 900:
        check_place("a.tif", grid(code, x, y))
    elif apart_km > 2500:
        with pytest.raises(SceneError, match=r"degrees away|nowhere on Earth"):
            check_place("a.tif", grid(code, x, y))


def test_a_geostationary_image_is_one_with_space_in_it() -> None:
    geos = wkt("+proj=geos +h=35785831 +lon_0=0 +sweep=y +ellps=WGS84 +units=m")
    assert is_disc_in_space(grid(geos, -5.57e6, 5.57e6, 3000, 3712))
    assert not is_disc_in_space(grid(geos, 0, 4e6, 3000, 300))
    assert not is_disc_in_space(grid("EPSG:32633", 3e5, 4.5e6))


# ---- rotation


@given(rot=st.tuples(st.floats(-1e-6, 1e-6), st.floats(-1e-6, 1e-6)))
@settings(deadline=None, max_examples=20)
def test_rotation_counts_from_a_hundredth_of_a_pixel_at_the_far_corner(
    tmp_path_factory: pytest.TempPathFactory, rot: tuple[float, float]
) -> None:
    side, size = 10.0, 256
    scale = 0.01 * side / size / 1e-6 * 2  # half of the range is refused
    b, d = (value * scale for value in rot)
    path = write_scene(
        tmp_path_factory.mktemp("r") / "a.tif", ramp(size, size), transform=Affine(side, b, 3e5, d, -side, 4.5e6)
    )
    moved_px = max(abs(b), abs(d)) * size / side
    assume(abs(moved_px - 0.01) > 1e-9)
    if moved_px < 0.01:
        assert header(path).grid.transform == (side, 0, 3e5, 0, -side, 4.5e6)
    else:
        with pytest.raises(SceneError, match="rotated or sheared"):
            header(path)


def test_a_quarter_turn_is_a_rotation(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", ramp(), transform=Affine(6.1e-16, 10, 3e5, 10, 6.1e-16, 4.5e6))
    with pytest.raises(SceneError, match="rotated or sheared"):
        header(path)


def test_what_gdalwarp_makes_of_a_rotated_scene_is_taken(tmp_path: Path) -> None:
    rotated = Affine.translation(3e5, 4.5e6) * Affine.rotation(10) * Affine.scale(10, -10)
    path = write_scene(tmp_path / "a.tif", ramp(), transform=rotated)
    with rasterio.open(path) as source, WarpedVRT(source, crs=source.crs) as warped:
        straight = write_scene(tmp_path / "b.tif", warped.read(), transform=warped.transform)
    assert header(straight).grid.bounds[0] == pytest.approx(3e5, abs=10)


# ---- world files


@pytest.mark.parametrize("beside", ["a.tfw", "a.TFW", "a.tifw", "a.wld", "a.tif.aux.xml", "a.prj"])
def test_files_that_may_say_where_a_scene_lies_are_named_with_the_command_that_bakes_them_in(
    tmp_path: Path, beside: str
) -> None:
    path = placeless(tmp_path / "a.tif")
    notes = "<PAMDataset><SRS>EPSG:32617</SRS></PAMDataset>"
    (tmp_path / beside).write_text(notes if beside.endswith(".xml") else "10\n0\n0\n-10\n300005\n4499995\n")
    (tmp_path / "b.tfw").write_text("another scene's")
    message = f"no CRS and no geotransform.*; {beside} beside it is not read.*-a_srs EPSG:<code> a.tif a-placed.tif"
    with pytest.raises(SceneError, match=message) as refused:
        header(path)
    assert "b.tfw" not in str(refused.value)


@pytest.mark.parametrize("stored", [False, True], ids=["no transform", "identity stored"])
def test_the_command_that_is_named_works(tmp_path: Path, stored: bool) -> None:
    """`gdal_translate -a_srs` is GDAL's CreateCopy, with sidecars as GDAL has them by itself, under a CRS."""
    path = placeless(tmp_path / "a.tif", stored=stored)
    (tmp_path / "a.tfw").write_text("10\n0\n0\n-10\n300005\n4499995\n")
    with pytest.raises(SceneError, match="gdal_translate --config") as refused:
        header(path)
    option, value = str(refused.value).partition("--config ")[2].split()[:2]
    copy = (
        "import rasterio, rasterio.shutil, sys\n"
        "rasterio.shutil.copy(sys.argv[1], sys.argv[2], driver='GTiff')\n"
        "with rasterio.open(sys.argv[2], 'r+') as placed: placed.crs = 'EPSG:32617'\n"
    )
    env = {name: text for name, text in os.environ.items() if not name.startswith("GDAL_")} | {option: value}
    subprocess.run([sys.executable, "-c", copy, path, tmp_path / "a-placed.tif"], env=env, check=True)
    found = header(tmp_path / "a-placed.tif").grid
    assert (found.crs, found.transform) == ("EPSG:32617", (10, 0, 300000, 0, -10, 4500000))


def test_without_a_file_beside_it_world_files_are_mentioned(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=re.escape("if it stands in a world file (.tfw, .wld) or .aux.xml")):
        header(placeless(tmp_path / "a.tif"))


def test_a_world_file_beside_a_file_with_a_place_of_its_own_changes_nothing(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", ramp())
    before = header(path)
    (tmp_path / "a.tfw").write_text("99\n0\n0\n-99\n0\n0\n")
    assert header(path) == before


def placeless(path: Path, *, stored: bool = False) -> Path:
    """A file without CRS and geotransform; `stored`: with the identity in their place, as some writers do."""
    profile = {"driver": "GTiff", "width": 100, "height": 100, "count": 1, "dtype": "uint16"}
    with warnings.catch_warnings(action="ignore"):
        with rasterio.open(path, "w", **profile, **({"transform": Affine.identity()} if stored else {})) as dataset:
            dataset.write(ramp())
    return path
