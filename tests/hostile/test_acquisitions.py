"""Metadata files and JPEG 2000 that are made to harm: nothing that they name is touched, and each is refused in a sentence."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earthloom.jobs.intake.acquisitions.delivery import MAX_BYTES
from earthloom.jobs.intake.acquisitions.xml import parse
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, expand, open_all, open_scene
from earthloom.jobs.intake.wanted import Wanted
from earthloom.tiling.errors import EarthloomError, SceneError
from earthloom.tiling.reading.sandbox import Disposables
from tests import acquisitions
from tests.acquisitions import L2_NAME, PLANET_ID, S2_NAME, write_jp2
from tests.http_range_server import RangeServer, serve
from tests.scenes import write_scene

pytestmark = pytest.mark.usefixtures("own_cache")

ASKING = Wanted(models=((frozenset(("green", "nir")),),))
MTD = "MTD_MSIL2A.xml"
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One acquisition of each product, with few pixels."""
    folder = tmp_path_factory.mktemp("delivered")
    acquisitions.landsat(folder, side=64, clouds=False)
    acquisitions.sentinel2(folder)
    acquisitions.planet(folder, surface=False)
    return folder


@pytest.fixture
def safe(delivered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(delivered / f"{S2_NAME}.SAFE", tmp_path / f"{S2_NAME}.SAFE"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    write_scene(tmp_path / "bait" / "bait.tif", np.full((1, 64, 64), 99, np.uint16))
    with serve(tmp_path / "bait") as running:
        yield running


def message(folder: Path) -> str:
    (found,) = open_all(expand([str(folder)]), SceneOptions(), models=ASKING)
    assert isinstance(found, RefusedScene), found
    assert found.message.isprintable()
    assert len(found.message) < 700
    return found.message


# ---- XML and JSON


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "doctype",
    [
        f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>', '<!DOCTYPE x [<!ENTITY l11 SYSTEM "file://{bait}">]>',
        '<!DOCTYPE x [<!ENTITY l11 SYSTEM "{url}">]>', '<!DOCTYPE x SYSTEM "{url}">',
        '<!DOCTYPE x [<!ENTITY % p SYSTEM "{url}"> %p;]>',
    ],
)  # fmt: skip
def test_a_document_type_is_refused_before_anything_that_it_declares(
    doctype: str, encoding: str, safe: Path, tmp_path: Path, server: RangeServer
) -> None:
    bait = tmp_path / "bait" / "bait.tif"
    os.utime(bait, (1e9, 1e9))
    text = (safe / MTD).read_text().replace("<PRODUCT_URI>", "<PRODUCT_URI>&l11;")
    start = doctype.replace("{bait}", str(bait)).replace("{url}", server.url("bait.tif"))
    head, _, rest = text.partition("?>")
    (safe / MTD).write_bytes((head.replace("UTF-8", encoding) + "?>" + start + rest).encode(encoding))
    assert "declares a document type (DOCTYPE)" in message(safe)
    assert server.requests == []
    assert bait.stat().st_atime == 1e9


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("<a>" * 10_000, "has more than 64 levels"), ("<a>" + "<b/>" * 200_000 + "</a>", "or 100000 elements"),
        (" " * (MAX_BYTES + 1), "metadata of at most"), ("", "is not XML"), ("<a", "is not XML"),
        ('<?xml version="1.0" encoding="nobody"?><a/>', "is not XML"), ("<a>&nothing;</a>", "is not XML"),
    ],
)  # fmt: skip
def test_xml_that_is_too_deep_too_long_or_none_is_refused(data: str, words: str, safe: Path) -> None:
    (safe / MTD).write_text(data)
    assert words in message(safe)


@pytest.mark.parametrize(
    ("data", "words"), [("[" * 100_000, "is not JSON"), ('{"a":' * 90_000, "is not JSON"), ("[]", "lacks")]
)
def test_json_that_is_too_deep_or_something_else_is_refused(
    data: str, words: str, delivered: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(delivered / L2_NAME, tmp_path / L2_NAME))
    (copy / f"{L2_NAME}_MTL.json").write_text(data)
    assert words in message(copy)


# ---- JPEG 2000


def first_image(safe: Path, band: str = "B03") -> Path:
    return next(safe.glob(f"GRANULE/*/IMG_DATA/R10m/*_{band}_10m.jp2"))


def test_another_format_called_jp2_is_not_opened(safe: Path, tmp_path: Path, server: RangeServer) -> None:
    image = first_image(safe)
    source = f"<SourceFilename>/vsicurl/{server.url('bait.tif')}"
    vrt = f'<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand><SimpleSource>{source}'
    for data in (vrt.encode(), (tmp_path / "bait" / "bait.tif").read_bytes(), b"", b"\x00" * 500):
        image.write_bytes(data)
        assert "JPEG 2000" in message(safe)
    assert server.requests == []


def test_jpeg_2000_called_tif_is_not_opened_by_its_driver(tmp_path: Path) -> None:
    write_jp2(tmp_path / "scene.jp2", np.ones((64, 64), np.uint16), 10)
    (tmp_path / "scene.jp2").rename(tmp_path / "scene.tif")
    (found,) = open_all(expand([str(tmp_path / "scene.tif")]), SceneOptions())
    assert isinstance(found, RefusedScene)


