"""No credential is written anywhere: a whole run against real storage, and every byte that it left behind."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from earthloom.tiling.errors import StorageError
from earthloom.tiling.redact import guard_logs, redact
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from infra.s3_server import Server
from tests.http_range_server import serve
from tests.maps import WORDS
from tests.scenes import landscape, write_scene

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "5e471e15e471e15e471e15e471e15e471e15e471e15e471e15e471e15e471e1"
SIGNED = "X-Amz-Signature=5171a7u3e"


@pytest.fixture
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(
        prefix="lk-", ignore_cleanup_errors=True
    ) as folder:  # Ray's socket paths are short
        yield Path(folder)


KEEPS_LOGS = """
from earthloom.cluster import session
from earthloom.jobs.command import main

assert session._session_folder
session._session_folder = lambda: None
main()
"""
"""The command, leaving the folder of the Ray that it started, as it does where an error or SIGKILL ends it."""


def jobs(*arguments: str, env: dict[str, str]) -> tuple[int, bytes]:
    command = [sys.executable, "-c", KEEPS_LOGS, "-v", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=180)
    return done.returncode, done.stdout


@pytest.mark.long
@pytest.mark.s3
@pytest.mark.usefixtures("s3_env")
def test_no_byte_that_a_run_leaves_behind_holds_a_secret(s3: Server, tmp_path: Path, scratch: Path) -> None:
    scenes = open_store(ObjectRef.parse("s3://scenes/leak"))
    scenes.put("good.tif", write_scene(tmp_path / "good.tif", landscape(600, 300, 2), ("green", "swir16")).read_bytes())
    scenes.put("bad.tif", b"<VRTDataset/>")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_", "GDAL_"))}
    env |= s3.env | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_TMPDIR": str(scratch)}
    env |= {"CPL_DEBUG": "OFF", "EARTHLOOM_CACHE": str(tmp_path / "cache")}
    secrets = {"access key": s3.access_key, "secret": s3.secret_key, "token": TOKEN, "signature": "5171a7u3e"}
    out = ("--out", "s3://outputs/leak")
    runs = {
        "run": (3, ("run", "s3://scenes/leak/", *out, *WORDS, "--json", "--executor", "ray"), env),
        "status": (0, ("status", "s3://outputs/leak", "--json"), env),
        "doctor": (None, ("doctor", *out), env),
        "signed": (2, ("plan", f"https://scenes.example/a.tif?{SIGNED}", *out, *WORDS), env),
        "denied": (None, ("plan", "s3://scenes/leak/good.tif", *out, *WORDS),
                   env | {"AWS_SECRET_ACCESS_KEY": "another-5171a7u3e"}),
    }  # fmt: skip
    seen: dict[str, bytes] = {}
    for name, (expected, arguments, its_env) in runs.items():
        code, found = jobs(*arguments, env=its_env)
        assert expected in (None, code), found.decode()
        assert found, name
        seen[f"output of {name}"] = found
    store = open_store(ObjectRef.parse("s3://outputs/leak"))
    keys = [head.key for head in store.list()]
    assert {".tif", ".json", ".png"} <= {Path(key).suffix for key in keys}
    assert any(key.startswith("runs/") and "/attempts/" in key for key in keys)
    seen |= {key: store.get(key) for key in keys}
    logs = [path for path in scratch.rglob("*") if path.is_file()]
    assert any(path.name.startswith("worker-") for path in logs), "Ray's session was elsewhere"
    seen |= {str(path): path.read_bytes() for path in logs}
    seen |= {str(path): path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    leaks = [
        (place, name) for place, data in seen.items() for name, secret in secrets.items() if secret.encode() in data
    ]
    assert leaks == []


@pytest.mark.long
def test_no_byte_that_a_run_of_signed_files_leaves_behind_holds_the_signature(tmp_path: Path) -> None:
    for name in ("in_place", "fetched"):
        write_scene(tmp_path / "in" / f"{name}.tif", landscape(600, 300, 2), ("green", "swir16"))
    (tmp_path / "in" / "bad.tif").write_bytes(b"<html>")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_", "GDAL_"))}
    env |= {"EARTHLOOM_CACHE": str(tmp_path / "cache")}
    signature = "se=2030-01-01&sr=b&sig=5171a7u3e5171a7u3e%2Fx%3D"
    seen: dict[str, bytes] = {}
    for name, ranges in (("in_place", True), ("fetched", False)):
        with serve(tmp_path) as server:
            server.signature, server.ranges = signature, ranges
            env |= {"EARTHLOOM_HTTP_HOSTS": server.host, "EARTHLOOM_SIGNED_URLS": f"{server.url('in/')}?{signature}"}
            asset = {"href": f"{server.url(f'in/{name}.tif')}?{signature}", "type": "image/tiff; application=geotiff",
                     "roles": ["data"], "eo:bands": [{"common_name": "green"}, {"common_name": "swir16"}]}  # fmt: skip
            item: dict[str, object] = {"type": "Feature", "stac_version": "1.0.0", "id": name, "geometry": None, "links": [],
                    "properties": {"datetime": "2026-01-01T00:00:00Z"}, "assets": {"scene": asset}}  # fmt: skip
            path = tmp_path / f"{name}.json"
            path.write_text(json.dumps(item))
            words = ("run", str(path), server.url("in/bad.tif"), "--out", str(tmp_path / "maps"), *WORDS)
            code, found = jobs(*words, "--executor", "local", "--json", env=env)
            assert code == 3, found.decode()
            assert b"web page (HTML)" in found
            assert all(signature in path for _, path, _ in server.requests)
            seen[f"output of {name}"] = found
            env |= {"EARTHLOOM_SIGNED_URLS": f"{server.url('in/')}?{signature}x"}  # as if it had expired
            code, found = jobs("plan", str(path), "--out", str(tmp_path / "maps"), *WORDS, env=env)
            assert b"the web server answers 403" in b" ".join(found.split())
            seen[f"refusal of {name}"] = found
    for folder in ("maps", "cache"):
        seen |= {str(path): path.read_bytes() for path in (tmp_path / folder).rglob("*") if path.is_file()}
    assert any(place.endswith("result.json") for place in seen)
    assert [place for place, data in seen.items() if b"5171a7u3e" in data + place.encode()] == []


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (
            "GET https://b.s3.amazonaws.com/k?X-Amz-Signature=abc&x=1 failed",
            "GET https://b.s3.amazonaws.com/k?*** failed",
        ),
        ("Authorization: AWS4-HMAC-SHA256 Credential=x, Signature=y\nHost: h", "Authorization: ***\nHost: h"),
        ("{'authorization': 'Bearer abc'}", "{'authorization': ***"),
        ("x-amz-security-token: FwoG/abc== rest", "x-amz-security-token: *** rest"),
        ("X-Amz-Credential=AKID/2026/us-east-1", "X-Amz-Credential=***"),
        ("key AKIAIOSFODNN7EXAMPLE.", "key ***."),
        ("https://user:pa55@host/x", "https://***@host/x"),
        ("env holds sentinel-secret-1 twice: sentinel-secret-1", "env holds *** twice: ***"),
        ("ab cd", "ab cd"),
        ("block 3_4 of s3://bucket/scene.tif: 503 at 12:00:01", "block 3_4 of s3://bucket/scene.tif: 503 at 12:00:01"),
    ],
)
def test_secrets_are_taken_out_and_nothing_else(text: str, clean: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sentinel-secret-1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "ab")  # too short to be told from words
    assert redact(text) == clean


def test_a_long_word_is_cleaned_like_a_short_one() -> None:
    """Errors hold files in base64 at times: looking for a scheme from each of their letters on took minutes."""
    word = "x" * 10**6
    assert redact(f"{word}://user:pa55@host") == f"{word}://***@host"


def test_errors_and_logs_of_any_library_are_clean(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sentinel-secret-1")
    assert str(StorageError("said sentinel-secret-1")) == "said ***"
    caplog.handler.setFormatter(logging.Formatter())  # not that of a command of another test, as JSON
    before = logging.getLogRecordFactory()
    try:
        guard_logs()
        guard_logs()
        log = logging.getLogger("some.library")
        log.warning("header %s and %d", {"Authorization": "Bearer sentinel-secret-1"}, 3)
        try:
            raise ValueError("sentinel-secret-1")
        except ValueError:
            log.exception("broken")
    finally:
        logging.setLogRecordFactory(before)
    assert "sentinel" not in caplog.text
    assert re.search(r"broken\nTraceback[\s\S]*ValueError: \*\*\*", caplog.text)
