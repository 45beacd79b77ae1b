"""Files that this installation cannot read, and installations that cannot read sound files: each is called by its name."""

from __future__ import annotations

import os
import signal
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.tiling.errors import EngineError, SceneError
from earthloom.tiling.reading import preflight
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.opening import open_asset
from earthloom.tiling.reading.preflight import Header, check_sound, inspect, inspect_apart
from earthloom.tiling.reading.sandbox import CrashError, Disposables
from earthloom.tiling.reading.sound import SIDE_PX, WATER_COLS, sound_tiff
from earthloom.tiling.scene import Asset
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import apply
from tests.scenes import landscape, write_scene

ROOT = Path(__file__).resolve().parents[2]


def header(path: Path) -> Header:
    return inspect(pin(ObjectRef.parse(str(path))))


def with_codec(path: Path, code: int) -> Path:
    """A TIFF whose compression is called `code`, whatever its bytes are."""
    data = bytearray(write_scene(path, landscape(300, 200, 1), nodata=0).read_bytes())
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, at)[0] == 259:
            struct.pack_into("<H", data, at + 8, code)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("code", "name"),
    [(50002, r"JPEG XL \(JXL\)"), (34712, "JPEG 2000"), (33003, r"JPEG 2000 \(Aperio\)"), (34661, "JBIG"), (34933, "PNG"),
     (65001, "the codec of code 65001")],
)  # fmt: skip
def test_a_codec_that_this_gdal_lacks_is_named_with_the_command_that_rewrites_the_file(
    code: int, name: str, tmp_path: Path
) -> None:
    with pytest.raises(
        SceneError, match=rf"a\.tif is compressed by {name}, which.*cannot read.*COMPRESS=DEFLATE"
    ) as result:
        header(with_codec(tmp_path / "a.tif", code))
    assert "damaged" not in str(result.value)


def spoiled(path: Path, text: bytes, *, tag: str = "", description: str = "GrXXXn") -> Path:
    """A file with bytes in the place of `XXX` in its texts."""
    write_scene(path, landscape(300, 200, 2), (description, "swir16"), nodata=0)
    if tag:
        import rasterio

        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(**{tag: "Bil XXX d"})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"XXX", text))
    return path


def test_a_band_description_in_latin1_is_passed_over_with_a_word(tmp_path: Path) -> None:
    found = header(spoiled(tmp_path / "a.tif", "ü²é".encode("latin1")))
    assert found.descriptions == (None, None)
    assert any("not UTF-8" in warning and "`bands`" in warning for warning in found.warnings)
    with open_asset(pin(ObjectRef.parse(str(tmp_path / "a.tif")))) as dataset:
        assert np.array_equal(dataset.read(), landscape(300, 200, 2))


@pytest.mark.parametrize("tag", ["TIFFTAG_ARTIST", "TIFFTAG_IMAGEDESCRIPTION", "COPYRIGHT_NOTE"])
def test_other_text_in_latin1_hides_neither_names_nor_the_date(tag: str, tmp_path: Path) -> None:
    found = header(spoiled(tmp_path / "a.tif", "üéß".encode("latin1"), tag=tag, description="green"))
    assert found.descriptions == ("green", "swir16")
    assert found.datetime == "2026-07-01T10:00:00"


