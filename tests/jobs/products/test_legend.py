from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from earthloom.jobs.products.legend import class_tags, flags, model_tags, pam, words
from earthloom.jobs.products.qgis import class_style
from earthloom.jobs.products.statistics import class_areas
from earthloom.tiling.counting import Tally
from earthloom.tiling.errors import CardError
from tests.jobs.products.samples import CLASSES, card

AWKWARD = (("a & b", "#000000"), ('<"c">', "#ffffff"), ("forêt", "#123abc"))

COPY = """
import sys, rasterio.shutil
rasterio.shutil.copy(sys.argv[1], sys.argv[2], driver="GTiff")
"""


def write_tif(path: Path) -> None:
    with rasterio.open(path, "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8", nodata=255,
                       crs="EPSG:32612", transform=Affine(30, 0, 0, 0, -30, 0)) as file:  # fmt: skip
        file.write(np.arange(64, dtype=np.uint8).reshape(1, 8, 8) % 4)


@pytest.mark.parametrize("classes", [CLASSES, AWKWARD])
def test_gdal_reads_names_and_table_from_the_sidecar(tmp_path: Path, classes: tuple[tuple[str, str], ...]) -> None:
    path, copy = tmp_path / "map.tif", tmp_path / "copy.tif"
    write_tif(path)
    one = card(classes)
    n = len(classes)
    found = Tally(pixels=(7,) * n, areas_m2=(6300.0,) * n, confidence_sums=(700,) * n, nodata=1)
    rows = class_areas(found, one)
    (tmp_path / "map.tif.aux.xml").write_bytes(pam(one, rows))
    # Another process: sidecars are switched off by environment in ours as soon as anything has set up the readers.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GDAL_")}
    subprocess.run([sys.executable, "-c", COPY, str(path), str(copy)], check=True, env=env, timeout=120)
    band = ET.parse(tmp_path / "copy.tif.aux.xml").getroot().find("PAMRasterBand")  # GDAL wrote it from what it read
    assert band is not None
    assert [one.text for one in band.findall("CategoryNames/Category")] == [name for name, _ in classes]
    table = band.find("GDALRasterAttributeTable")
    assert table is not None
    names = [field.findtext("Name") for field in table.findall("FieldDefn")]
    lines = [[cell.text for cell in row.findall("F")] for row in table.findall("Row")]
    assert names == ["Value", "Class", "Red", "Green", "Blue", "Alpha", "Count", "Area_m2"]
    for line, (name, color) in zip(lines, classes, strict=True):
        assert line[1] == name
        assert "#" + "".join(f"{int(channel or 0):02x}" for channel in line[2:5]) == color.lower()
    assert [float(line[6] or 0) for line in lines] == [row["pixels"] for row in rows]
    assert [float(line[7] or 0) for line in lines] == pytest.approx([row["area_m2"] for row in rows])


def test_tags_come_back_from_the_tiff(tmp_path: Path) -> None:
    path, one = tmp_path / "map.tif", card()
    write_tif(path)
    dataset, band = model_tags(one), class_tags(one)
    with rasterio.open(path, "r+") as file:
        file.update_tags(**dataset)
        file.update_tags(1, **band)
    with rasterio.open(path) as file:
        tags, of_band = file.tags(), file.tags(1)
    assert all(tags[name] == text for name, text in dataset.items())
    assert tags["WEIGHTS_SHA256"] == "a" * 64
    assert {name: text for name, text in of_band.items() if name.startswith("CLASS_")} == {
        "CLASS_0": "shadow", "CLASS_1": "water", "CLASS_2": "snow/ice", "CLASS_3": "land",
    }  # fmt: skip


@pytest.mark.parametrize("classes", [CLASSES, AWKWARD])
def test_the_qgis_style_names_and_colours_every_class(classes: tuple[tuple[str, str], ...]) -> None:
    root = ET.fromstring(class_style(card(classes)))
    assert root.tag == "qgis"
    renderer = root.find("pipe/rasterrenderer")
    assert renderer is not None
    assert renderer.get("type") == "paletted"
    entries = [(e.get("value"), e.get("label"), e.get("color")) for e in renderer.findall("colorPalette/paletteEntry")]
    assert entries == [(str(value), name, color.lower()) for value, (name, color) in enumerate(classes)]
    clear = renderer.find("rasterTransparency/singleValuePixelList/pixelListEntry")
    assert clear is not None
    assert (clear.get("min"), clear.get("max"), clear.get("percentTransparent")) == ("255", "255", "100")


def test_names_that_would_break_a_file_are_refused() -> None:
    for write in (class_style, lambda legend: pam(legend, [])):
        with pytest.raises(CardError, match="control characters"):
            write(card((("a\x00b", "#000000"),)))
    with pytest.raises(CardError, match="control characters"):
        class_tags(card((("a\nCLASS_1=b", "#000000"),)))


def test_no_two_classes_have_the_same_word_whatever_they_are_called() -> None:
    names = {0: "snow / ice", 1: "snow ice", 2: "水", 3: "nodata", 4: "land → water", 5: "snow-ice"}
    found = words(names)
    assert list(found.values()) == ["snow_ice", "snow_ice_1", "class_2", "nodata_3", "land_to_water", "snow-ice"]
    assert words(names, hyphens=False)[5] == "snow_ice_5"
    assert list(words({0: "crop_2", 1: "crop", 2: "crop!"}).values()) == ["crop_2", "crop", "crop_2_2"]
    legend = card(tuple((name, "#000000") for name in names.values()))
    assert flags(legend.classes)["flag_meanings"].split() == list(found.values())
