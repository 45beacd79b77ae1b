"""`earthloom evaluate` of a detector: published objects against marked ones, with hotcoco as the oracle."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from shapely import box

import earthloom
from earthloom.jobs.learning.coco import export_coco
from earthloom.jobs.learning.evaluate import Evaluation
from earthloom.jobs.learning.object_report import size_ranges
from earthloom.jobs.learning.worst_objects import MISSED, RIGHT, WRONG
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.vectors import pyogrio
from tests.integration.recognised import model_of
from tests.maps import SMALL
from tests.scenes import landscape, write_scene

pyogrio()  # before geopandas does, in whose process rasterio's list of drivers holds


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A card that finds many things, a scene, and marked boxes: most of what it finds, moved a little, and some more."""
    folder = tmp_path_factory.mktemp("evaluate")
    pixels = landscape(400, 300, 2)
    pixels[:, :40, :60] = 0
    scene = write_scene(folder / "bay.tif", pixels, ("green", "swir16"), nodata=0)
    with model_of("finder", folder / "finder") as model:
        result = earthloom.run(scene, model=model, out=folder / "out", **SMALL)
        table = geopandas.read_parquet(folder / "out" / result.results["bay"].prefix / "finder.parquet")
        rng = np.random.default_rng(0)
        boxes = table[["left_px", "top_px", "width_px", "height_px"]].to_numpy()[::2]
        boxes = boxes + rng.normal(0, 0.06, boxes.shape) * boxes[:, [2, 3, 2, 3]]
        marked = [
            (["class_0", "class_1"].index(kind), box)
            for kind, box in zip(table["class"][::2], boxes.tolist(), strict=True)
        ]
        marked += [(0, [20.0 * place + 70, 100.0, 5.0, 4.0]) for place in range(10)] + [(0, [5.0, 5.0, 9.0, 9.0])]
        document = {
            "images": [{"id": 1, "file_name": "bay.tif", "width": 400, "height": 300}],
            "categories": [{"id": 1, "name": "class_0"}, {"id": 2, "name": "class_1"}],
            "annotations": [
                {"id": place, "image_id": 1, "category_id": kind + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
                for place, (kind, box) in enumerate(marked, 1)
            ],
        }  # fmt: skip
        (folder / "marked.json").write_text(json.dumps(document))
        yield folder


def is_undecided(box: list[float]) -> bool:
    """Whether its middle lies on the corner without data, or beyond the scene."""
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    return (x < 60 and y < 40) or not (0 <= x < 400 and 0 <= y < 300)


@pytest.fixture(scope="module")
def made(laid_out: Path) -> Evaluation:
    return earthloom.evaluate(
        laid_out / "bay.tif",
        model=str(laid_out / "finder"),
        out=laid_out / "out",
        labels=laid_out / "marked.json",
        **SMALL,
    )


def test_average_precision_is_that_of_hotcoco(laid_out: Path, made: Evaluation, tmp_path: Path) -> None:
    from hotcoco import COCO, COCOeval

    document = json.loads((laid_out / "marked.json").read_bytes())
    document["annotations"] = [each for each in document["annotations"] if not is_undecided(each["bbox"])]
    found = export_coco(laid_out / "out", "finder")["annotations"]
    for path, content in (("true.json", document), ("found.json", found)):
        (tmp_path / path).write_text(json.dumps(content))
    for number, name in enumerate(("class_0", "class_1"), 1):
        with redirect_stdout(io.StringIO()):
            true = COCO(str(tmp_path / "true.json"))
            judge = COCOeval(true, true.load_res(str(tmp_path / "found.json")), "bbox")
            judge.params.cat_ids = [number]
            judge.params.max_dets = [1, 10, 10_000]
            judge.evaluate()
            judge.accumulate()
        assert judge.eval is not None
        wanted = np.asarray(judge.eval["precision"])[:, :, 0, 0, -1].mean(axis=1)
        scores = made.report["scores"][name]
        assert scores["ap50"] == pytest.approx(wanted[0], abs=1e-9)
        assert scores["ap50_95"] == pytest.approx(wanted.mean(), abs=1e-9)
        assert 0.1 < scores["ap50"] < 0.95


def test_reports_say_what_was_found_by_size_and_what_is_left_out(laid_out: Path, made: Evaluation) -> None:
    report = made.report
    marked = json.loads((laid_out / "marked.json").read_bytes())["annotations"]
    assert report["hidden"] == sum(is_undecided(each["bbox"]) for each in marked) >= 2
    first = report["scores"]["class_0"]
    assert sum(each["true"] for each in first["by_size"]) == first["true"]
    assert first["best"]["0.5"]["f1"] >= first["published"]["0.5"]["f1"]
    assert first["published"]["0.3"]["recall"] >= first["published"]["0.5"]["recall"]
    html, text, plain = (Path(name) for name in made.files)
    assert json.loads(plain.read_bytes()) == report
    assert text.read_text() == made.text
    assert f"{report['hidden']} marked objects lie where nothing is decided" in made.text
    assert "<pre>" in html.read_text()
    again = earthloom.evaluate(
        laid_out / "bay.tif",
        model=str(laid_out / "finder"),
        out=laid_out / "out",
        labels=laid_out / "marked.json",
        **SMALL,
    )
    assert (again.report, again.files) == (report, made.files)


def test_the_worst_places_are_drawn_and_hold_the_mistakes_that_lie_there(laid_out: Path, made: Evaluation) -> None:
    from PIL import Image

    places = made.report["worst"]
    errors = [place["missed"] + place["wrong"] for place in places]
    assert errors == sorted(errors, reverse=True)
    assert 0 < len(errors) <= 6
    marked = [each["bbox"] for each in json.loads((laid_out / "marked.json").read_bytes())["annotations"]]
    marked = [box for box in marked if not is_undecided(box)]
    found = [each["bbox"] for each in export_coco(laid_out / "out", "finder")["annotations"]]
    for place in places:
        left, top = place["col_off"], place["row_off"]

        def lie_here(boxes: list[list[float]], place: dict[str, int] = place, left: int = left, top: int = top) -> int:
            middles = [(x + width / 2, y + height / 2) for x, y, width, height in boxes]
            return sum(left <= x < left + place["width"] and top <= y < top + place["height"] for x, y in middles)

        assert place["wrong"] + place["right"] == lie_here(found)
        assert place["missed"] <= lie_here(marked)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', Path(made.files[0]).read_text())
    assert len(pictures) == len(places)
    first = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[0]))).convert("RGB"))
    colors = {tuple(color) for color in first.reshape(-1, 3).tolist()}
    kinds = ((MISSED, places[0]["missed"]), (WRONG, places[0]["wrong"]), (RIGHT, places[0]["right"]))
    for color, number in kinds:
        assert not number or tuple(bytes.fromhex(color[1:])) in colors


