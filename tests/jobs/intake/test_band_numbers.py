"""Which band is which is said of a file only by what the file says, never by a band's place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import OpenedScene, expand, open_all
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.usefixtures("own_cache")


def opened(reference: Path | str, **options: object) -> OpenedScene:
    (made,) = open_all(expand([str(reference)]), SceneOptions.model_validate(options))
    assert isinstance(made, OpenedScene), made
    return made


def numbers(path: Path, names: tuple[str | None, ...], **options: object) -> dict[str, int]:
    found = opened(write_scene(path, landscape(32, 32, len(names)), names), **options).numbers
    assert found.count == len(names)
    return dict(found.by_name)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("TCI_R", "TCI_G", "TCI_B", "B8", "B12"), {"nir": 4, "swir22": 5}),
        (("B04", "B03", "B02", "B08"), {"red": 1, "green": 2, "blue": 3, "nir": 4}),
        (("SR_B5", "SR_B4"), {}),  # near infrared and red of Landsat 8, or short-wave and near infrared of Landsat 5
        (("SR_B5", "SR_B6", "ST_B10"), {"nir": 1, "nir08": 1, "swir16": 2}),
        (("B4", "B3", "B2"), {}),  # red, green and blue of Landsat 8, near infrared, red and green of Landsat 5
        (("B2", "B3", "B4", "B8"), {}),  # as Earth Engine calls Sentinel-2, and as Landsat 7 has it
        (("Red", "NIR"), {"red": 1, "nir": 2}),
        (("b1", None, "one"), {}),
    ],
)
def test_descriptions_tell_where_all_sensors_that_know_them_agree(
    names: tuple[str | None, ...], said: dict[str, int], tmp_path: Path
) -> None:
    assert numbers(tmp_path / "x.tif", names) == said


def test_colours_tell_and_places_do_not(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "x.tif", landscape(32, 32, 4))
    assert opened(path).numbers.by_name == ()
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.undefined, ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    assert dict(opened(path).numbers.by_name) == {"blue": 2, "green": 3, "red": 4}


def test_what_the_user_says_is_stronger_than_what_the_file_says(tmp_path: Path) -> None:
    names = ("B8", "B12", "extra")
    assert numbers(tmp_path / "x.tif", names, bands="nir=3") == {"nir": 3, "swir22": 2}


def test_numbers_count_over_all_files(tmp_path: Path) -> None:
    first = write_scene(tmp_path / "a_B8.tif", landscape(32, 32, 2), ("x", "B12"))
    second = write_scene(tmp_path / "B08.tif", landscape(32, 32, 1, 1).astype(np.uint16))
    found = opened(f"{first},{second}").numbers
    assert (found.count, dict(found.by_name)) == (3, {"swir22": 2, "nir": 3})
