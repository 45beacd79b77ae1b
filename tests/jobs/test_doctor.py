"""What the doctor finds on machines that lack something, and what it tells them to do."""

from __future__ import annotations

import re
import socket
import sys
import tempfile
from collections import namedtuple
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from earthloom.jobs.command import main
from earthloom.jobs.upkeep import doctor
from earthloom.jobs.upkeep.doctor import Finding, _scene, diagnose
from earthloom.tiling.storage.local import LocalObjects

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_scene", lambda: Finding(True, "scene", "not asked here"))
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID",
                 "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


def found(subject: str, out: str | None = None) -> Finding:
    (finding,) = [finding for finding in diagnose(out) if finding.subject == subject]
    return finding


def test_every_check_says_what_it_found_and_leaves_nothing_behind(tmp_path: Path) -> None:
    findings = diagnose(str(tmp_path / "out"))
    subjects = ["Python", "ray", "torch", "rasterio", "zarr", "obstore", "machine", "device", "Ray", "shared memory",
                "models", "S3", "scene", "output"]  # fmt: skip
    assert [finding.subject for finding in findings] == subjects
    assert all(finding.found for finding in findings)
    assert all(finding.remedy for finding in findings if not finding.ok)
    output = findings[-1]
    assert output.ok
    assert output.found.endswith("is writable and conditional writes hold")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_old_python_and_old_or_missing_packages_are_named_with_the_version_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def version(name: str) -> str:
        if name == "zarr":
            raise PackageNotFoundError(name)
        return {"ray": "2.55.9", "torch": "2.10.0+cpu", "rasterio": "1.10.0"}.get(name, "99.0")

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(sys, "version_info", (3, 10, 12))
    old = {finding.subject: finding for finding in diagnose() if not finding.ok}
    assert "3.11" in old["Python"].remedy
    assert (old["ray"].found, old["zarr"].found) == ("2.55.9", "not installed")
    assert old["ray"].remedy.startswith("pip install 'ray>=2.56'")
    assert old["zarr"].remedy == "pip install 'zarr>=3.1'"
    assert not {"torch", "rasterio", "obstore"} & old.keys(), "1.10 is newer than 1.4, and +cpu is no version"


def test_a_tmpdir_that_is_not_there_is_passed_over_as_by_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/no/such/folder")
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert "scratch space" in found("machine").found


def test_a_full_disk_and_little_shared_memory_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(2**40, 2**40 - 2**20, 2**20))
    assert not found("machine").ok
    assert "TMPDIR" in found("machine").remedy
    assert not found("shared memory").ok
    assert found("shared memory").found.startswith("1 MiB free")
    assert "--shm-size" in found("shared memory").remedy


@pytest.mark.parametrize(
    ("address", "mode", "ok"),
    [("", "", True), ("head:6379", "", False), ("head:6379", "disabled", False), ("head:6379", "token", True),
     ("auto", "", True)],
)  # fmt: skip
def test_a_cluster_that_anybody_can_use_is_a_finding(
    address: str, mode: str, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    assert found("Ray").ok is ok
    assert address in found("Ray").found
    assert ok or "RAY_AUTH_MODE=token" in found("Ray").remedy


def test_models_that_are_not_fetched_are_no_failure_and_are_named_with_the_command_that_fetches_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path))
    models = found("models")
    assert models.ok
    names, command = models.found.removeprefix("not fetched yet, needed only if used: ").split("; ")
    assert {"landwater", "cloudmask"} <= set(names.split(", "))
    assert command == f"`earthloom models add {names.replace(', ', ' ')}` fetches them"


def test_an_endpoint_is_contacted_and_one_that_is_away_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("S3").found.startswith("AWS, credentials from the instance, if any (not contacted")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "never-shown")
        there = found("S3")
    assert there.ok
    assert there.found == f"{url}, credentials from AWS_ACCESS_KEY_ID, reachable"
    away = found("S3")
    assert not away.ok
    assert "AWS_ENDPOINT_URL" in away.remedy
    assert "never-shown" not in str(diagnose())


def test_a_store_without_conditional_writes_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def heedless(self: LocalObjects, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True

    monkeypatch.setattr(LocalObjects, "create", heedless)
    output = found("output", str(tmp_path / "out"))
    assert not output.ok
    assert "If-None-Match is ignored" in output.found


def test_the_command_prints_the_remedy_under_what_is_wrong_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [Finding(True, "Python", "3.11.7"), Finding(False, "S3", "nobody answers", "start the server")]
    monkeypatch.setattr(doctor, "diagnose", lambda _: both)
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    assert stop.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok   Python: 3.11.7", "FAIL S3: nobody answers", "       start the server",
    ]  # fmt: skip


def test_a_scene_of_our_own_goes_the_whole_way_by_the_command_itself() -> None:
    finding = _scene()
    assert finding.ok, finding
    assert finding.found.startswith("one of our own was checked, mapped and published")


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"killed its process \(SIGSEGV\)"),
        (
            "import sys; print('error: GDAL has no GTiff', file=sys.stderr); sys.exit(2)",
            "not mapped: error: GDAL has no GTiff",
        ),
        ('print(\'{"scenes": {"sound": {"error": null, "class_areas": []}}}\')', "0 % became water, which has 37.5 %"),
    ],
)
def test_an_installation_that_spoils_a_sound_scene_is_at_fault_and_no_file_is(
    code: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "earthloom").mkdir()
    (tmp_path / "earthloom" / "__init__.py").write_text("")
    (tmp_path / "earthloom" / "__main__.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    finding = _scene()
    assert not finding.ok
    assert re.search(found, finding.found), finding
    assert "this installation are at fault, not your files" in finding.remedy
