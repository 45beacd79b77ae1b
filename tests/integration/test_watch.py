"""Watching for real: an area's cube grows as scenes come, and a STAC API's items are mapped from it."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import earthloom
from earthloom.jobs.command import cli
from tests.http_range_server import serve_apart
from tests.integration.test_monitor import area_file, write
from tests.scenes import landscape, write_scene
from tests.stac_api import item, stac_api


def watch(*arguments: object) -> tuple[int, dict[str, Any], str]:
    """Exit code, result as plain data, and what was printed."""
    done = CliRunner().invoke(cli, ["watch", *map(str, arguments), "--once", "--json", "--settle", "0"])
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return done.exit_code, json.loads(lines[-1]) if lines else {}, done.output


def test_the_cube_of_an_area_grows_as_scenes_come_and_a_bad_one_stops_nothing(tmp_path: Path) -> None:
    folder, out = tmp_path, tmp_path / "out"
    write(folder / "in", "july", "2020-07-01")
    file = area_file(folder, scenes="in/")
    options = ("--out", out, "--executor", "local")
    code, seen, printed = watch(file, *options)
    assert (code, seen["published"]) == (0, ["july"]), printed
    write(folder / "in", "october", "2020-10-01", seed=3)
    (folder / "in" / "torn.tif").write_bytes((folder / "in" / "july.tif").read_bytes()[:5000])
    code, seen, printed = watch(file, *options)
    assert (code, seen["published"], [bad["id"] for bad in seen["bad"]]) == (3, ["october"], ["torn"]), printed
    (product,) = seen["monitor"]["products"]
    assert product["dates"] == ["2020-07-01", "2020-10-01"]
    code, seen, printed = watch(file, *options)
    assert (code, seen["new"], seen["known"]) == (0, 0, 3), printed
    assert earthloom.open(out, "water-index", aoi="lake").sizes["time"] == 2


def test_items_of_an_api_are_mapped_where_they_lie_and_again_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tmp_path / "files"
    write_scene(files / "a.tif", landscape(64, 64, 2, 1), ("green", "swir16"))
    write_scene(files / "b.tif", landscape(64, 64, 2, 2), ("green", "swir16"))
    with serve_apart(files) as web, stac_api([item("a", "2026-01-01T10:00:00Z", f"{web}/a.tif")]) as api:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", f"{api.host},{web.removeprefix('http://')}")
        file = tmp_path / "w.toml"
        file.write_text(
            f'scenes = "{api.search(collections="a")}"\nmodel = "water-index"\nout = "{tmp_path / "out"}"\nexecutor = "local"\n'
            'shard = 512\nblock = 512\ndevice = "cpu"\n'
        )
        code, seen, printed = watch(file)
        assert (code, seen["published"]) == (0, ["a"]), printed
        written = datetime.now(UTC).isoformat(timespec="seconds")
        api.items.append(item("gone", "2026-01-02T10:00:00Z", f"{web}/none.tif", updated=written))
        code, seen, printed = watch(file)
        assert (code, [bad["kind"] for bad in seen["bad"]]) == (3, ["SceneError"]), printed
        assert seen["bad"][0]["again"], "an asset may come after its item"
        shutil.copy(files / "b.tif", files / "a.tif")
        api.items[0]["properties"]["updated"] = written
        code, seen, printed = watch(file)
        assert (code, seen["changed"], seen["published"]) == (0, 1, ["a"]), printed
    results = list((tmp_path / "out").glob("scenes/a/*/result.json"))
    assert len(results) == 2, "another file is another result beside the first"
    linked = json.loads(next((tmp_path / "out").glob("scenes/a/*/item.json")).read_text())["links"]
    assert f"{api.url}/collections/a/items/a" in [link["href"] for link in linked if link["rel"] == "derived_from"]
