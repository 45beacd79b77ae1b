from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef


@pytest.mark.parametrize(
    ("text", "url", "gdal"),
    [
        ("/data/a b.tif", "/data/a b.tif", "/data/a b.tif"),
        ("file:///data/a%20b.tif", "/data/a b.tif", "/data/a b.tif"),
        ("s3://scenes/2026/a.tif", "s3://scenes/2026/a.tif", "/vsis3/scenes/2026/a.tif"),
        ("S3://scenes/a.tif", "s3://scenes/a.tif", "/vsis3/scenes/a.tif"),
        ("https://Host.example/a%20b.tif", "https://host.example/a%20b.tif", "/vsicurl/https://host.example/a%20b.tif"),
    ],
)
def test_references_are_rebuilt_from_their_parts(text: str, url: str, gdal: str) -> None:
    ref = ObjectRef.parse(text)
    assert (ref.url, ref.gdal_path) == (url, gdal)
    assert ObjectRef.parse(ref.url) == ref


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/vsis3/other/a.tif",
        "  /vsicurl/http://x/a.tif",
        "<VRTDataset></VRTDataset>",
        "GTIFF_DIR:1:/data/a.tif",
        "WMS:http://x",
        "zip+http://x/a.zip",
        "vrt:///data/a.tif",
        "ftp://x/a.tif",
        "http://x/a.tif",
        "HTTP://169.254.169.254/latest",
        "https://user:secret@x/a.tif",
        "https://x/a.tif?X-Amz-Signature=abc",
        "https://x/a.tif#.tif",
        "s3://scenes/../other/a.tif",
        "s3://scenes//a.tif",
        "s3://Bad_Bucket/a.tif",
        "file://host/a.tif",
        "s3://scenes/a\n.tif",
        "s3://scenes/a\x00.tif",
        "https://x/a/%2e%2e/b.tif",
        "https://[bad/x.tif",
        "s3://[x/y.tif",
        "https://\u2100.example/x.tif",
        "file:///tmp/a%00b.tif",
        "https://x/a%0d%0ab.tif",
        "~nosuchuser/x.tif",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        ObjectRef.parse(text)


def test_a_refusal_does_not_repeat_a_secret() -> None:
    with pytest.raises(ConfigError) as refusal:
        ObjectRef.parse("https://bucket.example/a.tif?X-Amz-Signature=verysecret")
    assert "verysecret" not in str(refusal.value)


def test_plain_http_is_for_hosts_that_the_operator_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", "127.0.0.1:8080, other")
    assert ObjectRef.parse("http://127.0.0.1:8080/a.tif").gdal_path == "/vsicurl/http://127.0.0.1:8080/a.tif"
    with pytest.raises(ConfigError, match="EARTHLOOM_HTTP_HOSTS"):
        ObjectRef.parse("http://127.0.0.1:8081/a.tif")


@settings(deadline=None)
@given(child=st.text(max_size=30))
def test_no_child_leaves_its_prefix(child: str) -> None:
    base = ObjectRef("s3", "outputs", "run/scenes")
    try:
        key = (base / child).key
    except ConfigError:
        return
    assert key.startswith("run/scenes/") if child else key == "run/scenes"
    assert ".." not in key.split("/")
