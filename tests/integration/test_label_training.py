"""A classifier from labels to a judged map: from rasters and polygons on scenes, and from folders of chips."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.features import shapes
from shapely.geometry import shape
from sklearn.metrics import classification_report, confusion_matrix

import earthloom
from earthloom.jobs.learning.batches import Crops, Sampling
from earthloom.jobs.learning.config import check_training
from earthloom.jobs.learning.corpus import open_corpus
from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.split import Part
from earthloom.jobs.learning.start import bands_of, first_weights
from earthloom.jobs.learning.train import Trained, prepare
from earthloom.models.training.augment import Variety
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.rounding import ceil_div
from tests.jobs.learning.meadows import tables, write_labels
from tests.scenes import write_scene

pytestmark = pytest.mark.usefixtures("unmeasured_memory")

SIDE_PX = 16
RUN: dict[str, Any] = {
    "executor": "local", "shard": 512, "block": 512, "scale": 1e-4, "quantity": "reflectance", "device": "cpu",
    "bands": "red=1,green=2,nir=3",
}  # fmt: skip


def patchwork(seed: int, rows: int = 9, cols: int = 11) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Three bands and the class of each pixel, in squares of 24 px that do not lie on the grid of chips of 16 px.

    Both classes are as bright; what differs is the pattern, stripes along rows or along columns.
    """
    dice = np.random.default_rng(seed)
    kinds = dice.integers(0, 2, (rows, cols)).astype(np.uint8)
    labels = np.kron(kinds, np.ones((24, 24), np.uint8))
    row, col = np.indices(labels.shape)
    striped = np.where(labels == 0, row % 4 < 2, col % 4 < 2)
    pixels = 1000 + 1500 * striped[None] + dice.integers(0, 300, (3, *labels.shape))
    return pixels.astype(np.uint16), labels


def place(folder: Path, name: str, seed: int, at_px: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    pixels, labels = patchwork(seed)
    transform = Affine(10, 0, 300000, 0, -10, 4500000 - 10 * at_px)
    write_scene(folder / f"{name}.tif", pixels, transform=transform, nodata=0)
    write_labels(folder / f"{name}_labels.tif", labels, transform)
    return pixels, labels


def wanted_of(folder: Path, name: str) -> NDArray[np.uint8]:
    """The class of each chip, counted chip by chip."""
    with rasterio.open(folder / f"{name}_labels.tif") as dataset:
        labels = dataset.read(1)
    found = np.full((ceil_div(labels.shape[0], SIDE_PX), ceil_div(labels.shape[1], SIDE_PX)), 255, np.uint8)
    for row, col in np.ndindex(found.shape):
        chip = labels[row * SIDE_PX : (row + 1) * SIDE_PX, col * SIDE_PX : (col + 1) * SIDE_PX]
        counts = [int((chip == value).sum()) for value in (0, 1)]
        if max(counts) >= 0.75 * SIDE_PX**2:
            found[row, col] = int(np.argmax(counts))
    return found


def training(folder: Path, *names: str, **changes: Any) -> dict[str, Any]:
    made = tables(folder, *names)
    made["labels"] = {"classes": [{"value": 0, "name": "along"}, {"value": 1, "name": "across"}]}
    made["model"] = {"architecture": "classifier", "encoder": "test_resnet", "bands": ["red", "green", "nir"]}
    made["schedule"] |= {"steps": 40, "batch": 8, "rate": 5e-3, "validate_steps": 60}
    made["chips"] = {"core_px": SIDE_PX, "cover": 0.75}
    made["compute"] |= {"checkpoint_s": 60}
    made["loss"] = {"dice": 0.0}
    made["split"] = {"by": "scene", "validation": 0, "test": [names[-1]] if names else ["test"]}
    return made | changes


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, Any], Trained]:
    folder = tmp_path_factory.mktemp("labels")
    place(folder, "north", 0, 0)
    place(folder, "south", 1, 3000)
    values = training(folder, "north", "south")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("earthloom.models.measuring.measure._bytes_per_px", lambda *_: 300.0)
        return folder, values, earthloom.train(values)


