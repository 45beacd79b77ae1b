"""Files beside a scene: what they say is what rasterio reads with them, or they are named in a refusal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import CRS

from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.preflight import Header, inspect
from earthloom.tiling.reading.sidecars import MOST_BYTES
from earthloom.tiling.storage.objects import ObjectRef
from tests.scenes import landscape, write_scene

READ = """
import rasterio, sys
with rasterio.open(sys.argv[1]) as dataset:
    print(repr((dataset.nodatavals, dataset.scales, dataset.offsets, dataset.descriptions,
                tuple(color.name for color in dataset.colorinterp))))
"""


def header(path: Path) -> Header:
    return inspect(pin(ObjectRef.parse(str(path))))


def noted(path: Path, *bands: str, outside: str = "") -> Path:
    """`path` with a file of GDAL's notes beside it."""
    inner = "".join(f'<PAMRasterBand band="{n}">{text}</PAMRasterBand>' for n, text in enumerate(bands, 1))
    path.with_name(f"{path.name}.aux.xml").write_text(f"<PAMDataset>{outside}{inner}</PAMDataset>")
    return path


NOTES = [
    "<NoDataValue>7</NoDataValue>",
    "<NoDataValue le_hex_endian='1'>1.20000000000000E+01</NoDataValue>",
    "<Scale>0.0001</Scale><Offset>-0.1</Offset>",
    "<Description>B03</Description>",
    "<ColorInterp>Red</ColorInterp>",
    "<ColorInterp>Alpha</ColorInterp><NoDataValue>0</NoDataValue>",
    "<Metadata><MDI key='STATISTICS_MEAN'>12</MDI></Metadata>",
]


@pytest.mark.parametrize("note", NOTES)
@pytest.mark.parametrize("own", [False, True])
def test_notes_of_bands_are_taken_as_rasterio_takes_them(note: str, own: bool, tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", landscape(64, 64, 2), ("x", "y") if own else None, nodata=3 if own else None)
    if own:
        with rasterio.open(path, "r+") as dataset:
            dataset.scales, dataset.offsets = (5, 5), (1, 1)
    noted(path, note)
    # another process: this one's environment keeps GDAL from all files beside
    theirs = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, check=True, env={})
    found = header(path)
    ours = (found.nodata, found.scales, found.offsets, found.descriptions, found.colors)
    assert repr(ours) == theirs.stdout.strip()


