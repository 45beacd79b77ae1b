"""A cube is read as it was written, by Earthloom and by xarray alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from numpy.typing import NDArray

from earthloom.jobs.monitoring.cube.cube import Cube, open_cube
from earthloom.tiling.errors import ConfigError, MissingObjectError, PublishError, TilingError
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window
from earthloom.tiling.writing.zarr_sink import Layer
from tests.jobs.monitoring.cubes import make_cube, make_grid, make_layers

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]
DATES = ("2019-02-28", "2020-02-29", "2021-01-01")


@pytest.fixture
def arrays() -> Arrays:
    rng = np.random.default_rng(3)
    classes = rng.integers(0, 2, (3, 700, 1100), dtype=np.uint8)
    confidence = rng.integers(0, 251, classes.shape, dtype=np.uint8)
    for values in (classes, confidence):
        values[1, :512, :512] = 255  # a whole shard, which is not stored
    return classes, confidence


@pytest.fixture
def cube(store: Store, arrays: Arrays) -> Cube:
    return make_cube(store, "c/cube.zarr", make_grid(1100, 700), 512, DATES, *arrays, ["land", "water"])


def test_opening_gives_what_was_written(store: Store, cube: Cube) -> None:
    assert open_cube(store, "c/cube.zarr") == cube
    assert pickle.loads(pickle.dumps(cube)) == cube
    assert [str(step.date) for step in cube.steps] == list(DATES)


def test_windows_across_shards_and_any_steps_are_read(store: Store, cube: Cube, arrays: Arrays) -> None:
    classes, confidence = arrays
    window = Window(400, 300, 500, 400)
    assert np.array_equal(cube.read(store, "classes", window), classes[:, 300:700, 400:900])
    assert np.array_equal(cube.read(store, "confidence", window, [2, 0]), confidence[[2, 0], 300:700, 400:900])
    assert cube.read(store, "classes", window, []).shape == (0, 400, 500)


def test_what_is_not_stored_reads_as_nodata(store: Store, cube: Cube) -> None:
    assert not (store.ref / "c/cube.zarr/classes/c/1/0/0").path.exists()
    assert (cube.read(store, "classes", Window(0, 0, 512, 512), [1]) == 255).all()


def test_wrong_questions_are_refused(store: Store, cube: Cube) -> None:
    with pytest.raises(ConfigError, match="has no layer 'water'; it has classes, confidence"):
        cube.read(store, "water", Window(0, 0, 1, 1))
    with pytest.raises(ConfigError, match="there is no step 3"):
        cube.read(store, "classes", Window(0, 0, 1, 1), [3])
    with pytest.raises(TilingError):
        cube.read(store, "classes", Window(1000, 0, 200, 10))
    with pytest.raises(MissingObjectError):
        open_cube(store, "elsewhere")


def test_root_that_is_no_cube_is_refused(store: Store, cube: Cube) -> None:
    root = store.get("c/cube.zarr/zarr.json")
    for wrong in (root.replace(b'"format": 1', b'"format": 7'), b"[]", root.replace(b'"steps"', b'"stops"')):
        store.put("c/cube.zarr/zarr.json", wrong)
        with pytest.raises(PublishError, match=r"c/cube\.zarr/zarr\.json"):
            open_cube(store, "c/cube.zarr")


def test_xarray_opens_it_alone(store: Store, cube: Cube, arrays: Arrays) -> None:
    import rioxarray  # noqa: F401 - registers the accessor .rio
    import xarray as xr

    dataset = xr.open_zarr((store.ref / cube.prefix).path, mask_and_scale=False, decode_coords="all")
    assert dict(dataset.sizes) == {"time": 3, "y": 700, "x": 1100}
    assert [str(value)[:10] for value in dataset.time.values] == list(DATES)
    assert np.array_equal(dataset.classes.values, arrays[0])
    assert dataset.classes.attrs["flag_meanings"] == "land water"
    assert dataset.rio.crs.to_epsg() == 32718
    assert dataset.x.values[0] == 500_015


def test_floating_layers_keep_nan(store: Store) -> None:
    values = np.full((1, 8, 9), np.nan, np.float32)
    values[0, 2, 3] = 0.5
    layer = Layer(name="ndvi", dtype="float32", nodata=float("nan"))
    made = make_layers(store, "n", make_grid(9, 8), 512, ["2020-01-01"], {"ndvi": values}, [layer])
    found = open_cube(store, "n")
    assert np.isnan(found.layers[0].nodata)
    assert np.array_equal(found.read(store, "ndvi", made.grid.window), values, equal_nan=True)


def test_steps_come_in_the_order_in_which_they_are_wanted(store: Store, cube: Cube, arrays: Arrays) -> None:
    for steps in ([0, 1, 2], [2, 1, 0], [0, 2], [1, 2, 0, 0, 1]):
        assert np.array_equal(
            cube.read(store, "classes", Window(500, 500, 40, 30), steps), arrays[0][steps, 500:530, 500:540]
        )