def test_a_trained_classifier_labels_chips_and_its_record_counts_what_run_publishes(
    trained: tuple[Path, Mapping[str, Any], Trained], tmp_path: Path
) -> None:
    folder, _, made = trained
    card = made.card
    assert (card.kind, card.core_px, card.halo_px, card.task) == ("labels", SIDE_PX, 0, "scene-classification")
    assert made.record["tiling"]["tiled_is_whole"]["identical"]
    result = earthloom.run(folder / "south.tif", model=made.out, out=tmp_path, **RUN)
    with rasterio.open(tmp_path / result.results["south"].prefix / "meadows.tif") as found:
        classes = found.read(1)
        assert found.transform.a == 10 * SIDE_PX
    wanted = wanted_of(folder, "south")
    scored = (wanted != 255) & (classes != 255)
    assert (classes[scored] == wanted[scored]).mean() > 0.9, "stripes are told apart, which no single pixel shows"
    expected = confusion_matrix(wanted[scored], classes[scored], labels=[0, 1]).tolist()
    assert made.record["seeds"][0]["test"]["confusion"] == expected


def test_scores_of_chips_are_those_of_scikit_learn(
    trained: tuple[Path, Mapping[str, Any], Trained], tmp_path: Path
) -> None:
    folder, _, made = trained
    found = earthloom.evaluate(
        folder / "south.tif", model=made.out, out=tmp_path, labels=folder / "south_labels.tif", cover=0.75,
        label_classes={0: "along", 1: "across"}, **RUN,
    )  # fmt: skip
    wanted = wanted_of(folder, "south")
    (mapped,) = tmp_path.glob("scenes/south/*/meadows.tif")
    with rasterio.open(mapped) as dataset:
        classes = dataset.read(1)
    scored = (wanted != 255) & (classes != 255)
    expected = classification_report(wanted[scored], classes[scored], target_names=["along", "across"], digits=2)
    assert expected in found.text, found.text
    (errors,) = tmp_path.glob("evaluations/*/*/south-errors.tif")
    with rasterio.open(errors) as dataset:
        assert dataset.shape == classes.shape
        assert ((dataset.read(1) == 255) == ~scored).all()


def examples_of(values: Mapping[str, Any]) -> Examples:
    config = check_training(values)
    first = first_weights(config.model.start)
    bands = bands_of(config, first)
    return prepare(config, open_corpus(config, bands), first, bands)[0]


def test_polygons_teach_what_the_raster_teaches(tmp_path: Path) -> None:
    for seed, name in enumerate(("north", "south")):
        _, labels = place(tmp_path, name, seed, 3000 * seed)
        with rasterio.open(tmp_path / f"{name}_labels.tif") as dataset:
            found = [(shape(each), int(value)) for each, value in shapes(labels, transform=dataset.transform)]
            kinds = {"kind": [("along", "across")[value] for _, value in found]}
            frame = geopandas.GeoDataFrame(kinds, geometry=[each for each, _ in found], crs=dataset.crs)
        frame.to_parquet(tmp_path / f"{name}_labels.parquet")
    values = training(tmp_path, "north", "south")
    again = {**values, "labels": {**values["labels"], "class_column": "kind"}}
    again["scenes"] = [{**each, "labels": str(tmp_path / "{id}_labels.parquet")} for each in values["scenes"]]
    both = [examples_of(each) for each in (values, again)]
    crops = [Crops(each, Sampling(variety=Variety(zoom=1.3), balance=1, seed=3)) for each in both]
    labels_seen = set()
    for step in range(40):
        (own, label), (other, same) = (each.crop(step, 0) for each in crops)
        assert own.shape == (3, SIDE_PX, SIDE_PX)
        assert label.shape == (1, 1)
        assert (own == other).all()
        assert (label == same).all()
        labels_seen.add(int(label))
    assert labels_seen == {0, 1, 255}, "and some chips are of neither class"
    wanted = wanted_of(tmp_path, "south")
    for number, core in both[1].windows(Part.TEST):
        _, label = both[1].judged(number, core, 0, Part.TEST, 0)
        assert int(label) == wanted[core.row_off // SIDE_PX, core.col_off // SIDE_PX]


# ---- folders


def chips_in(folder: Path, seed: int, count: int, suffix: str) -> Path:
    """Folders `along` and `across`, with chips larger than is wanted."""
    dice = np.random.default_rng(seed)
    for value, name in enumerate(("along", "across")):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            row, col = np.indices((20, 18))
            striped = (row if value == 0 else col) % 4 < 2
            pixels = (60 + 90 * striped[..., None] + dice.integers(0, 25, (20, 18, 3))).astype(np.uint8)
            path = folder / name / f"{number:03d}.{suffix}"
            if suffix == "tif":
                write_scene(path, np.moveaxis(pixels, -1, 0), date=None)
            else:
                Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path / "cache"))