def test_what_is_found_in_a_crowd_is_neither_right_nor_wrong(laid_out: Path, made: Evaluation) -> None:
    document = json.loads((laid_out / "marked.json").read_bytes())
    left, top, width, height = crowd = [150.0, 80.0, 120.0, 90.0]
    document["annotations"].append({"id": 9999, "image_id": 1, "category_id": 1, "bbox": crowd, "iscrowd": 1})
    (laid_out / "crowd.json").write_text(json.dumps(document))
    judged = earthloom.evaluate(
        laid_out / "bay.tif", model=str(laid_out / "finder"), out=laid_out / "out", labels=laid_out / "crowd.json",
        **SMALL,
    )  # fmt: skip

    def middle(box: list[float]) -> tuple[float, float]:
        return box[0] + box[2] / 2, box[1] + box[3] / 2

    marked = [each["bbox"] for each in document["annotations"][:-1]]
    left_out = 0
    for each in export_coco(laid_out / "out", "finder")["annotations"]:
        x, y = middle(each["bbox"])
        is_inside = left <= x < left + width and top <= y < top + height
        on_marked = any(m[0] <= x < m[0] + m[2] and m[1] <= y < m[1] + m[3] for m in marked)
        left_out += is_inside and not on_marked
    names = ("class_0", "class_1")
    before, after = (sum(report["scores"][name]["found"] for name in names) for report in (made.report, judged.report))
    assert before - after == left_out > 0
    assert all(judged.report["scores"][name]["true"] == made.report["scores"][name]["true"] for name in names)


