"""The file of a training: what it may hold, and what is said of what it may not."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from earthloom.jobs.command.terminal import in_a_file, with_flags
from earthloom.jobs.learning import train
from earthloom.jobs.learning.config import SceneTable, TrainConfig, check_training, keys_in_file, load_training
from earthloom.jobs.learning.labels import LabelClass
from earthloom.jobs.learning.seeds import variety_of
from earthloom.jobs.learning.start import First, draft, first_weights
from earthloom.jobs.learning.training_file import relative_to, to_toml
from earthloom.jobs.learning.trials import with_values
from earthloom.tiling.errors import CardError, ConfigError, SceneError
from earthloom.tiling.storage.objects import ObjectRef
from tests.jobs.learning.meadows import tables
from tests.models.nets import card_of

FILE = """
name = "water"
out = "models/water"
[[scenes]]
scene = "scenes/port.tif"
labels = "s3://truth/{id}.tif"
sensor = "sentinel2-l2a"
[[scenes]]
scene = "blue=b/B02.tif,green=/data/B03.tif"
labels = "fields.gpkg"
bands = { blue = 1, green = 2 }
[labels]
classes = [{ value = 0, name = "land" }, { value = 1, name = "water", color = "#0000ff" }]
[split]
by = "region"
regions = "regions.gpkg"
train = ["north"]
validation = []
test = "south"
[model]
architecture = "unet"
encoder = "resnet18"
bands = ["green", "swir16"]
start = "./imagenet.safetensors"
[schedule]
steps = 100
"""


def test_paths_of_a_file_are_relative_to_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "water.toml"
    path.parent.mkdir()
    path.write_text(FILE)
    config = load_training(path)
    first, second = config.scenes
    assert config.out == str(path.parent / "models" / "water")
    assert (first.scene, first.labels) == (str(path.parent / "scenes" / "port.tif"), "s3://truth/{id}.tif")
    assert second.scene == f"blue={path.parent / 'b' / 'B02.tif'},green=/data/B03.tif"
    assert config.split.regions == str(path.parent / "regions.gpkg")
    assert config.model.start == str(path.parent / "imagenet.safetensors")
    assert config.split.test == ("south",)
    assert config.split.validation == ()
    assert first.options.sensor == "sentinel2-l2a"


def test_a_zoo_model_to_start_from_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(FILE.replace("./imagenet.safetensors", "landwater"))
    assert load_training(tmp_path / "a.toml").model.start == "landwater"


def test_keys_of_the_top_level_can_be_changed_in_passing(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(FILE)
    changed = load_training(tmp_path / "a.toml", out="elsewhere", seed=None)
    assert (changed.out, changed.seed) == ("elsewhere", 0)


def test_what_was_checked_is_the_same_after_a_journey_as_plain_values(tmp_path: Path) -> None:
    config = load_training(tables(tmp_path, "a", loss={"class_weights": (1.0, 2.0)}))
    assert check_training(config.model_dump(mode="json")) == config


def test_a_training_on_chips_survives_the_journey_too(tmp_path: Path) -> None:
    """The side of a crop was filled in on the way and then refused: neither `tune` nor `--workers` took chips."""
    network = {"architecture": "classifier", "encoder": "resnet18", "bands": ["red"]}
    config = load_training(tables(tmp_path, "a", chips={"core_px": 16}) | {"model": network})
    assert check_training(config.plain()) == config
    assert with_values(config.plain(), {"schedule.rate": 0.1}).schedule.rate == 0.1
    (tmp_path / "again.toml").write_text(to_toml(config.plain(exclude_none=True)))
    assert load_training(tmp_path / "again.toml") == config
    with pytest.raises(ConfigError, match="model has no key 'crop_px'"):
        with_values(config.plain(), {"model.crop_px": 64})


def test_a_sign_of_equality_in_a_path_names_a_band_only_where_a_scene_begins_with_it(tmp_path: Path) -> None:
    """`out = "runs/rate=0.1"` became `runs/rate=/…/0.1`, a folder below wherever the command was given."""
    (tmp_path / "year=2020").mkdir()
    scenes = {
        "year=2020/a.tif": f"{tmp_path}/year=2020/a.tif",
        "red=year=2020/a.tif, nir=b.tif": f"red={tmp_path}/year=2020/a.tif,nir={tmp_path}/b.tif",
        "runs/x=1/*.tif": f"{tmp_path}/runs/x=1/*.tif",
        "a.tif,b.tif": f"{tmp_path}/a.tif,{tmp_path}/b.tif",
        "red=s3://b/r.tif,nir=s3://b/n.tif": "red=s3://b/r.tif,nir=s3://b/n.tif",
    }
    values = {
        "out": "runs/rate=0.1",
        "scenes": [{"scene": text, "labels": "year=2020/{id}.gpkg", "before": text} for text in scenes],
    }
    placed = relative_to(tmp_path, values)
    assert placed["out"] == f"{tmp_path}/runs/rate=0.1"
    assert [table["scene"] for table in placed["scenes"]] == list(scenes.values())
    assert [table["before"] for table in placed["scenes"]] == list(scenes.values())
    assert {table["labels"] for table in placed["scenes"]} == {f"{tmp_path}/year=2020/{{id}}.gpkg"}


def test_it_is_the_same_after_a_journey_through_a_file(tmp_path: Path) -> None:
    space = {"schedule.rate": {"low": 1e-5, "high": 0.1, "log": True}, "model.arguments": [{"base": 4}, {}]}
    config = load_training(tables(tmp_path, "a", card={"title": 'α "b" \n'}, tune={"space": space}))
    (tmp_path / "again.toml").write_text(to_toml(config.model_dump(mode="json", exclude_none=True)))
    assert load_training(tmp_path / "again.toml") == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": {"stepps": 3}}, r"schedule\.stepps: there is no such key \(did you mean 'steps'\?\)"),
        ({"scenes": []}, r"give \[\[scenes\]\], or \[\[folders\]\] of chips, and not both"),
        ({"split": {"by": "region"}}, "split: 'by=region' and 'regions=FILE' belong together"),
        ({"split": {"by": "block", "test": ["a"]}}, "blocks have no names; give test as a share"),
        ({"split": {"validation": 0.5, "test": 0.5}}, "leave nothing to train on"),
        ({"loss": {"class_weights": "some"}}, r"loss\.class_weights"),
        (
            {"labels": {"classes": [{"value": 0, "name": "a", "colour": "red"}]}},
            r"labels\.classes\.0\.colour: there is no",
        ),
        ({"password": "hunter2"}, "password: there is no such key"),
        ({"schedule": {"steps": 0}}, r"schedule\.steps must be greater than 0, got '0'"),
    ],
)
def test_a_wrong_key_is_named_with_what_is_expected(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        load_training(tables(tmp_path, "a", **changes))
    assert "hunter2" not in str(raised.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    whole = tables(tmp_path, "a")
    del whole["schedule"]
    with pytest.raises(ConfigError, match="`schedule` is missing"):
        load_training(whole)


def test_a_file_that_is_no_toml_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("name = ")
    with pytest.raises(ConfigError, match=r"a\.toml is not TOML"):
        load_training(tmp_path / "a.toml")


def test_every_key_of_the_file_is_on_its_page() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "training.md").read_text()

    def keys(table: type[BaseModel]) -> Iterator[str]:
        for name, field in table.model_fields.items():
            yield name
            inner = [field.annotation, *typing.get_args(field.annotation)]
            for kind in [each for each in inner if isinstance(each, type) and issubclass(each, BaseModel)]:
                yield from keys(kind)

    known = set(keys(TrainConfig)) | set(SceneTable.model_fields) | set(LabelClass.model_fields)
    assert [name for name in sorted(known) if not re.search(rf"\b{name}\b", page)] == []


def test_classes_that_do_not_count_from_0_are_refused_with_the_key_that_says_so() -> None:
    classes = [{"value": 1, "name": "soil"}, {"value": 2, "name": "grass"}]
    with pytest.raises(ConfigError, match="these 1, 2: count 'value' from 0, and give what the files hold as 'stored'"):
        load_training(tables(Path("nowhere"), "a", labels={"classes": classes}))


def test_messages_of_a_training_name_keys_of_its_file_and_not_flags() -> None:
    with pytest.raises(SceneError) as caught, in_a_file(keys_in_file()):
        raise SceneError(
            "put 7 into `label_ignore`, or choose `label_band=2`; give `sensor` <preset>, or another `out`"
        )
    said = "put 7 into 'labels.ignore', or choose 'labels.band = 2'; give 'sensor' <preset>, or another --out"
    assert with_flags(str(caught.value)) == said


def test_haze_goes_by_wavelengths_where_the_names_of_all_bands_tell_theirs(tmp_path: Path) -> None:
    config = load_training(tables(tmp_path, "a", augment={"haze": 0.3, "ceiling": 1.0}))
    known = variety_of(config, ("red", "before_swir16"))
    assert (known.haze, known.ceiling) == (0.3, 1.0)
    assert known.wavelengths_um == pytest.approx((0.655, 1.65))
    assert variety_of(config, ("red", "vv")).wavelengths_um == ()
    with pytest.raises(ConfigError, match=r"augment\.haze must be less than 1"):
        load_training(tables(tmp_path, "a", augment={"haze": 1.0}))


def test_a_start_decides_neither_bands_nor_classes_and_its_normalisation_is_kept(tmp_path: Path) -> None:
    """An imported card has `in_channels` and `classes` among its arguments: other bands were refused, and other classes ended
    in an IndexError of the loss."""
    values = tables(tmp_path, "a", labels={"classes": [{"value": v, "name": n} for v, n in enumerate("abc")]})
    config = load_training(values | {"model": {"bands": ["red", "green", "nir"]}})
    known = replace(
        card_of("lite-unet", 2, 2, 16), bands=("red", "green"), quantities=("toa_reflectance", "boa_reflectance"),
        mean=(0.2, 0.3), std=(0.1, 0.2), arguments='{"base":4,"classes":1,"in_channels":2}',
    )  # fmt: skip
    first, ones = First(name="imported", card=known), (1.0, 1.0, 1.0)
    made = draft(config, first, config.model.bands, quantity="boa_reflectance", grids=(), mean=ones, std=ones)
    assert made.arguments == '{"base":4}'
    assert (made.mean, made.std) == ((0.2, 0.3, 1.0), (0.1, 0.2, 1.0))
    own = load_training(tables(tmp_path, "a", model={"arguments": {"classes": 1}}))
    with pytest.raises(ConfigError, match="has classes, which follows from the bands and classes; leave it out"):
        draft(own, First(name="nothing"), own.model.bands, quantity="dn", grids=(), mean=ones, std=ones)


def test_a_start_that_cannot_learn_is_refused_with_the_way_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    card = replace(card_of("onnx", 3, 2, 16), weights="0" * 64)
    monkeypatch.setattr("earthloom.jobs.learning.start.variants", lambda *_: [(card, ObjectRef.parse("/models/mine"))])
    with pytest.raises(
        CardError, match=r"of the kind onnx, which cannot be trained further; `earthloom distil /models/mine`"
    ):
        first_weights("/models/mine")


def test_a_finished_training_says_which_texts_of_its_card_are_those_of_before(tmp_path: Path) -> None:
    config = load_training(tables(tmp_path, "a", card={"license": "MIT", "title": "Meadows"}))
    card = replace(
        card_of("lite-unet", 3, 2, 16), license="MIT", title="Meadows", description="", citation="", version="1.0.0"
    )
    assert train._kept_texts(config, card) == ()
    ((_, text),) = train._kept_texts(config, replace(card, license="other", version="0.1"))
    assert text == "it was trained before, and its card keeps its license, version; edit them in card.json"