def test_files_beside_a_jp2_say_nothing_of_where_it_lies(safe: Path) -> None:
    image = first_image(safe)
    Path(f"{image}.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><Metadata><MDI key="STATISTICS_MEAN">5</MDI></Metadata></PAMRasterBand>'
        "</PAMDataset>"
    )
    (found,) = open_all(expand([str(safe)]), SceneOptions(), models=ASKING)
    assert isinstance(found, OpenedScene), "statistics, as viewers leave them behind"
    image.with_suffix(".j2w").write_text("30\n0\n0\n-30\n1\n2\n")
    for text in ("<SRS>EPSG:3857</SRS>", "<GeoTransform>1,2,3,4,5,6</GeoTransform>"):
        Path(f"{image}.aux.xml").write_text(f"<PAMDataset>{text}</PAMDataset>")
        (other,) = open_all(expand([str(safe)]), SceneOptions(), models=ASKING)
        assert isinstance(other, RefusedScene) or other.scene.grid == found.scene.grid


def test_a_crs_that_is_an_address_is_not_fetched(safe: Path, server: RangeServer) -> None:
    """GMLJP2 names its CRS in XML of its own."""
    image = first_image(safe)
    write_jp2(image, np.ones((360, 360), np.uint16), 10, GeoJP2="NO", GMLJP2="YES")
    data = image.read_bytes()
    name = b'"urn:ogc:def:crs:EPSG::32633"'
    assert name in data
    address = server.url("b").encode()
    assert len(address) <= len(name) - 2
    image.write_bytes(data.replace(name, b'"' + address.ljust(len(name) - 2, b"/") + b'"'))
    message(safe)
    assert server.requests == []


# ---- mutations


def metadata_files(folder: Path) -> dict[str, Path]:
    return {
        "landsat-json": folder / L2_NAME / f"{L2_NAME}_MTL.json", "landsat-text": folder / L2_NAME / f"{L2_NAME}_MTL.txt",
        "sentinel2": folder / f"{S2_NAME}.SAFE" / MTD, "planet-json": folder / "PSScene" / f"{PLANET_ID}_metadata.json",
        "planet-xml": folder / "PSScene" / f"{PLANET_ID}_3B_AnalyticMS_metadata.xml",
    }  # fmt: skip


def mutated(data: bytes, seed: int) -> bytes:
    """A few changes of the kinds that break readers: bytes, digits, whole values, lines lost or doubled, and cuts."""
    chance = random.Random(seed)
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place, kind = chance.randrange(max(1, len(out))), chance.randrange(7)
        if kind == 0:
            out[place : place + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            out[place : place + chance.randint(1, 80)] = b""
        elif kind == 2:
            out[place:place] = chance.choice(
                (b"../", b"\x00", b"1e999", b"-", b"nan", "ü".encode(), b"\xff", b'"', b"<", b"&")
            )
        elif kind == 3:
            out[place:place] = out[max(0, place - chance.randint(1, 300)) : place]
        elif kind == 4:
            digits = [at for at, byte in enumerate(out) if 48 <= byte <= 57]
            if digits:
                out[chance.choice(digits)] = chance.choice(b"0123456789-.eE")
        elif kind == 5:
            lines = bytes(out).splitlines(keepends=True)
            del lines[chance.randrange(len(lines)) if lines else 0 :][:1]
            out = bytearray(b"".join(lines)) if lines else out
        else:
            out = out[: place + 1]
    return bytes(out)


_inspectors = Disposables()  # its child goes with this process


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    which=st.sampled_from(sorted(metadata_files(Path()))),
    mask=st.sampled_from([None, "qa"]),
)
def test_no_mutation_of_metadata_gives_anything_but_a_scene_or_a_refusal_in_words(
    seed: int, which: str, mask: Any, delivered: Path, tmp_path: Path
) -> None:
    path, words = metadata_files(delivered)[which], ""
    kept = path.read_bytes()
    others = [path.with_suffix(".json")] if which == "landsat-text" else []
    for other in others:
        other.rename(tmp_path / "aside")
    try:
        path.write_bytes(mutated(kept, seed))
        for request in expand([str(path.parent)]):
            scene = open_scene(request, SceneOptions(mask=mask), _inspectors, models=ASKING).scene
            assert {band.name for band in scene.bands} <= {"green", "nir", "qa_pixel", "scl", "udm2_clear"}
            for band in scene.bands:
                assert band.categorical or (0 < band.scale < 1 and abs(band.offset) < 10)
    except EarthloomError as error:
        words = str(error)
    finally:
        path.write_bytes(kept)
        for other in others:
            (tmp_path / "aside").rename(other)
    assert words.isprintable(), words
    assert len(words) < 1500


def test_an_image_of_a_band_that_there_is_not_is_no_band_of_the_scene(safe: Path) -> None:
    path = safe / MTD
    path.write_text(path.read_text().replace("_B08", "_B80"))
    (request,) = expand([str(safe)])
    bands = open_scene(request, SceneOptions(), _inspectors, models=ASKING).scene.bands
    assert {band.name for band in bands} <= {"green", "nir"}


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_xml_or_refused(data: bytes) -> None:
    words = "a.xml"
    try:
        parse(data, "a.xml")
    except SceneError as error:
        words = str(error)
    assert "a.xml" in words


def test_the_acquisitions_of_these_tests_are_sound(delivered: Path) -> None:
    found = open_all(expand([str(delivered)]), SceneOptions(), models=ASKING)
    assert [type(one) for one in found] == [OpenedScene] * 3
    json.loads((delivered / L2_NAME / f"{L2_NAME}_MTL.json").read_text())
