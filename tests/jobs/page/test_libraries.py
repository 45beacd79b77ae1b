"""Libraries come from npm, are held against their digests, and are kept."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from earthloom.jobs.page import libraries
from earthloom.jobs.page.libraries import LIBRARIES, Library, add, kept
from earthloom.jobs.page.site import file_of_page
from earthloom.tiling.errors import ConfigError, StorageError

CONTENT = b"var small = 1;"
SMALL = Library("small", "1.2.3", "dist/small.js", base64.b64encode(hashlib.sha384(CONTENT).digest()).decode())


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for npm that packs `small`; its folder has the package as `sent.tgz`."""
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(libraries, "LIBRARIES", (SMALL,))
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {program.parent}/asked\ncp {program.parent}/sent.tgz small-1.2.3.tgz\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    send(program.parent, CONTENT)
    return program.parent


def send(folder: Path, content: bytes, member: str = "package/dist/small.js") -> None:
    with tarfile.open(folder / "sent.tgz", "w:gz") as archive:
        entry = tarfile.TarInfo(member)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def test_a_library_is_fetched_once_in_its_version_without_running_its_scripts(npm: Path) -> None:
    assert kept(SMALL) is None
    add()
    add()
    assert kept(SMALL) == CONTENT
    (asked,) = (npm / "asked").read_text().splitlines()
    assert asked.endswith(" small@1.2.3")
    assert "--ignore-scripts" in asked


@pytest.mark.parametrize("member", ["package/dist/small.js", "package/other.js"])
def test_what_is_not_what_was_pinned_is_not_kept(npm: Path, member: str) -> None:
    send(npm, b"var small = 2;", member)
    with pytest.raises(StorageError, match=r"small@1\.2\.3"):
        add()
    assert kept(SMALL) is None


def test_a_file_that_was_changed_in_the_cache_is_not_used(npm: Path, tmp_path: Path) -> None:
    add()
    (tmp_path / "cache" / "page" / SMALL.file).write_bytes(b"evil()")
    assert kept(SMALL) is None


def test_without_npm_the_error_says_so(npm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ConfigError, match="npm is not installed"):
        add()


def test_the_page_pins_the_same_bytes_at_the_cdn_and_allows_no_other_host() -> None:
    page = (file_of_page("index.html") or b"").decode()
    for library in LIBRARIES:
        assert library.integrity in page
        assert library.url in page
    policy = page.partition("Content-Security-Policy")[2].partition(">")[0]
    assert "script-src 'self' https://cdn.jsdelivr.net/npm/;" in policy
    assert policy.count("https://") == 1
    assert "unsafe" not in policy
    assert "{{" not in page
