"""`earthloom evaluate` from scenes and labels to its reports, against scikit-learn on the published pixels."""

from __future__ import annotations

import hashlib
import html.parser
import json
import shutil
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from numpy.typing import NDArray
from shapely import box
from sklearn.metrics import classification_report

import earthloom
from earthloom.jobs.command import cli
from earthloom.jobs.learning.evaluate import Evaluation
from earthloom.models.zoo import variants
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from earthloom.tiling.vectors import pyogrio
from tests.maps import OPTIONS, lake
from tests.scenes import write_scene

pyogrio()  # before geopandas does, in whose process rasterio's list of drivers holds

CLASSES = "0=dry,1=water"


def labels_of(scene: Path, seed: int = 0) -> NDArray[np.uint8]:
    """What water-index says but for some stripes and patches, 9 where nobody knows."""
    with rasterio.open(scene) as source:
        green, swir = source.read().astype(np.float32)
    labels: NDArray[np.uint8] = (green > swir).astype(np.uint8)
    labels[100:180, 200:420] = 1
    labels[:, 30:37] = 0
    labels[-40:] = 9
    return labels


def write_labels(scene: Path) -> Path:
    with rasterio.open(scene) as source:
        return write_scene(
            scene.with_name(f"{scene.stem}_labels.tif"), labels_of(scene)[None], transform=source.transform
        )


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("evaluate")
    made = [lake(folder, "lake"), lake(folder, "pond", width=600, height=600, seed=1)]
    for scene in made:
        write_labels(scene)
    return made


