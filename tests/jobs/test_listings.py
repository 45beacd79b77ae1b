"""What a folder or prefix holds beside scenes, and keys that only some libraries can say."""

from __future__ import annotations

import os
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.jobs.config import RunConfig, check, load
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.references import SceneRequest
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, expand, open_all
from earthloom.jobs.planning.plan import plan
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.opening import open_asset
from earthloom.tiling.storage import s3_listing
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from infra.s3_server import Server
from tests.odd_bucket import odd_bucket
from tests.scenes import landscape, write_scene

KEY = "0123456789abcdef" * 4
APPLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(100)
REFLECTANCE = SceneOptions(scale=0.0001, quantity="boa_reflectance")


def make(path: Path) -> Path:
    return write_scene(path, landscape(64, 48, 2), ("green", "swir16"), nodata=0)


def ids(requests: list[SceneRequest]) -> list[str]:
    return [request.id for request in requests]


def test_hidden_files_are_no_scenes_unless_they_are_asked_for(tmp_path: Path) -> None:
    make(tmp_path / "a.tif")
    make(tmp_path / ".trash" / "old.tif")
    (tmp_path / "._a.tif").write_bytes(APPLE)
    for reference in (str(tmp_path), f"{tmp_path}/*.tif", f"{tmp_path}/**/*.tif"):
        assert ids(expand([reference])) == ["a"], reference
    assert ids(expand([f"{tmp_path}/.trash/*.tif"])) == ["old"]
    assert ids(expand([f"{tmp_path}/._a.tif"])) == ["a"], "named by itself, it is opened and refused for what it is"


def test_results_below_an_out_in_the_folder_of_scenes_are_no_scenes(tmp_path: Path) -> None:
    make(tmp_path / "scenes" / "20260101" / "a.tif")  # a folder of the user's that is called so
    for name in ("landwater.tif", "landwater-confidence.tif"):
        make(tmp_path / "maps" / "scenes" / "a" / KEY / name)
    (request,) = expand([str(tmp_path)])
    assert request.id == "a"
    assert "2 TIFFs below" in request.notes[0]
    assert "results of earlier runs" in request.notes[0]
    assert ids(expand([f"{tmp_path}/maps/scenes/*/*/landwater.tif"])) == ["landwater"], (
        "named as results, they are meant"
    )
    with pytest.raises(ConfigError, match="of its 2 TIFFs 2 are results of earlier runs"):
        expand([f"{tmp_path}/maps/"])


def test_a_run_into_the_folder_of_its_scenes_finds_the_same_scenes_again(tmp_path: Path) -> None:
    make(tmp_path / "a.tif")
    config = load({"scenes": (str(tmp_path),), "model": ("water-index",), "out": str(tmp_path), "scale": 0.0001,
                   "quantity": "boa_reflectance", "executor": "local"})  # fmt: skip
    import earthloom

    first = earthloom.run(str(tmp_path), model="water-index", out=str(tmp_path), scale=0.0001, quantity="boa_reflectance",
                          executor="local")  # fmt: skip
    assert list(first.results) == ["a"]
    again = plan(config)
    assert [scene.scene.id for scene in again.scenes] == ["a"]
    assert not again.refused


@pytest.mark.skipif(os.name != "posix", reason="names are bytes")
def test_a_name_that_is_not_utf8_is_refused_by_name_and_the_others_go_on(tmp_path: Path) -> None:
    good = make(tmp_path / "a.tif")
    odd = os.fsencode(tmp_path) + b"/gr\xfcn.tif"
    Path(os.fsdecode(odd)).write_bytes(good.read_bytes())
    scenes = open_all(expand([str(tmp_path)]), REFLECTANCE)
    assert [type(scene) for scene in scenes] == [OpenedScene, RefusedScene]
    refused = scenes[1]
    assert isinstance(refused, RefusedScene)
    assert refused.message.encode()
    assert r"gr\xfcn.tif" in refused.message
    assert "not UTF-8" in refused.message
    assert "rename it" in refused.message
    with pytest.raises(ConfigError, match="not UTF-8"):
        expand([os.fsdecode(odd)])


