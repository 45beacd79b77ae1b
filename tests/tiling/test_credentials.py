"""Buckets that are open, closed, or asked without credentials: the cause, what to set, and no address of a metadata service."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from obstore.exceptions import GenericError

from earthloom.tiling.errors import StorageError
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.storage.failures import remote_errors
from earthloom.tiling.storage.objects import ObjectRef
from tests.odd_bucket import odd_bucket
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.usefixtures("no_aws")

ROOT = Path(__file__).resolve().parents[2]
KEYS = "[work]\naws_access_key_id = kkkkkkkkkkkkkkkk\naws_secret_access_key = ssssssssssssssss\n"
_READ = (
    "from earthloom.tiling.storage.settings import apply; apply()\n"
    "from earthloom.tiling.reading.identity import pin\n"
    "from earthloom.tiling.reading.opening import open_asset\n"
    "from earthloom.tiling.storage.objects import ObjectRef\n"
    "from earthloom.tiling.storage.store import open_store\n"
    "ref = ObjectRef.parse('s3://bucket/in/')\n"
    "print([head.key for head in open_store(ref).list()])\n"
    "with open_asset(pin(ref / 'a.tif')) as dataset: print(dataset.read().sum())\n"
)


def signed(headers: Mapping[str, str]) -> bool:
    return "Credential=kkkkkkkkkkkkkkkk/" in {name.lower(): value for name, value in headers.items()}.get(
        "authorization", ""
    )


@pytest.mark.parametrize(
    "way", ["AWS_NO_SIGN_REQUEST", "AWS_SKIP_SIGNATURE", "keys", "profile", "AWS_ENDPOINT_URL_S3", "AWS_S3_ENDPOINT"]
)
def test_one_way_of_saying_it_is_heard_by_obstore_and_by_gdal(way: str, tmp_path: Path) -> None:
    pixels = landscape(300, 200, 2)
    data = write_scene(tmp_path / "a.tif", pixels, nodata=0).read_bytes()
    is_open = way in ("AWS_NO_SIGN_REQUEST", "AWS_SKIP_SIGNATURE")
    (tmp_path / ".aws").mkdir()
    with odd_bucket({"in/a.tif": data}, lambda headers: signed(headers) is not is_open) as env:
        if is_open:
            env = {"AWS_ENDPOINT_URL": env["AWS_ENDPOINT_URL"], way: "YES"}
        elif way == "profile":
            (tmp_path / ".aws" / "credentials").write_text(KEYS)
            (tmp_path / ".aws" / "config").write_text(f"[profile work]\nendpoint_url = {env['AWS_ENDPOINT_URL']}\n")
            env = {"AWS_PROFILE": "work"}
        elif way == "AWS_ENDPOINT_URL_S3":
            env |= {way: env["AWS_ENDPOINT_URL"], "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
        elif way == "AWS_S3_ENDPOINT":
            env |= {way: env.pop("AWS_ENDPOINT_URL").removeprefix("http://"), "AWS_HTTPS": "NO"}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GDAL_")}
        done = subprocess.run(
            [sys.executable, "-c", _READ], env=clean | env, cwd=ROOT, capture_output=True, text=True, timeout=120
        )
    assert done.stdout.split("\n")[:2] == ["['a.tif']", str(pixels.sum())], done.stderr[-600:]


def test_a_closed_bucket_asked_without_a_signature_names_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with odd_bucket({"in/a.tif": b""}, signed) as env:
        monkeypatch.setenv("AWS_ENDPOINT_URL", env["AWS_ENDPOINT_URL"])
        monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        with pytest.raises(StorageError, match="unset AWS_NO_SIGN_REQUEST, which is set, and give credentials"):
            pin(ObjectRef.parse("s3://bucket/in/a.tif"))


def test_wrong_keys_are_told_of_the_policy_and_of_open_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    with odd_bucket({"in/a.tif": b""}, lambda _: False) as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(StorageError, match="bucket's policy; AWS_NO_SIGN_REQUEST=YES reads an open one"):
            pin(ObjectRef.parse("s3://bucket/in/a.tif"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 10.1s - connection error",
         "there are no credentials.*AWS_PROFILE.*AWS_NO_SIGN_REQUEST=YES"),
        ("Generic S3 error: Error performing GET http://169.254.170.2/v2/credentials - 403", "there are no credentials"),
        ("Received redirect without LOCATION, this normally indicates an incorrectly configured region",
         "lies in another region.*set AWS_REGION"),
    ],
)  # fmt: skip
def test_what_obstore_says_of_places_nobody_named_becomes_what_to_set(text: str, found: str) -> None:
    with (
        pytest.raises(StorageError, match=found) as error,
        remote_errors(ObjectRef.parse("s3://bucket/a.tif"), "", "read"),
    ):
        raise GenericError(text)
    assert "169.254" not in str(error.value)
    assert not error.value.transient