@settings(deadline=None, max_examples=25)
@given(text=st.binary(min_size=3, max_size=3).filter(lambda text: not {0, 38, 60, 62} & set(text)))
def test_no_bytes_in_a_text_make_a_file_damaged(text: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = spoiled(tmp_path_factory.mktemp("latin") / "a.tif", text, tag="TIFFTAG_ARTIST")
    assert header(path).count == 2


def test_our_own_scene_is_what_we_say(tmp_path: Path) -> None:
    path = tmp_path / "sound.tif"
    path.write_bytes(sound_tiff())
    found = header(path)
    assert (found.grid.crs, found.grid.shape) == ("EPSG:32617", (SIDE_PX, SIDE_PX))
    assert (found.descriptions, found.nodata, found.dtypes) == (("green", "swir16"), (0.0, 0.0), ("uint16", "uint16"))
    with open_asset(pin(ObjectRef.parse(str(path)))) as dataset:
        green, swir = dataset.read()
    assert ((green > swir).sum(0) == SIDE_PX).nonzero()[0].tolist() == list(range(WATER_COLS))
    assert check_sound().grid == found.grid


def _die(*_: object) -> Header:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def _die_of_bad(asset: Asset, *_: object) -> Header:
    return _die() if asset.ref.name == "bad.tif" else inspect(asset)


def test_a_reader_that_dies_of_one_file_only_makes_that_file_suspect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = pin(ObjectRef.parse(str(write_scene(tmp_path / "bad.tif", landscape(300, 200, 1), nodata=0))))
    monkeypatch.setattr(preflight, "_inspect", _die_of_bad)
    with Disposables() as pool, pytest.raises(CrashError, match=r"bad\.tif cannot be trusted.*SIGSEGV.*damaged"):
        inspect_apart(pool, asset)


def test_a_reader_that_dies_of_our_own_file_too_is_the_installations_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = pin(ObjectRef.parse(str(write_scene(tmp_path / "good.tif", landscape(300, 200, 1), nodata=0))))
    monkeypatch.setattr(preflight, "_inspect", _die)
    monkeypatch.setattr(preflight, "check_sound", _die)
    with (
        Disposables() as pool,
        pytest.raises(EngineError, match=r"SIGSEGV.*this installation is at fault, not good\.tif") as result,
    ):
        inspect_apart(pool, asset)
    assert "damaged" not in str(result.value)
    assert "earthloom doctor" in str(result.value)


@pytest.mark.parametrize("variable", ["PROJ_LIB", "PROJ_DATA", "GDAL_DATA"])
@pytest.mark.parametrize("imported_before", [False, True])
def test_tables_of_another_installation_are_not_used(variable: str, imported_before: bool, tmp_path: Path) -> None:
    other = tmp_path / "proj"
    other.mkdir()
    with sqlite3.connect(other / "proj.db") as database:
        database.execute("create table metadata (key text, value text)")
        database.executemany("insert into metadata values (?, ?)",
                             [("DATABASE.LAYOUT.VERSION.MAJOR", "1"), ("DATABASE.LAYOUT.VERSION.MINOR", "0")])  # fmt: skip
    database.close()
    code = (
        f"{'import rasterio' if imported_before else ''}\n"
        "from earthloom.tiling.storage.settings import apply; apply()\n"
        "from rasterio.crs import CRS\n"
        "print(CRS.from_epsg(32617).to_epsg(), CRS.from_epsg(3413).linear_units)\n"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PROJ_", "GDAL_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env | {variable: str(other)}, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split() == ["32617", "metre"], done.stderr


def test_tables_stay_where_rasterio_brings_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("earthloom.tiling.storage.settings.find_spec", lambda _: None)
    env = {"PROJ_DATA": "/opt/conda/share/proj"}
    apply(env)
    assert env["PROJ_DATA"] == "/opt/conda/share/proj"


def test_a_crs_in_kilometres_is_read_without_a_word_on_stderr(tmp_path: Path) -> None:
    path = write_scene(
        tmp_path / "km.tif", np.ones((1, 8, 8), np.uint8), crs="+proj=utm +zone=33 +datum=WGS84 +units=km"
    )
    code = (
        "import sys\n"
        "from earthloom.tiling.storage.settings import apply; apply()\n"
        "import rasterio, pyproj\n"
        "with rasterio.open(sys.argv[1]) as dataset: print(dataset.crs.linear_units_factor[1])\n"
        "print(pyproj.CRS.from_epsg(3413).to_epsg())"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PROJ_", "GDAL_"))}
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["1000.0", "3413"]
    assert "proj.db" not in done.stderr
