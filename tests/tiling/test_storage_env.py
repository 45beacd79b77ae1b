from __future__ import annotations

import os
import subprocess
import sys

import pytest

from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.remote import RemoteObjects
from earthloom.tiling.storage.settings import apply, derive


def test_one_endpoint_becomes_every_librarys_spelling() -> None:
    derived = derive({"AWS_ENDPOINT_URL": "http://127.0.0.1:8333", "AWS_SECRET_ACCESS_KEY": "secret"})
    assert derived["AWS_S3_ENDPOINT"] == "127.0.0.1:8333"
    assert derived["AWS_HTTPS"] == "NO"
    assert derived["AWS_VIRTUAL_HOSTING"] == "FALSE"
    assert derived["AWS_ALLOW_HTTP"] == "true"
    assert derived["AWS_REGION"] == derived["AWS_DEFAULT_REGION"] == "us-east-1"
    assert "secret" not in "".join(derived.values())


def test_an_https_endpoint_stays_encrypted() -> None:
    derived = derive({"AWS_ENDPOINT_URL": "https://s3.example.org", "AWS_DEFAULT_REGION": "eu-west-1"})
    assert derived["AWS_HTTPS"] == "YES"
    assert "AWS_ALLOW_HTTP" not in derived
    assert derived["AWS_REGION"] == "eu-west-1"


def test_what_the_user_set_stays() -> None:
    env = {"GDAL_CACHEMAX": "64", "AWS_REGION": "r", "AWS_DEFAULT_REGION": "d"}
    apply(env, threads=3)
    assert (env["GDAL_CACHEMAX"], env["AWS_REGION"], env["AWS_DEFAULT_REGION"]) == ("64", "r", "d")
    assert env["GDAL_NUM_THREADS"] == "3"


def test_without_an_endpoint_nothing_points_anywhere() -> None:
    assert not {name for name in derive({}) if name.startswith("AWS_")}


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:8333", "ftp://x", "http://user:pw@host", "https://:pw@host", "http://[bad"]
)
def test_an_endpoint_of_another_form_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL must look like"):
        derive({"AWS_ENDPOINT_URL": endpoint})


def test_a_process_with_these_settings_has_four_drivers_and_no_plugins() -> None:
    code = "import rasterio\nwith rasterio.Env() as env: print(*sorted({*env.drivers()} - {'Memory'}))"
    env = {name: value for name, value in os.environ.items() if not name.startswith("GDAL_")}
    env |= derive({}) | {"PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("COG GTiff JP2OpenJPEG MEM\n", "")
    assert derive({})["GDAL_DRIVER_PATH"] == "disable"


def test_a_users_own_list_of_skipped_drivers_is_added_to_and_cannot_skip_what_is_needed() -> None:
    for given in ("MyDriver GTiff Memory", "MyDriver,GTiff,Memory"):
        names = derive({"GDAL_SKIP": given})["GDAL_SKIP"].split(",")
        assert {"MyDriver", "VRT", "ESRI Shapefile", "WMS"} <= set(names)
        assert not {"GTiff", "COG", "MEM", "Memory"} & set(names)  # skipping Memory crashes GDAL from 3.11 on


def test_a_run_does_not_warn_of_drivers_that_are_not_there_to_be_skipped() -> None:
    """In a fresh process, since GDAL tells it once; what else rasterio warns of still comes through."""
    code = (
        "import logging; logging.basicConfig(level=logging.WARNING)\n"
        "from earthloom.tiling.storage.settings import apply; apply()\n"
        "import rasterio\n"
        "with rasterio.Env(): pass\n"
        "logging.getLogger('rasterio._env').warning('a real one')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "GDAL_SKIP" not in done.stderr
    assert "a real one" in done.stderr


def test_stores_of_one_bucket_share_a_client_until_a_setting_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    def client(key: str) -> object:
        return RemoteObjects(ObjectRef.parse(f"s3://scenes/{key}"))._store

    first = client("one")
    assert client("two") is first
    for name, value in {
        "AWS_SECRET_ACCESS_KEY": "c",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:2",
        "no_proxy": "x",
    }.items():
        monkeypatch.setenv(name, value)
        assert client("one") is not first
        first = client("one")
