"""What is said and refused before a training begins: what would make it meaningless, and what its scores hide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from shapely import box

from earthloom.jobs.learning.config import load_training
from earthloom.jobs.learning.corpus import Corpus, open_corpus
from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.labels import IGNORE
from earthloom.jobs.learning.remarks import remarks
from earthloom.jobs.learning.split import Part
from earthloom.jobs.learning.start import First, bands_of, first_weights
from earthloom.jobs.learning.train import prepare, training_key
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from earthloom.tiling.vectors import pyogrio
from tests.jobs.learning.meadows import ORIGIN, meadow, tables, write_labels
from tests.models.nets import card_of

pyogrio()  # before geopandas does, in whose process rasterio's list of drivers holds


def opened(values: dict[str, Any]) -> tuple[Any, Any, Corpus]:
    config = load_training(values)
    first = first_weights(config.model.start)
    return config, first, open_corpus(config, bands_of(config, first))


def said_of(values: dict[str, Any]) -> tuple[list[str], Examples]:
    config, first, corpus = opened(values)
    examples, card = prepare(config, corpus, first, bands_of(config, first))
    return remarks(config, examples, card, first), examples


def scenes_of(values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return values | {"scenes": [table | changes for table in values["scenes"]]}


def test_nothing_is_said_where_all_is_well(tmp_path: Path) -> None:
    meadow(tmp_path, "a", width=256, height=192)
    assert said_of(tables(tmp_path, "a"))[0] == []


def test_a_class_that_the_test_part_does_not_show_is_named(tmp_path: Path) -> None:
    meadow(tmp_path, "north", width=256, height=192)
    meadow(tmp_path, "south", at_px=(0, 3000))
    transform = Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1] - 30_000)
    write_labels(tmp_path / "south_labels.tif", np.zeros((160, 192), np.uint8), transform)
    values = tables(tmp_path, "north", "south")
    values["split"] = {"by": "scene", "validation": 0, "test": ["south"]}
    assert said_of(values)[0] == ["no pixel of the test part is labelled grass: its scores say nothing of that class"]


def test_a_class_that_the_training_part_does_not_show_is_named(tmp_path: Path) -> None:
    meadow(tmp_path, "a", width=256, height=192)
    values = tables(tmp_path, "a")
    values["labels"]["classes"].append({"value": 2, "name": "rock"})
    (text,) = said_of(values)[0]
    assert text.startswith("no pixel of the training part is labelled rock, and 0 of the others are")


def test_a_class_that_covers_no_chip_is_named_though_many_pixels_have_it(tmp_path: Path) -> None:
    """Its pixels counted, of which none made a label: it was never learned, without a word."""
    meadow(tmp_path, "a", width=256, height=192)
    rows, cols = np.indices((192, 256))
    values = tables(tmp_path, "a", chips={"core_px": 16}, split={"validation": 0.3, "test": 0})
    values["model"] = {"architecture": "classifier", "encoder": "resnet18", "bands": values["model"]["bands"]}

    def labelled(grass: NDArray[np.bool_]) -> tuple[list[str], list[int]]:
        transform = Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1])
        write_labels(tmp_path / "a_labels.tif", grass.astype(np.uint8), transform)
        said, examples = said_of(values)
        return said, np.sum(list(examples.labelled().values()), axis=0).tolist()

    said, chips = labelled(np.where(cols < 128, rows >= 96, cols % 4 == 0))
    assert (said, chips) == ([], [12 * 16 - 6 * 8, 6 * 8])
    (text,), chips = labelled(cols % 4 == 0)
    assert text.startswith(
        "no chip of the training part is labelled grass, for its pixels cover nowhere 50% of one, and 0 of the others are"
    )
    assert chips == [12 * 16, 0]


def test_a_metric_of_a_class_that_the_validation_part_does_not_show_is_refused(tmp_path: Path) -> None:
    """Every look would score 0, and the first of them be kept as the best."""
    meadow(tmp_path, "north", width=256, height=192)
    meadow(tmp_path, "south", at_px=(0, 3000))
    transform = Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1] - 30_000)
    write_labels(tmp_path / "south_labels.tif", np.zeros((160, 192), np.uint8), transform)
    values = tables(tmp_path, "north", "south", schedule={"metric": "iou_grass"})
    values["split"] = {"by": "scene", "validation": ["south"], "test": 0}
    with pytest.raises(
        ConfigError, match=r"`schedule\.metric=iou_grass` is judged on the validation part, which has no"
    ):
        said_of(values)


@pytest.mark.parametrize("by", ["named", "block"])
def test_ground_that_another_scene_trains_on_judges_nothing_and_is_told(tmp_path: Path, by: str) -> None:
    meadow(tmp_path, "may")
    meadow(tmp_path, "june", at_px=(96, 0))  # its western half is the eastern one of May
    values = tables(tmp_path, "may", "june")
    if by == "named":
        values["split"] = {"by": "scene", "validation": ["june"], "test": 0}
    said, examples = said_of(values)
    assert any("of the validation part lies on ground that is trained on in another scene" in text for text in said)
    if by == "named":
        assert said[0].startswith("49% of"), "nobody looked at five columns of it"
    trained = np.zeros((2, 160, 400), np.bool_)  # by scene, on the ground
    judged = np.zeros_like(trained)
    index = examples.index
    for number, part, (left, top, right, bottom) in zip(index.scene, examples.split.part, index.box, strict=True):
        if part == Part.TRAIN:
            trained[number, top:bottom, 96 * number + left : 96 * number + right] = True
    for number, core in examples.windows(Part.VALIDATION):
        _, labels = examples.judged(number, core, 0, Part.VALIDATION, 0)
        inside = core & examples.scenes[number].scene.grid.window
        shown = (labels.numpy() != IGNORE)[inside.slices(core)]
        judged[number, inside.row_off : inside.row_end, 96 * number + inside.col_off : 96 * number + inside.col_end] = (
            shown
        )
    assert judged.any()
    assert not (judged[0] & trained[1]).any()
    assert not (judged[1] & trained[0]).any()


def test_a_validation_part_of_which_nothing_can_be_judged_is_refused(tmp_path: Path) -> None:
    meadow(tmp_path, "may")
    meadow(tmp_path, "june", seed=1)
    values = tables(tmp_path, "may", "june")
    values["split"] = {"by": "scene", "validation": ["june"], "test": 0}
    with pytest.raises(ConfigError, match="no label of the validation part can be judged by"):
        said_of(values)
    with pytest.raises(ConfigError, match="all lie within 'gap_px=200' of what is trained on"):
        said_of(tables(tmp_path, "may", split={"gap_px": 200}))


def test_a_scene_on_which_no_feature_lies_is_named(tmp_path: Path) -> None:
    meadow(tmp_path, "a", width=256, height=192)
    meadow(tmp_path, "b", at_px=(0, 3000))
    x, y = ORIGIN
    squares = [box(x + 400, y - 1500, x + 1500, y - 100), box(x + 1600, y - 1900, x + 2500, y - 400)]
    geopandas.GeoDataFrame({"kind": ["grass", "grass"]}, geometry=squares, crs="EPSG:32617").to_file(
        tmp_path / "some.gpkg"
    )
    values = scenes_of(tables(tmp_path, "a", "b"), labels=str(tmp_path / "some.gpkg"))
    values["labels"] |= {"class_column": "kind", "background": "soil"}
    values["split"] = {"by": "block", "block_px": 64, "validation": 0, "test": 0}
    (text,) = said_of(values)[0]
    assert text.startswith("nothing is marked on b, so all of it is soil")
    objects = {**values, "objects": {}, "labels": {"classes": [{"value": 0, "name": "grass"}], "class_column": "kind"}}
    (text,) = said_of(objects)[0]
    assert text.startswith("nothing is marked on b, so all of it holds no object")


@pytest.mark.parametrize(
    ("mean", "std"), [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((2500.0,) * 3, (900.0,) * 3)]
)
def test_a_normalisation_of_other_units_is_told(
    tmp_path: Path, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    meadow(tmp_path, "a", width=256, height=192)
    own = {"scale": 1.0, "quantity": "dn"} if mean[0] < 1 else {}
    values = scenes_of(tables(tmp_path, "a", model={"mean": mean, "std": std}), **own)
    (text,) = said_of(values)[0]
    assert "red has a mean of " in text
    assert "give `mean` and `std` in the scenes' quantity" in text
    right = scenes_of(tables(tmp_path, "a", model={"mean": mean, "std": std}), scale=1.0, quantity="dn")
    if mean[0] > 1:
        assert said_of(right)[0] == []


@pytest.mark.parametrize("change", ["haze", "gamma", "ceiling"])
def test_changes_of_brightness_are_refused_for_values_that_are_none(tmp_path: Path, change: str) -> None:
    meadow(tmp_path, "a", width=256, height=192)
    values = tables(tmp_path, "a", augment={change: 0.5})
    said_of(values)
    with pytest.raises(
        ConfigError, match=rf"'augment\.{change}=0\.5' .* red has a mean of 1\d\d\d\.?\d* in the training"
    ):
        said_of(scenes_of(values, scale=1.0, quantity="dn"))
    with pytest.raises(ConfigError, match=rf"'augment\.{change}=0\.5' .* red has a mean of -1\d\.\d"):
        said_of(scenes_of(values, scale=0.01, offset=-25.0, quantity="dn"))


def test_nodata_that_is_a_class_is_told(tmp_path: Path) -> None:
    meadow(tmp_path, "a", width=256, height=192)
    with rasterio.open(tmp_path / "a_labels.tif", "r+") as labels:
        labels.nodata = 0
    values = tables(tmp_path, "a")
    values["labels"]["ignore"] = [255]
    _, _, corpus = opened(values)
    assert [text for _, text in corpus.notes if "nodata and stands for soil" in text]


def test_what_the_values_mean_and_how_haze_is_made_are_in_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meadow(tmp_path, "a")
    values = tables(tmp_path, "a", augment={"haze": 0.2})

    def key(values: dict[str, Any]) -> str:
        config, first, corpus = opened(values)
        return training_key(config, corpus, first)

    assert key(values) != key(scenes_of(values, quantity="boa_reflectance"))
    before, without = key(values), key(tables(tmp_path, "a"))
    monkeypatch.setattr("earthloom.jobs.learning.seeds.centre_um", lambda _: 0.5)
    assert key(values) != before
    assert key(tables(tmp_path, "a")) == without
    monkeypatch.setattr("earthloom.jobs.learning.train.LEARNING_VERSION", 0)
    assert key(tables(tmp_path, "a")) != without


def test_trials_share_an_index_only_of_the_same_bands_and_chips(tmp_path: Path) -> None:
    meadow(tmp_path, "a", width=256, height=192)
    store = open_store(ObjectRef.parse(str(tmp_path / "study")))
    found = []
    for bands in (["red", "green"], ["nir", "green"]):
        config, first, corpus = opened(tables(tmp_path, "a", model={"bands": bands}))
        examples, card = prepare(config, corpus, first, bands_of(config, first), store, "tune/0")
        assert card.mean == prepare(config, corpus, first, bands_of(config, first))[1].mean
        found.append(examples.index.sums)
    assert not np.array_equal(found[0], found[1])
    assert np.array_equal(found[0][:, 1], found[1][:, 1])
    config, first, corpus = opened(tables(tmp_path, "a", model={"bands": ["nir", "green"]}))
    prepare(config, corpus, first, bands_of(config, first), store, "tune/0")
    assert len(list((tmp_path / "study" / "tune" / "0").iterdir())) == 2


def test_first_weights_that_learned_from_another_quantity_are_told(tmp_path: Path) -> None:
    meadow(tmp_path, "a", width=256, height=192)
    config, _, corpus = opened(tables(tmp_path, "a"))
    bands = config.model.bands
    known = replace(card_of("ukis-unet", 3, 2, 16), bands=bands, mean=(0.1,) * 3, std=(0.1,) * 3)
    first = First(name="made", card=known)
    examples, card = prepare(config, corpus, first, bands)
    assert (card.mean, remarks(config, examples, card, first)) == (known.mean, [])
    other = First(name="made", card=replace(known, quantities=("unit",)))
    examples, card = prepare(config, corpus, other, bands)
    assert card.mean != known.mean
    (text,) = remarks(config, examples, card, other)
    assert "learned from unit, and these scenes are reflectance" in text
