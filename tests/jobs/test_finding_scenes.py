"""From what a user names to scenes with ids of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.references import SceneRequest
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, assign_ids, expand, open_all
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.scene import SCENE_ID
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.http_range_server import serve
from tests.jobs.sources import make, names, opened, stac_item

pytestmark = pytest.mark.usefixtures("own_cache")


def ids(requests: list[SceneRequest]) -> list[str]:
    return [request.id for request in requests]


def test_a_file_is_one_scene_named_by_its_stem(tmp_path: Path) -> None:
    (request,) = expand([str(make(tmp_path / "port one.v2.tif"))])
    assert request.id == "port-one.v2"
    assert [part.ref.path for part in request.parts] == [tmp_path / "port one.v2.tif"]


def test_names_in_other_alphabets_or_too_long_are_told_apart(tmp_path: Path) -> None:
    names = ("\u6e56.tif", "\u6cb3.tif", "K\u00f6ln.tif", "K\u00fcln.tif", f"{'x' * 130}a.tif", f"{'x' * 130}b.tif")
    found = [ids(expand([str(make(tmp_path / name))]))[0] for name in names]
    assert len(set(found)) == len(names)
    assert all(SCENE_ID.match(name) for name in found)
    assert found[2].startswith("K-ln-")
    assert "this is \u6e56;" in expand([str(tmp_path / names[0])])[0].notes[0]
    decomposed = make(tmp_path / "mac" / "Ko\u0308ln.tif")  # the same name as macOS writes it
    assert ids(expand([str(decomposed)])) == [found[2]]


def test_a_relative_path_with_dots_is_the_users_own_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "a.tif")
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert [request.parts[0].ref.path for request in expand(["../a.tif"])] == [tmp_path / "a.tif"]
    assert ids(expand([".."])) == ["a"]


def test_folders_and_globs_take_tiffs_in_order(tmp_path: Path) -> None:
    for name in ("b.tif", "a.TIFF", "notes.txt", "sub/c.tif", "sub/deep/d.tif", "a[1].tif"):
        make(tmp_path / name)
    folder = str(tmp_path)
    assert ids(expand([folder])) == ids(expand([folder + "/"])) == ["a", "a-1", "b", "c", "d"]
    assert ids(expand([f"{folder}/*"])) == ["a", "a-1", "b"]
    assert ids(expand([f"{folder}/?.tif"])) == ["b"]
    assert ids(expand([f"{folder}/**/[cd].tif"])) == ["c", "d"]
    assert ids(expand([f"{folder}/a[1].tif"])) == ["a-1"]  # that file exists, so the brackets mean themselves


def test_a_scene_that_is_found_twice_is_taken_once(tmp_path: Path) -> None:
    path = make(tmp_path / "a.tif")
    assert ids(expand([str(path), str(tmp_path), f"{tmp_path}/*.tif"])) == ["a"]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("{}/nothing/", r"nothing/ holds no file that ends in \.tif or \.tiff"),
        ("{}/*.tif", r"\*\.tif matches no file"),
        ("{}/*", r"/\* matches 1 file, none of them \*\.tif"),
        ("{}/**.tif", "is not a glob|matches 0"),
        ("{}/none.json", "none.json does not exist"),
        ("blue={}/a.tif,green=", "each part must name one file"),
        ("blue={}/*.tif,green={}/b.tif", "each part must name one file"),
        ("https://example.com/scenes/", "a web server cannot be listed"),
        ("https://example.com/a.tif?X-Amz-Signature=abc", "carries a query"),
        ("blue=https://example.com/a.tif?X-Amz-Signature=abc", "carries a query"),
        ("/vsicurl/https://example.com/a.tif", "not a file path or URL"),
        ("GTIFF_DIR:1:a.tif", "GDAL connection string"),
        ("", "is empty"),
    ],
)
def test_a_reference_that_names_nothing_says_what_was_looked_for(tmp_path: Path, reference: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match=message) as caught:
        expand([reference.replace("{}", str(tmp_path))])
    assert "X-Amz-Signature" not in str(caught.value)


def test_several_files_are_bands_of_one_scene(tmp_path: Path) -> None:
    for name in ("S2_x_B02.tif", "S2_x_B03.tif"):
        make(tmp_path / name)
    listed = opened(f"{tmp_path}/S2_x_B02.tif,{tmp_path}/S2_x_B03.tif", sensor="sentinel2-l2a")
    assert (listed.scene.id, names(listed)) == ("S2_x", ["blue", "green"])
    named = opened(f"nir={tmp_path}/S2_x_B02.tif, red={tmp_path}/S2_x_B03.tif", scale=1e-4)
    assert (named.scene.id, names(named)) == ("S2_x", ["nir", "red"])
    assert [(band.asset, band.index) for band in named.scene.bands] == [(0, 1), (1, 1)]


def test_a_folder_with_an_equals_sign_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "year=2024" / "a.tif")
    monkeypatch.chdir(tmp_path)
    for reference in ("year=2024/a.tif", "year=2024/*.tif", "year=2024/"):
        (request,) = expand([reference])
        assert (request.id, request.parts[0].name) == ("a", "")


@pytest.mark.s3
@pytest.mark.usefixtures("s3_env")
def test_prefixes_and_globs_on_s3(tmp_path: Path) -> None:
    root = ObjectRef.parse("s3://scenes/sources")
    data = make(tmp_path / "a.tif").read_bytes()
    for key in ("x/a.tif", "x/b.TIFF", "x/notes.txt", "x/deep/c.tif", "xy/d.tif"):
        open_store(root).put(key, data)
    assert ids(expand(["s3://scenes/sources/x/"])) == ["a", "b", "c"]
    assert ids(expand(["s3://scenes/sources/*/?.tif"])) == ["a", "d"]
    assert ids(expand(["s3://scenes/sources/**/[!ab].tif"])) == ["c", "d"]
    assert ids(expand(["s3://scenes/sources/x/a.tif"])) == ["a"]
    with pytest.raises(ConfigError, match="s3://scenes/sources/z/ holds no file"):
        expand(["s3://scenes/sources/z/"])
    scene = opened("s3://scenes/sources/x/a.tif").scene
    assert scene.assets[0].identity.startswith("etag:")
    assert scene.grid == opened(tmp_path / "a.tif").scene.grid


def test_a_web_scene_without_a_strong_etag_is_still_called_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "lake.tif")
    with serve(tmp_path, etag="weak") as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        assert opened(server.url("lake.tif")).scene.id == "lake"


def test_different_files_of_one_name_get_ids_of_their_own(tmp_path: Path) -> None:
    paths = [str(make(tmp_path / folder / "a.tif")) for folder in ("x", "y")]
    first, second = assign_ids(expand(paths))
    assert first.id != second.id
    assert all(request.id.startswith("a-") and len(request.id) == 10 for request in (first, second))
    assert "several scenes are called a; this one is" in first.notes[0]
    assert ids(assign_ids(expand(paths[:1]))) == ["a"]
    assert ids(assign_ids(expand(paths[::-1]))) == [second.id, first.id]  # the order of arguments does not matter


def test_one_explicit_id_for_two_scenes_is_refused(tmp_path: Path) -> None:
    paths = [str(make(tmp_path / name)) for name in ("a.tif", "b.tif")]
    with pytest.raises(ConfigError, match="colliding scene ids: `scene_id=lake` names one scene, but 2 were found"):
        assign_ids(expand(paths), "lake")
    with pytest.raises(ConfigError, match="cannot be a folder name"):
        assign_ids(expand(paths[:1]), "../lake")
    assert ids(assign_ids(expand(paths[:1]), "lake")) == ["lake"]


def test_two_stac_items_of_one_id_are_refused_and_the_other_scene_stays(tmp_path: Path) -> None:
    for name in ("x", "y", "z"):
        make(tmp_path / name / "B02.tif")
        stac_item(tmp_path / name / "i.json", "other" if name == "z" else "same", blue=["B02.tif", "blue"])
    requests = assign_ids(expand([str(tmp_path / name / "i.json") for name in ("x", "y", "z")]))
    first, second, third = open_all(requests, SceneOptions())
    for refused in (first, second):
        assert isinstance(refused, RefusedScene)
        assert "colliding scene ids: 2 STAC items of this run are called same" in refused.message
    assert isinstance(third, OpenedScene)


def test_a_bad_scene_does_not_stop_the_others(tmp_path: Path) -> None:
    make(tmp_path / "good.tif")
    (tmp_path / "bad.tif").write_bytes(b"nothing")
    make(tmp_path / "nowhere.tif", crs=None)
    requests = assign_ids(expand([str(tmp_path), str(tmp_path / "gone.tif")]))
    results = {result.id if isinstance(result, RefusedScene) else result.scene.id: result
               for result in open_all(requests, SceneOptions())}  # fmt: skip
    assert isinstance(results["good"], OpenedScene)
    refused = {name: result for name, result in results.items() if isinstance(result, RefusedScene)}
    assert {name: result.kind for name, result in refused.items()} == dict.fromkeys(
        ("bad", "nowhere", "gone"), "SceneError"
    )
    assert all(result.message.startswith(f"{name}: ") for name, result in refused.items())
    assert "is not a GeoTIFF" in refused["bad"].message
    assert "has no CRS" in refused["nowhere"].message
    assert "does not exist" in refused["gone"].message


def test_an_item_whose_id_leaves_its_folder_gets_a_safe_one_and_keeps_its_own(tmp_path: Path) -> None:
    make(tmp_path / "a.tif")
    stac_item(tmp_path / "i.json", "../../x", a=["a.tif", "red"])
    (result,) = open_all(expand([str(tmp_path / "i.json")]), SceneOptions())
    assert isinstance(result, OpenedScene)
    assert (result.scene.id, result.scene.source_id) == ("x-9cdf6a50", "../../x")