def test_what_is_taken_is_said_and_statistics_are_not(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", landscape(64, 64, 1))
    assert header(noted(path, NOTES[0])).warnings == ("nodata as a.tif.aux.xml says",)
    assert header(noted(path, NOTES[-1])).warnings == ()


def test_a_mask_beside_the_file_is_refused_by_name_and_the_remedy_works(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", landscape(64, 64, 1))
    mask = np.full((64, 64), 255, np.uint8)
    mask[:, 50:] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    assert (tmp_path / "a.tif.msk").exists()
    with pytest.raises(
        SceneError, match=r"a\.tif\.msk, which is not read; .*gdal_translate -of COG a\.tif a-masked\.tif"
    ):
        header(path)
    script = "import rasterio.shutil, sys; rasterio.shutil.copy(*sys.argv[1:], driver='COG')"
    one = tmp_path / "a-masked.tif"
    subprocess.run([sys.executable, "-c", script, path, one], check=True, env={})  # what gdal_translate -of COG does
    assert header(one).mask == "internal"
    with rasterio.open(one) as dataset:
        assert (dataset.dataset_mask() == mask).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<PAMDataset><PAM", r"a\.tif\.aux\.xml beside it cannot be read \(unclosed token"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><PAMDataset/>", "XML with declarations of its own"),
        ("<PAMDataset><PAMRasterBand band='1'><NoDataValue>x</NoDataValue></PAMRasterBand></PAMDataset>", "'x' as NoDataV"),
        ("<PAMDataset><PAMRasterBand band='1'><Scale>inf</Scale></PAMRasterBand></PAMDataset>", "gives inf as Scale"),
        ("<PAMDataset><GeoTransform>0, 1, 0, 0, 0, -1</GeoTransform></PAMDataset>", r"puts it at \(0, 1.*itself at \(300000"),
        ("<PAMDataset>" + " " * MOST_BYTES + "</PAMDataset>", "notes of at most"),
    ],
)  # fmt: skip
def test_notes_that_cannot_be_taken_are_named(text: str, message: str, tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", landscape(64, 64, 1))
    path.with_name("a.tif.aux.xml").write_text(text)
    with pytest.raises(SceneError, match=message):
        header(path)


def test_the_same_place_in_the_notes_is_no_contradiction(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", landscape(64, 64, 1))
    text = "  3.0000000000000000e+05,  1.0000000000000000e+01,  0,  4.5000000000000000e+06,  0, -1.0000000000000000e+01"
    assert header(noted(path, outside=f"<GeoTransform>{text}</GeoTransform>")).grid.transform[2] == 300000


@pytest.mark.parametrize("form", ["WKT1_GDAL", "WKT1_ESRI", "WKT2_2019", "code"])
def test_another_crs_in_the_notes_is_refused_and_the_same_in_other_words_is_not(form: str, tmp_path: Path) -> None:
    """GDAL takes the one beside a file before its own, as ArcGIS does, whose "Define Projection" writes it there."""
    path = write_scene(tmp_path / "a.tif", landscape(64, 64, 1))

    def text(code: int) -> str:
        written = f"EPSG:{code}" if form == "code" else CRS.from_epsg(code).to_wkt(form)
        return f"<SRS>{written.replace(chr(34), '&quot;')}</SRS>"

    assert header(noted(path, outside=text(32617))).grid.crs == "EPSG:32617"
    noted(path, outside=text(32618))
    code = "import rasterio, sys; print(rasterio.open(sys.argv[1]).crs.wkt.lower().replace('_', ' '))"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, env={})
    assert "zone 18n" in done.stdout
    with pytest.raises(
        SceneError, match=r"aux\.xml beside it gives the CRS .*, the file itself EPSG:32617, which is .* km away"
    ):
        header(path)


@pytest.mark.parametrize(
    ("crs", "bounds"),
    [
        ("ESRI:54009", (-18040000, -9020000, 18040000, 9020000)),
        ("+proj=geos +h=35786023 +lon_0=-75 +sweep=x +ellps=GRS80", (-5434894, -5434894, 5434894, 5434894)),
        ("EPSG:4326", (-0.125, -90.125, 359.875, 90.125)),
    ],
    ids=["Mollweide", "disc", "nodes"],
)
def test_a_map_with_corners_off_the_earth_is_where_the_same_crs_in_its_notes_puts_it(
    crs: str, bounds: tuple[float, float, float, float], tmp_path: Path
) -> None:
    transform = rasterio.transform.from_bounds(*bounds, 64, 64)
    path = write_scene(tmp_path / "a.tif", landscape(64, 64, 1), crs=CRS(crs).to_wkt(), transform=transform)
    with rasterio.open(path) as dataset:
        own = dataset.crs.to_wkt()
    assert header(noted(path, outside=f"<SRS>{own.replace(chr(34), '&quot;')}</SRS>")).grid.width == 64
    for code in (32617, 3857, 4087):
        with pytest.raises(SceneError, match="beside it gives the CRS"):
            header(noted(path, outside=f"<SRS>EPSG:{code}</SRS>"))


def test_a_datum_that_the_notes_write_with_a_shift_to_wgs84_is_the_same(tmp_path: Path) -> None:
    """As GDAL wrote it before version 3: by other numbers than PROJ takes today, 12 m apart here."""
    transform = rasterio.Affine(10, 0, 8500000, 0, -10, 5500000)
    path = write_scene(tmp_path / "a.tif", landscape(64, 64, 1), crs="EPSG:28408", transform=transform)
    text, ellipsoid = CRS(28408).to_wkt("WKT1_GDAL"), 'AUTHORITY["EPSG","7024"]]'
    assert ellipsoid in text
    shifted = text.replace(ellipsoid, f"{ellipsoid},TOWGS84[28,-130,-95,0,0,0,0]").replace('"', "&quot;")
    assert header(noted(path, outside=f"<SRS>{shifted}</SRS>")).grid.crs == "EPSG:28408"


def test_a_crs_that_only_the_notes_hold_is_named(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", landscape(64, 64, 1), crs=None)
    with pytest.raises(SceneError, match=r"no CRS.*; a\.tif\.aux\.xml beside it is not read.*gdal_translate"):
        header(noted(path, outside="<SRS>EPSG:32617</SRS>"))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=200), st.text(alphabet="<>/PAMDatset=' 1&!#x", max_size=80).map(str.encode)))
def test_any_bytes_are_taken_or_refused_in_a_sentence(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    if not path.exists():
        write_scene(path, landscape(64, 64, 1))
    path.with_name("a.tif.aux.xml").write_bytes(data)
    said = "a.tif.aux.xml"
    try:
        header(path)
    except SceneError as error:
        said = str(error)
    assert "a.tif.aux.xml" in said