@pytest.fixture(scope="module")
def done(scenes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return evaluate(scenes, tmp_path_factory.mktemp("out"))


def evaluate(scenes: Any, out: Any, **options: Any) -> Evaluation:
    words = {"label_classes": {0: "dry", 1: "water"}, "match": "land=dry", "label_ignore": ("9",), "bootstrap": 200,
             "labels": str(Path(scenes[0]).parent / "{id}_labels.tif")}  # fmt: skip
    return earthloom.evaluate(scenes, out=out, **(OPTIONS | words | options))


def published(done: Evaluation, scene: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    prefix = Path(done.run.out) / done.run.results[scene.stem].prefix
    with (
        rasterio.open(prefix / "water-index.tif") as classes,
        rasterio.open(prefix / "water-index-confidence.tif") as confidence,
    ):
        return classes.read(1), confidence.read(1)


def test_the_report_is_that_of_scikit_learn_on_the_published_pixels(scenes: list[Path], done: Evaluation) -> None:
    labels = np.concatenate([labels_of(scene).ravel() for scene in scenes])
    mapped = np.concatenate([published(done, scene)[0].ravel() for scene in scenes])
    known = labels != 9
    expected = classification_report(labels[known], mapped[known], target_names=["dry", "water"])
    assert done.text.startswith(expected)
    assert done.exit_code == 0
    assert done.report["scenes"].keys() == {"lake", "pond"}
    assert done.report["pixels"] == {
        "scored": int(known.sum()), "unlabelled": int((~known).sum()), "unmapped": 0, "left_out": 0,
    }  # fmt: skip
    confidence = np.concatenate([published(done, scene)[1].ravel() for scene in scenes])[known] / 250
    right = (labels == mapped)[known]
    gaps = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low + 1e-9) & (confidence <= low + 1 / 15 + 1e-9)
        gaps += abs(right[inside].sum() - confidence[inside].sum()) / known.sum()
    assert done.report["calibration"]["ece"] == pytest.approx(gaps)
    low, high = done.report["intervals"]["accuracy"]
    assert low < done.report["accuracy"] < high


def test_areas_are_those_of_the_labels_where_all_pixels_have_one(scenes: list[Path], tmp_path: Path) -> None:
    """A census: the stratified estimator then gives the area of the labels (each pixel has 100 m², but for 0.1 %)."""
    done = evaluate(scenes[1:], tmp_path, label_classes={0: "dry", 1: "water", 9: "water"}, label_ignore=())
    labels = labels_of(scenes[1])
    areas = done.report["areas"]
    assert areas["census"]
    water, half = areas["classes"]["water"]["area_m2"]
    assert half is None
    assert water / sum(row["area_m2"][0] for row in areas["classes"].values()) == pytest.approx((labels != 0).mean())
    assert "no sampling error" in done.text


def test_a_scene_of_which_nothing_is_scored_is_named(scenes: list[Path], done: Evaluation, tmp_path: Path) -> None:
    assert not [note for note in done.report["notes"] if "is scored" in note]
    for scene in scenes:
        labels = labels_of(scene) if scene.stem == "lake" else np.full_like(labels_of(scene), 9)
        with rasterio.open(scene) as source:
            write_scene(tmp_path / f"{scene.stem}_labels.tif", labels[None], transform=source.transform)
    judged = evaluate(scenes, done.run.out, labels=str(tmp_path / "{id}_labels.tif"))
    (note,) = [note for note in judged.report["notes"] if "is scored" in note]
    assert note.startswith("no pixel of pond is scored")
    assert note in judged.text


def test_notes_name_classes_without_a_label_and_regions_that_hide_others(
    scenes: list[Path], done: Evaluation, tmp_path: Path
) -> None:
    assert not [note for note in done.report["notes"] if "no scored label" in note]
    with rasterio.open(scenes[1]) as source:
        (west, south, east, north), crs = source.bounds, source.crs
    half = (west + east) / 2
    places = [(west, south, east, north), (west, south, half, north), (half, south, east, north), (0, 0, 1, 1)]
    names = {"name": ["all", "left", "right", ""]}
    geopandas.GeoDataFrame(names, geometry=[box(*place) for place in places], crs=crs).to_file(tmp_path / "r.gpkg")
    words = {"regions": tmp_path / "r.gpkg", "region_column": "name"}
    dry = {"label_classes": {0: "dry", 1: "dry", 7: "water"}}
    judged = evaluate(scenes[1:], done.run.out, **words, **dry)
    assert judged.report["regions"].keys() == {"all", "left", "right"}, "what has no name is no region"
    absent, *overlaps = [note for note in judged.report["notes"] if "no scored label" in note or "regions" in note]
    assert absent.startswith("no scored label is water: precision, recall and F1 are 0 there")
    assert [note.partition(",")[0] for note in overlaps] == [
        f"the regions all and {part} overlap" for part in ("left", "right")
    ]
    assert not judged.report["regions"]["all"]["pixels"]


def test_an_empty_text_in_the_class_column_is_no_class_until_it_is_ignored(
    scenes: list[Path], done: Evaluation, tmp_path: Path
) -> None:
    """It ended with an error of pydantic."""
    with rasterio.open(scenes[1]) as source:
        place, crs = box(*source.bounds), source.crs
    shapes = [place, place.buffer(-2000)]
    geopandas.GeoDataFrame({"kind": ["water", ""]}, geometry=shapes, crs=crs).to_file(tmp_path / "a.gpkg")
    words = {"labels": tmp_path / "a.gpkg", "class_column": "kind", "label_classes": (), "match": "land=-"}
    with pytest.raises(ConfigError, match=r"the column kind .* empty text, .* unknown: `label_ignore=''`"):
        evaluate(scenes[1:], done.run.out, **words, label_ignore=())
    judged = evaluate(scenes[1:], done.run.out, **words, label_ignore="")
    assert judged.report["pixels"]["unlabelled"] > 0


def test_what_is_published_is_not_computed_again_and_the_bytes_are_the_same(scenes: list[Path], tmp_path: Path) -> None:
    first = evaluate(scenes, tmp_path)
    before = {path: Path(path).read_bytes() for path in first.files}
    again = evaluate(scenes, tmp_path, block=1024, batch=1)
    assert {state.status for state in again.run.scenes.values()} == {"already published"}
    assert {path: Path(path).read_bytes() for path in again.files} == before


def test_the_reports_lie_below_out_and_agree(done: Evaluation) -> None:
    names = [Path(path).name for path in done.files]
    assert names == ["report.html", "report.txt", "report.json", "pond-errors.tif", "lake-errors.tif"]
    by_name = {Path(path).name: Path(path) for path in done.files}
    assert json.loads(by_name["report.json"].read_text()) == json.loads(json.dumps(done.report))
    assert by_name["report.txt"].read_text() == done.text
    page = by_name["report.html"].read_text()
    seen: list[str] = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append(tag)
            for name, value in attrs:
                assert name not in ("src", "href") or (value or "").startswith("data:image/png;base64,")

    Reader().feed(page)
    assert seen.count("img") == 2 + len(done.report["worst"])
    assert "script" not in seen
    with rasterio.open(by_name["lake-errors.tif"]) as cog:
        errors = cog.read(1)
    confusion = np.array(done.report["scenes"]["lake"]["confusion"])
    assert (errors == 0).sum() == np.trace(confusion)
    assert ((errors != 0) & (errors != 255)).sum() == confusion.sum() - np.trace(confusion)


def test_worst_places_are_where_the_labels_were_changed(done: Evaluation) -> None:
    first = done.report["worst"][0]
    assert (first["scene"], first["wrong_px"] > 0) == ("lake", True)
    assert 100 - 32 < first["row_off"] < 180
    assert 200 - 32 < first["col_off"] < 420


def test_the_command_prints_the_report_and_where_it_lies(scenes: list[Path], tmp_path: Path) -> None:
    arguments = [
        "evaluate", "water-index", "--scenes", str(scenes[1]), "--labels", str(scenes[1].with_name("pond_labels.tif")),
        "--label-classes", CLASSES, "--match", "land=dry", "--label-ignore", "9", "--scale", "1e-4", "--quantity",
        "reflectance", "--executor", "local", "--shard", "512", "--block", "512", "--out", str(tmp_path),
    ]  # fmt: skip
    shown = CliRunner().invoke(cli, arguments)
    assert shown.exit_code == 0, shown.output
    assert "weighted avg" in shown.stdout
    assert shown.stdout.rstrip().endswith("pond-errors.tif")
    told = CliRunner().invoke(cli, [*arguments, "--json"])
    assert json.loads(told.stdout)["accuracy"] == pytest.approx(json.loads(Path(
        next(line for line in shown.stdout.splitlines() if line.endswith("report.json"))).read_text())["accuracy"])  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            {"match": ()},
            r"no class of the labels is called land. The model has land, water; the labels have dry, water",
        ),
        ({"label_classes": ()}, r"say what the values of the labels mean: `label_classes=0=land,1=water`"),
        ({"labels": ("a.tif", "b.tif", "c.tif")}, r"3 files of labels for 2 scenes \(lake, pond\)"),
        ({"regions": "x.gpkg"}, r"`region_column`"),
        ({"match": (("land", "dry"), ("land", "-"))}, r"`match` has land twice"),
        ({"model": "denoise"}, r"what is evaluated is a map of classes"),
    ],
)
def test_what_does_not_belong_together_is_refused_before_anything_is_mapped(
    scenes: list[Path], tmp_path: Path, words: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate(scenes, tmp_path, **words)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the card folder of `buildings`, and a small aerial scene with labels."""
    (_, folder), *_ = variants("buildings")
    copied = Path(shutil.copytree(folder.path, tmp_path / "card"))
    pixels = np.random.default_rng(0).integers(1, 255, (3, 300, 300)).astype(np.uint8)
    scene = write_scene(tmp_path / "aerial.tif", pixels, transform=Affine(0.3, 0, 500000, 0, -0.3, 5200000))
    write_scene(tmp_path / "aerial_labels.tif", pixels[:1] // 128, transform=Affine(0.3, 0, 500000, 0, -0.3, 5200000))
    return copied, scene


@pytest.mark.long
def test_it_is_said_of_which_scenes_a_model_was_trained_on(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, scene = trained
    options: dict[str, Any] = {
        "labels": str(tmp_path / "aerial_labels.tif"), "label_classes": {0: "no_building", 1: "building"},
        "bands": "red=1,green=2,blue=3", "scale": 1 / 255, "quantity": "unit", "executor": "local", "precision": "fp32",
    }  # fmt: skip
    unknown = earthloom.evaluate(scene, model=str(folder), out=tmp_path / "out", **options)
    assert "there is no record of how buildings was trained" in unknown.report["notes"][0]
    identity = f"sha256:{hashlib.sha256(scene.read_bytes()).hexdigest()}"
    known = {
        "id": "other-name",
        "files": [{"identity": identity}],
        "pixels": {"train": 70, "validation": 0, "test": 20},
    }
    (folder / "record.json").write_text(json.dumps({"format": 1, "data": {"scenes": [known]}}))
    done = earthloom.evaluate(scene, model=str(folder), out=tmp_path / "out", **options)
    assert done.report["notes"] == [
        "buildings knows aerial from its training: 70 px in the train part, 20 px in the test part"
    ]
    assert f"note: {done.report['notes'][0]}" in done.text
    (folder / "record.json").write_text(json.dumps({"format": 1, "data": {"scenes": [{"files": [], "pixels": {}}]}}))
    assert earthloom.evaluate(scene, model=str(folder), out=tmp_path / "out", **options).report["notes"] == []


@pytest.mark.long
@pytest.mark.s3
@pytest.mark.usefixtures("s3_env")
def test_scenes_labels_and_reports_may_lie_in_object_storage(
    scenes: list[Path], done: Evaluation, tmp_path: Path
) -> None:
    bucket = open_store(ObjectRef.parse("s3://scenes/evaluate"))
    boxes = [box(300000, 4494000, 302000, 4500000), box(302000, 4494000, 306000, 4500000)]
    geopandas.GeoDataFrame({"part": ["west", "rest"]}, geometry=boxes, crs="EPSG:32617").to_parquet(
        tmp_path / "p.parquet"
    )
    for path in (scenes[1], scenes[1].with_name("pond_labels.tif"), tmp_path / "p.parquet"):
        bucket.put(path.name, path.read_bytes())
    words = {
        "labels": "s3://scenes/evaluate/pond_labels.tif", "regions": "s3://scenes/evaluate/p.parquet",
        "region_column": "part",
    }  # fmt: skip
    there = evaluate("s3://scenes/evaluate/pond.tif", "s3://outputs/evaluate", **words)
    assert there.report["confusion"] == done.report["scenes"]["pond"]["confusion"]
    assert {name: part["pixels"] for name, part in there.report["regions"].items()} == {
        "west": 200 * 560, "rest": 400 * 560,
    }  # fmt: skip
    kept = open_store(ObjectRef.parse("s3://outputs/evaluate")).list("evaluations")
    assert {head.key.rpartition("/")[2] for head in kept} == {
        "report.html", "report.json", "report.txt", "pond-errors.tif",
    }  # fmt: skip