@pytest.mark.parametrize(
    ("content", "result"),
    [
        (b"<!DOCTYPE html><html>Sign in", r"is not JSON: it is a web page \(HTML\)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is not JSON: it is a Git LFS pointer.*git lfs pull"),
        (b'{"type": "Feature"', "is not JSON: Expecting"),
    ],
)
def test_a_stac_file_that_is_none_is_called_what_it_is(content: bytes, result: str, tmp_path: Path) -> None:
    (tmp_path / "item.json").write_bytes(content)
    with pytest.raises(ConfigError, match=result):
        expand([str(tmp_path / "item.json")])


def test_an_out_that_is_a_file_is_refused_when_planned(tmp_path: Path) -> None:
    scene = make(tmp_path / "a.tif")
    (tmp_path / "maps").write_text("")
    for out in (tmp_path / "maps", tmp_path / "maps" / "below"):
        with pytest.raises(ConfigError, match=r"`out=.*maps is a file, not a folder"):
            plan(check(RunConfig, {"scenes": str(scene), "model": "water-index", "out": str(out)}))


def test_one_scene_in_a_config_file_needs_no_list(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('scenes = "x.tif"\nmodel = "landwater"\nout = "maps"\n')
    assert load({}, file).scenes == ("x.tif",)


def test_a_key_with_an_empty_part_is_refused_by_name_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(tmp_path / "a.tif").read_bytes()
    with odd_bucket({"p/good.tif": data, "p/odd//scene.tif": data, "q/other.tif": data}) as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        good, odd = expand(["s3://bucket/p/"])
    assert (good.id, good.problem) == ("good", "")
    assert "//" in odd.problem
    assert "copy the object to a key without it" in odd.problem
    assert "credentials" not in odd.problem


NAMES = ["a#b.tif", "a,b.tif", "a[1].tif", "a b.tif", "a%20b.tif", "a+b=c.tif", "ü~'.tif", "(x)&y;z.tif"]


@pytest.mark.s3
@pytest.mark.usefixtures("s3_env")
def test_keys_of_any_letters_are_found_and_read(tmp_path: Path) -> None:
    pixels = landscape(64, 48, 2)
    data = make(tmp_path / "a.tif").read_bytes()
    store = open_store(ObjectRef.parse("s3://scenes/letters"))
    for name in NAMES:
        store.put(name, data)
    found = expand(["s3://scenes/letters/"])
    assert {request.parts[0].ref.key for request in found} == {f"letters/{name}" for name in NAMES}
    for name in NAMES:
        (request,) = expand([f"s3://scenes/letters/{name}"])
        with open_asset(pin(request.parts[0].ref)) as dataset:
            assert np.array_equal(dataset.read(), pixels), name


@pytest.mark.s3
@pytest.mark.usefixtures("s3_env")
@settings(deadline=None, max_examples=15)
@given(name=st.text(string.ascii_letters + string.digits + "#,[]()+=~%&'! äß", min_size=1, max_size=20))
def test_any_key_is_written_listed_and_read_alike(name: str, s3: Server) -> None:
    store = open_store(ObjectRef.parse("s3://scenes/any"))
    key = f"x{name}y.bin"
    store.put(key, name.encode())
    assert store.get(key) == name.encode()
    assert key in {head.key for head in store.list()}
    assert f"any/{key}" in {head.key for head in s3_listing.list_keys("scenes", "any/")}
    store.delete(key)


@pytest.mark.s3
@pytest.mark.usefixtures("s3_env")
def test_our_own_listing_agrees_with_obstores_and_goes_on_after_a_key() -> None:
    store = open_store(ObjectRef.parse("s3://scenes/listed"))
    for number in range(5):
        store.put(f"deep/{number}.bin", bytes(number))
    theirs = {f"listed/{head.key}": (head.size, (head.etag or "").strip('"')) for head in store.list()}
    ours = {head.key: (head.size, (head.etag or "").strip('"')) for head in s3_listing.list_keys("scenes", "listed/")}
    assert ours == theirs
    assert len(ours) == 5
    assert [head.key for head in s3_listing.list_keys("scenes", "listed/", "listed/deep/2.bin")] == [
        "listed/deep/3.bin", "listed/deep/4.bin",
    ]  # fmt: skip
