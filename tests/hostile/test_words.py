"""Hostile strings and documents: references, STAC, config files, CRSs, weights. Refused in words, with nothing touched."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.command import main
from earthloom.jobs.config import load
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, assign_ids, expand, open_all
from earthloom.models.cards.weights import read_header
from earthloom.tiling.errors import CardError, ConfigError, EarthloomError, SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.scene import SCENE_ID
from earthloom.tiling.storage.objects import ObjectRef
from tests.http_range_server import RangeServer, serve
from tests.scenes import landscape, write_scene

REFERENCES = [
    ("<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>", "is not a file path or URL"),
    ("  <GDAL_WMS><Service/></GDAL_WMS>", "is not a file path or URL"),
    ('{"type": "FeatureCollection"}', "is not a file path or URL"),
    ("/vsicurl/http://169.254.169.254/latest/meta-data", "is not a file path or URL"),
    ("/vsizip//vsicurl/http://evil.example/a.zip/a.tif", "is not a file path or URL"),
    ("/vsimem/x.tif", "is not a file path or URL"),
    ("/vsisubfile/0_10,/etc/passwd", "is not a file path or URL"),
    ("/vsistdin/", "is not a file path or URL"),
    ("\\\\server\\share\\a.tif", "is not a file path or URL"),
    ("vrt://a.tif?bands=1", r"carries a query|vrt:// is not read"),
    ("WMS:http://evil.example/wms", r"looks like a GDAL connection string|is not read"),
    ("STACIT:a.json", "looks like a GDAL connection string"),
    ("GTIFF_DIR:1:/etc/passwd", "looks like a GDAL connection string"),
    ("GTIFF_RAW:/etc/passwd", "looks like a GDAL connection string"),
    ("NETCDF:a.nc:v", "looks like a GDAL connection string"),
    ("PG:host=db password=x", "looks like a GDAL connection string"),
    ("zip+http://evil.example/a.zip!a.tif", r"zip\+http:// is not read"),
    ("ftp://evil.example/a.tif", "ftp:// is not read"),
    ("swift://bucket/a.tif", "swift:// is not read"),
    ("HTTP://evil.example/a.tif", "plain http is refused; list the host"),
    ("http://169.254.169.254/latest/meta-data/iam", "plain http is refused; list the host"),
    ("file://evil.example/etc/passwd", "file URLs have three slashes"),
    ("file:///a/%2e%2e/b.tif", r"holds '\.\.'"),
    ("s3://bucket/../other/a.tif", r"holds '\.\.'"),
    ("s3://bucket//a.tif", "holds .*//"),
    ("s3://Bucket_1/a.tif", "is not a bucket name"),
    ("s3://key:5171a7u3e@bucket/a.tif", "carries a query, fragment or credentials"),
    ("https://user:5171a7u3e@host.example/a.tif", "carries a query, fragment or credentials"),
    ("https://host.example/a.tif?X-Amz-Signature=5171a7u3e", "carries a query, fragment or credentials"),
    ("https://host.example/a.tif#.tif", "carries a query, fragment or credentials"),
    ("a\nb.tif", "control characters"),
    ("a\x00.tif", "control characters"),
]


@pytest.mark.parametrize(("text", "message"), REFERENCES)
def test_a_hostile_reference_is_refused_and_its_secret_not_repeated(text: str, message: str) -> None:
    for use in (ObjectRef.parse, lambda text: expand([text])):
        with pytest.raises(ConfigError, match=message) as caught:
            use(text)
        assert "5171a7u3e" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["https://127.0.0.1/a.tif", "https://[::1]/a.tif", "https://localhost/a.tif", "https://169.254.169.254/a.tif",
     "https://2130706433/a.tif", "https://0x7f.1/a.tif", "https://10.0.0.1:8443/a.tif", "https://[::ffff:127.0.0.1]/a.tif"],
)  # fmt: skip
def test_an_address_inside_is_refused_in_every_spelling(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    (result,) = open_all(assign_ids(expand([address])), SceneOptions())
    assert isinstance(result, RefusedScene)
    assert "which is private, local or a metadata service" in result.message


# ---- STAC


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[RangeServer]:
    write_scene(tmp_path / "canary" / "secret.tif", landscape(64, 64, 1))
    with serve(tmp_path / "canary") as server:
        yield server


def item(href: str, scene_id: str = "x") -> dict[str, Any]:
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": scene_id, "properties": {"proj:code": "http://evil.example/crs"},
        "assets": {"green": {"href": href, "type": "image/tiff", "roles": ["data"]}}, "links": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("href", "message"),
    [
        ("file:///etc/passwd", "outside the folder"),
        ("../../secret.tif", "outside the folder"),
        ("/etc/passwd", "outside the folder"),
        ("//evil.example/a.tif", "names a host without a scheme"),
        ("{canary}/secret.tif", "plain http is refused"),
        ("HTTP://169.254.169.254/latest", "plain http is refused"),
        ("https://169.254.169.254/a.tif", "metadata service"),
        ("https://x.example/a.tif?X-Amz-Signature=5171a7u3e", "carries a query"),
        ("/vsicurl/{canary}/secret.tif", "outside the folder|is not a file path"),
        ("GTIFF_DIR:1:/etc/passwd", "connection string"),
        ("<VRTDataset/>", "is not a file path or URL|does not exist"),
    ],
)
def test_a_hostile_href_refuses_its_item_alone(
    href: str, message: str, tmp_path: Path, canary: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    write_scene(tmp_path / "stac" / "good.tif", landscape(64, 64, 1), ("green",))
    features = [item(href.replace("{canary}", f"http://{canary.host}"), "bad"), item("./good.tif", "good")]
    path = tmp_path / "stac" / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    bad, good = open_all(assign_ids(expand([str(path)])), SceneOptions())
    assert isinstance(bad, RefusedScene)
    assert bad.id == "bad"
    assert not isinstance(good, RefusedScene), good.message
    assert canary.requests == []
    assert "5171a7u3e" not in bad.message
    import re

    assert re.search(message, bad.message), bad.message


@pytest.mark.parametrize(
    "scene_id", ["../../x", "/etc/x", "a/b", "..", ".hidden", "a\x00b", "x" * 200, "a..b", "", "-"]
)
def test_a_hostile_id_never_names_a_folder(scene_id: str, tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", landscape(64, 64, 1), ("green",))
    (tmp_path / "i.json").write_text(json.dumps(item("./a.tif", scene_id)))
    (result,) = open_all(assign_ids(expand([str(tmp_path / "i.json")])), SceneOptions())
    assert isinstance(result, OpenedScene)
    assert SCENE_ID.fullmatch(result.scene.id)
    assert result.scene.source_id == (scene_id or None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000, "is not JSON"),
        ('{"a":' * 100_000, "is not JSON"),
        ('{"type": "Feature"', "is not JSON"),
        ("\xff\xfe", "is not JSON"),
        ('{"type": ["Feature"]}', "is not STAC"),
        ("[]", "is not STAC"),
        ('{"type": "FeatureCollection", "features": [1, null, "x"]}', ""),
        ('{"type": "Feature", "id": {}, "properties": 3, "assets": []}', ""),
    ],
)
def test_a_hostile_document_is_an_error_in_words(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "i.json"
    path.write_text(text, encoding="latin-1")
    if message:
        with pytest.raises(ConfigError, match=message):
            expand([str(path)])
    else:
        assert all(isinstance(one, RefusedScene) for one in open_all(assign_ids(expand([str(path)])), SceneOptions()))


def test_a_document_of_any_size_is_not_read_beyond_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "i.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match=r"has 1099511627776 bytes; a STAC file of at most 33554432 bytes is read"):
        expand([str(path)])


# ---- config files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('model = "x"\nout = "o"\nscenes = ["a"]\naws_secret_access_key = "5171a7u3e"', "no option 'aws_secret_access_key'"),
        ('out = "a"\nout = "b"', "Cannot overwrite a value"),
        ("a = " + "[" * 100_000, "nested too deeply|is not TOML"),
        ("a.b = {c = 1", "is not TOML"),
        ('model = "x"\nout = "o"\nscenes = ["a"]\nblock = 1e999', "`block` must be a finite number"),
        ('model = "x"\nout = "o"\nscenes = ["a"]\nscale = "!!python/object:os.system"', "`scale` must be a valid number"),
        ("\x00", "is not TOML"),
        ("#" * (2 << 20), "larger than the 1048576 bytes"),
    ],
)  # fmt: skip
def test_a_hostile_config_file_is_one_sentence_at_the_command(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load({}, path)
    assert "5171a7u3e" not in str(caught.value)
    with pytest.raises(SystemExit) as stop:
        main(["plan", "--config", str(path)])
    assert stop.value.code == 2
    found = capsys.readouterr().err
    assert found.startswith("error: ")
    assert "Traceback" not in found


def test_a_pipe_is_no_config_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.toml")
    with pytest.raises(ConfigError, match="is not a regular file"):
        load({}, tmp_path / "run.toml")


# ---- CRSs and weights


@pytest.mark.parametrize(
    "crs",
    ["http://evil.example/crs.wkt", "https://evil.example/x", "/etc/passwd", "@/etc/passwd", "urn:ogc:def:crs:EPSG::4326",
     "EPSG:4326+5773", "+proj=utm +zone=17 +nadgrids=http://evil.example/x", "ESRI:102100", '{"type": "GeographicCRS"}', ""],
)  # fmt: skip
def test_a_crs_is_never_something_to_look_up(crs: str) -> None:
    with pytest.raises(SceneError, match="CRS must be EPSG:<code> or WKT"):
        Grid(crs=crs, transform=(1, 0, 0, 0, -1, 0), width=1, height=1)


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_weights_that_are_code_or_nonsense_are_refused_unread(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    header = json.dumps({"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    forms = {
        "pickle": pickle.dumps(_Payload(touched)),
        "huge header": struct.pack("<Q", 1 << 62) + b"{}",
        "header beyond the file": struct.pack("<Q", 1000) + b"{}",
        "declared terabytes": struct.pack("<Q", len(header)) + header,
        "deep header": struct.pack("<Q", 200_000) + b"[" * 200_000,
        "negative offsets": struct.pack("<Q", 60)
        + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[8,-4]}}'.ljust(60),
        "empty": b"",
    }
    for name, data in forms.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        with pytest.raises(CardError, match=name) as caught:
            read_header(path)
        assert isinstance(caught.value, EarthloomError)
    assert not touched.exists()