def of_folders(folder: Path, **changes: Any) -> dict[str, Any]:
    options = {"gsd_m": 10.0, "quantity": "dn", "bands": {"red": 1, "green": 2, "nir": 3}}
    made = training(folder, **changes)
    made.pop("scenes")
    made["folders"] = [{"folder": str(folder / name), "name": name, **options} for name in ("train", "test")]
    return made


@pytest.mark.usefixtures("_cache")
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_folders_of_chips_train_a_classifier(tmp_path: Path, suffix: str) -> None:
    chips_in(tmp_path / "train", 0, 24, suffix)
    chips_in(tmp_path / "test", 1, 7, suffix)
    made = earthloom.train(of_folders(tmp_path))
    confusion = np.array(made.record["seeds"][0]["test"]["confusion"])
    assert confusion.sum() == 14, "each chip once"
    assert np.trace(confusion) == 14
    assert made.record["data"]["pixels"]["train"] == [24 * SIDE_PX**2] * 2
    assert json.loads((Path(made.out) / "card.json").read_bytes())["properties"]["earthloom:labels"] == {
        "least_valid": 0.5
    }


@pytest.mark.usefixtures("_cache")
def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    chips_in(tmp_path / "train", 0, 3, "jpg")
    chips_in(tmp_path / "test", 0, 3, "jpg")
    with pytest.raises(ConfigError, match=r"6 chips of train are in test too"):
        earthloom.train(of_folders(tmp_path))
    (tmp_path / "test" / "beyond").mkdir()
    with pytest.raises(ConfigError, match="'beyond', which none of the classes along, across stands for"):
        earthloom.train(of_folders(tmp_path))
    (tmp_path / "test" / "beyond").rmdir()
    Image.new("RGB", (12, 40)).save(tmp_path / "test" / "along" / "small.png")
    with pytest.raises(SceneError, match=r"small\.png has 12 x 40 px, less than the 16 x 16"):
        earthloom.train(of_folders(tmp_path))
    (tmp_path / "test" / "along" / "small.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(SceneError, match=r"small\.png cannot be decoded"):
        earthloom.train(of_folders(tmp_path))
    with pytest.raises(ConfigError, match="leave out 'context_px'"):
        earthloom.train(of_folders(tmp_path, chips={"core_px": 16, "context_px": 4}))


def test_a_segmentation_labels_no_chips_and_a_classifier_no_pixels(tmp_path: Path) -> None:
    place(tmp_path, "north", 0, 0)
    made = training(tmp_path, "north")
    made["split"] = {"by": "scene", "validation": 0, "test": 0}
    with pytest.raises(ConfigError, match="choose it in the place of ukis-unet"):
        earthloom.train({**made, "model": {"architecture": "ukis-unet", "bands": ["red", "green", "nir"]}})
    del made["chips"]
    with pytest.raises(ConfigError, match="add the table"):
        earthloom.train(made)
