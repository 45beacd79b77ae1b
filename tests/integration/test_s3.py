"""Input and output in object storage, with nothing set but the standard AWS_* names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rio_cogeo.cogeo import cog_validate

from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.maps import WORDS, command, go, result_files
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.s3


@pytest.fixture
def scene(s3_env: None, tmp_path: Path) -> Path:
    path = write_scene(tmp_path / "lake.tif", landscape(1100, 600, 2), ("green", "swir16"))
    open_store(ObjectRef.parse("s3://scenes/2026")).put("lake.tif", path.read_bytes())
    return path


def test_a_run_from_bucket_to_bucket_gives_the_same_pixels_as_on_disk(scene: Path, tmp_path: Path) -> None:
    remote = go("s3://scenes/2026/", out="s3://outputs/maps")
    local = go(str(scene), out=str(tmp_path / "out"))
    assert remote.exit_code == local.exit_code == 0
    there, here = result_files(remote, "lake"), result_files(local, "lake")
    shards = {name for name in here if name.startswith("data.zarr/0/classes/c/")}
    assert shards
    assert {name: there[name] for name in shards} == {name: here[name] for name in shards}
    cog = f"/vsis3/outputs/maps/{remote.results['lake'].prefix}/water-index.tif"
    assert cog_validate(cog, quiet=True)[0]
    catalog = json.loads(open_store(ObjectRef.parse("s3://outputs/maps")).get("catalog.json"))
    assert [link["rel"] for link in catalog["links"]] == ["root", "child"]
    again = go("s3://scenes/2026/lake.tif", out="s3://outputs/maps")
    assert again.scenes["lake"].status == "already published"


def test_the_command_line_works_with_the_standard_names_alone(scene: Path) -> None:
    options = ("--out", "s3://outputs/cli", "--executor", "local", "--json")
    done = command("run", "s3://scenes/2026/lake.tif", *WORDS, *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["scenes"]["lake"]
    assert found["files"]["water-index.tif"].startswith("s3://outputs/cli/scenes/lake/")
    seen = command("status", "s3://outputs/cli", "--json")
    assert json.loads(seen.stdout)["runs"][0]["state"] == "committed"


def test_the_doctor_finds_that_conditional_writes_hold(scene: Path) -> None:
    done = command("doctor", "--out", "s3://outputs/maps")
    assert "conditional writes hold" in done.stdout