def test_classes_of_features_may_be_numbers_and_unknown_ones_judge_nothing(laid_out: Path, made: Evaluation) -> None:
    """Numbers of a column were not known by what `label_classes` and `label_ignore` say of them."""
    with rasterio.open(laid_out / "bay.tif") as source:
        crs, transform = source.crs, source.transform
    annotations = json.loads((laid_out / "marked.json").read_bytes())["annotations"]
    corners = [((x, y), (x + width, y + height)) for x, y, width, height in (each["bbox"] for each in annotations)]
    shapes = [box(*(transform * first), *(transform * last)) for first, last in corners]
    kinds = [each["category_id"] for each in annotations]

    def judged(column: list[Any], n: int) -> dict[str, Any]:
        geopandas.GeoDataFrame({"kind": column}, geometry=shapes[:n], crs=crs).to_file(laid_out / "kinds.gpkg")
        options = {"class_column": "kind", "label_classes": "1=class_0,2=class_1,7=class_1", "label_ignore": "9"}
        scores: dict[str, Any] = earthloom.evaluate(
            laid_out / "bay.tif", model=str(laid_out / "finder"), out=laid_out / "out",
            labels=laid_out / "kinds.gpkg", **options, **SMALL,
        ).report["scores"]  # fmt: skip
        return scores

    for column in (kinds, [str(kind) for kind in kinds]):
        scores = judged(column, len(shapes))
        for name, wanted in made.report["scores"].items():
            assert (scores[name]["true"], scores[name]["found"]) == (wanted["true"], wanted["found"])
    unknown = judged([9, 9], 2)
    lost = sum(scores["found"] - unknown[name]["found"] for name, scores in made.report["scores"].items())
    assert lost >= 1, "what lies there is neither right nor wrong"
    assert not any(scores["true"] for scores in unknown.values())


def test_the_boxes_that_were_published_last_are_exported(laid_out: Path, made: Evaluation, tmp_path: Path) -> None:
    """Those with the last key were, which is a digest and says nothing of time."""
    (first,) = (Path(made.run.out) / "scenes" / "bay").iterdir()
    for age, key in ((0, "0" * 64), (1, "f" * 64)):
        folder = shutil.copytree(first, tmp_path / "scenes" / "bay" / key)
        geopandas.read_parquet(first / "finder.parquet").head(1 + age).to_parquet(folder / "finder.parquet")
        os.utime(folder / "result.json", (1e9 - age, 1e9 - age))
    assert len(export_coco(tmp_path, "finder")["annotations"]) == 1
    os.utime(tmp_path / "scenes" / "bay" / ("f" * 64) / "result.json", (1e9 + 1, 1e9 + 1))
    assert len(export_coco(tmp_path, "finder")["annotations"]) == 2


def test_pages_of_places_are_as_many_as_are_asked_for(laid_out: Path, made: Evaluation) -> None:
    none = earthloom.evaluate(
        laid_out / "bay.tif", model=str(laid_out / "finder"), out=laid_out / "out", labels=laid_out / "marked.json",
        worst=0, **SMALL,
    )  # fmt: skip
    assert none.report["worst"] == []
    assert none.files != made.files, "another question has another report"
    assert "<img" not in Path(none.files[0]).read_text()


def test_sizes_are_those_that_are_asked_for_or_thirds() -> None:
    assert size_ranges(np.arange(1.0, 100), ()) == [(0, 34), (34, 66), (66, float("inf"))]
    assert size_ranges(np.zeros(0), (2500.0,)) == [(0, 2500), (2500, float("inf"))]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"match": "class_0=land"}, ConfigError, "`match` speaks of pixels"),
        ({"label_classes": "1=boat"}, ConfigError, "`label_classes` names boat; finder.* finds class_0, class_1"),
        ({"sizes": "100,10"}, ConfigError, "rising positive numbers"),
        ({"labels": "{folder}/bay.tif"}, ConfigError, "is a raster"),
        ({"labels": "{folder}/other.json"}, SceneError, "has 0 pictures called bay"),
    ],
)
def test_what_does_not_suit_objects_is_refused(
    options: dict[str, str], error: type[Exception], message: str, laid_out: Path, tmp_path: Path
) -> None:
    document = json.loads((laid_out / "marked.json").read_bytes())
    document["images"][0]["file_name"] = "lake.tif"
    (laid_out / "other.json").write_text(json.dumps(document))
    given = {"labels": str(laid_out / "marked.json")} | {k: v.format(folder=laid_out) for k, v in options.items()}
    with pytest.raises(error, match=message):
        earthloom.evaluate(laid_out / "bay.tif", model=str(laid_out / "finder"), out=laid_out / "out", **given, **SMALL)
