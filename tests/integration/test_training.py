"""`earthloom train` from a file to a map: what comes out, that it goes on where it was killed, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import earthloom
from earthloom.jobs.command import main
from earthloom.jobs.learning.train import Trained
from earthloom.jobs.learning.training_file import to_toml
from earthloom.models.cards.file import load_card
from earthloom.models.cards.weights import read_header, sha256_of
from earthloom.tiling.errors import CardError, ConfigError, SceneError
from earthloom.tiling.storage.objects import ObjectRef
from infra.s3_server import Server
from tests.jobs.learning.meadows import meadow, tables

pytestmark = pytest.mark.usefixtures("unmeasured_memory")

ROOT = Path(__file__).resolve().parents[2]
RUN = {"executor": "local", "shard": 512, "block": 512, "core": 256, "scale": 1e-4, "quantity": "reflectance"}


def laid_out(folder: Path) -> dict[str, Any]:
    """A training that takes seconds and learns something: two places, the second judges."""
    meadow(folder, "north")
    meadow(folder, "south", seed=1, at_px=(0, 3000))
    values = tables(
        folder,
        "north",
        "south",
        split={"by": "scene", "validation": 0, "test": ["south"]},
        schedule={"steps": 40, "batch": 4},
    )
    values["split"].pop("block_px")
    return values


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Mapping[str, Any], Trained]:
    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("earthloom.models.measuring.measure._bytes_per_px", lambda *_: 300.0)
        values = laid_out(folder)
        return values, earthloom.train(values)


def test_what_comes_out_is_a_card_folder_that_maps_a_scene(
    made: tuple[Mapping[str, Any], Trained], tmp_path: Path
) -> None:
    values, trained = made
    south = Path(values["scenes"][1]["scene"])
    result = earthloom.run(south, model=trained.out, out=tmp_path / "maps", bands="red=1,green=2,nir=3", **RUN)
    assert result.exit_code == 0
    with rasterio.open(tmp_path / "maps" / result.results["south"].prefix / "meadows.tif") as found:
        classes = found.read(1)
    with rasterio.open(south.with_name("south_labels.tif")) as dataset:
        labels = dataset.read(1)
    known = labels != 255
    assert (classes[known] == labels[known]).mean() > 0.9
    counts = trained.record["seeds"][0]["test"]["confusion"]
    wanted = [[int(((labels == a) & (classes == b)).sum()) for b in (0, 1)] for a in (0, 1)]
    assert counts == wanted, "what judged it is what `run` publishes"


def test_the_card_has_its_halo_its_scores_and_its_record(made: tuple[Mapping[str, Any], Trained]) -> None:
    _, trained = made
    folder = Path(trained.out)
    card = load_card(ObjectRef.parse(trained.out))
    assert card == trained.card
    assert card.weights == sha256_of(folder / "weights.safetensors")
    assert card.record == sha256_of(folder / "record.json")
    assert (card.bands, card.quantities, card.gives) == (("red", "green", "nir"), ("reflectance",), ("soil", "grass"))
    assert card.halo_px is not None
    record = json.loads((folder / "record.json").read_bytes())
    proof = record["tiling"]["tiled_is_whole"]
    assert proof["identical"] or proof["flips"] < 0.0005
    assert record["calibration"] is None, "there is no validation part"
    (seed,) = record["seeds"]
    assert dict(card.scores) == seed["test"]["scores"]
    assert seed["test"]["least_distance_px"] == 3000 - 159, "from the last row of one place to the first of the other"
    assert record["data"]["scenes"][0]["files"][0]["identity"].startswith("sha256:")
    assert [scene["pixels"]["test"] > 0 for scene in record["data"]["scenes"]] == [False, True]
    item = json.loads((folder / "card.json").read_bytes())
    assert item["assets"]["record"]["href"] == "./record.json"


def test_the_tensorboard_log_opens_and_has_the_curve(made: tuple[Mapping[str, Any], Trained]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (log,) = Path(made[1].out).glob("training/*/log/seed-0")
    events = EventAccumulator(str(log))
    events.Reload()
    losses = [event.value for event in events.Scalars("train/loss")]
    assert len(losses) == 4
    assert losses[-1] < losses[0]


def test_a_training_that_is_done_is_left_as_it_is(made: tuple[Mapping[str, Any], Trained]) -> None:
    values, trained = made
    before = {path: path.stat().st_mtime_ns for path in Path(trained.out).rglob("*") if path.is_file()}
    again = earthloom.train(values)
    assert again.was_there
    assert again.record == trained.record
    assert {path: path.stat().st_mtime_ns for path in Path(trained.out).rglob("*") if path.is_file()} == before


def test_weights_that_were_damaged_are_made_again(made: tuple[Mapping[str, Any], Trained], tmp_path: Path) -> None:
    values, trained = made
    copy = shutil.copytree(trained.out, tmp_path / "model")
    file = copy / "weights.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    again = earthloom.train({**values, "out": str(copy)})
    assert not again.was_there
    assert file.read_bytes() == whole
    assert load_card(ObjectRef.parse(str(copy))) == trained.card


def test_a_folder_that_holds_another_model_is_not_overwritten_unasked(made: tuple[Mapping[str, Any], Trained]) -> None:
    values, trained = made
    with pytest.raises(ConfigError, match="holds meadows, which another training or program made"):
        earthloom.train({**values, "seed": 7})
    assert load_card(ObjectRef.parse(trained.out)) == trained.card


def test_fine_tuning_starts_where_the_card_stands(made: tuple[Mapping[str, Any], Trained], tmp_path: Path) -> None:
    values, trained = made
    model = {"start": trained.out, "bands": ["nir", "red", "green"], "crop_px": 32}
    tuned = earthloom.train(
        {**values, "out": str(tmp_path / "tuned"), "model": model,
         "schedule": values["schedule"] | {"steps": 1, "rate": 1e-9, "freeze_steps": 1}}
    )  # fmt: skip
    assert tuned.card.architecture == "ukis-unet"
    by_band = dict(zip(trained.card.bands, trained.card.mean, strict=True))
    assert tuned.card.mean == tuple(by_band[band] for band in ("nir", "red", "green"))
    was, now = (each.record["seeds"][0]["test"]["scores"]["iou"] for each in (trained, tuned))
    assert abs(was - now) < 0.01
    assert "tensors were taken over" in tuned.record["start"]["found"]


@pytest.mark.long
@pytest.mark.slow
def test_seeds_are_repeated_and_their_mean_and_spread_reported(tmp_path: Path) -> None:
    values = laid_out(tmp_path)
    trained = earthloom.train({**values, "seeds": 3, "schedule": values["schedule"] | {"steps": 6}})
    ious = [seed["test"]["scores"]["iou"] for seed in trained.record["seeds"]]
    found = trained.record["test"]["iou"]
    assert [seed["seed"] for seed in trained.record["seeds"]] == [0, 1, 2]
    assert found["mean"] == pytest.approx(np.mean(ious), abs=1e-4)
    assert found["sd"] == pytest.approx(np.std(ious, ddof=1), abs=1e-4)
    assert found["ci95"] == pytest.approx(4.303 * np.std(ious, ddof=1) / np.sqrt(3), abs=2e-4)


@pytest.mark.long
def test_it_ends_early_and_keeps_the_best_weights_when_validation_gets_no_better(tmp_path: Path) -> None:
    values = laid_out(tmp_path)
    values["scenes"] = values["scenes"][:1]
    values["split"] = {"by": "block", "block_px": 64, "validation": 0.3, "test": 0}
    values["schedule"] |= {"steps": 60, "validate_steps": 2, "patience": 2, "rate": 0.3}
    record = earthloom.train(values).record["seeds"][0]
    looks = record["validation"]["looks"]
    scores = [look["score"] for look in looks]
    best = int(np.argmax(scores))
    assert record["steps"] == looks[-1]["step"] < 60
    assert len(scores) == best + 3
    assert record["kept_step"] == looks[best]["step"]


@pytest.mark.s3
@pytest.mark.usefixtures("s3_env")
@pytest.mark.long
def test_data_and_model_may_lie_in_a_bucket(s3: Server, tmp_path: Path) -> None:
    import boto3

    values = laid_out(tmp_path)
    client = boto3.client(
        "s3", endpoint_url=s3.endpoint, aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key,
        region_name="us-east-1",
    )  # fmt: skip
    for path in tmp_path.glob("*.tif"):
        client.put_object(Bucket="scenes", Key=f"training/{path.name}", Body=path.read_bytes())
    for scene in values["scenes"]:
        scene["scene"] = f"s3://scenes/training/{Path(scene['scene']).name}"
        scene["labels"] = "s3://scenes/training/{id}_labels.tif"
    values |= {"out": "s3://outputs/models/meadows", "schedule": values["schedule"] | {"steps": 4}}
    trained = earthloom.train(values)
    assert load_card(ObjectRef.parse("s3://outputs/models/meadows")) == trained.card
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="outputs", Prefix="models/meadows/")["Contents"]]
    assert any("events.out" in key for key in keys)
    local = earthloom.train(laid_out(tmp_path) | {"schedule": values["schedule"]})
    assert local.card.weights == trained.card.weights, "where data lies changes nothing"


def test_the_command_prints_what_it_made_and_json_for_machines(
    made: tuple[Mapping[str, Any], Trained], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values, trained = made
    file = tmp_path / "meadows.toml"
    file.write_text(to_toml(values))
    assert tomllib.loads(file.read_text())["schedule"] == values["schedule"]
    main(["train", str(file)])
    told = capsys.readouterr()
    assert told.out.strip() == trained.out
    assert "trained already" in told.err
    assert "tested on" in told.err
    main(["train", str(file), "--json"])
    assert json.loads(capsys.readouterr().out)["weights"] == trained.card.weights


def test_what_cannot_be_trained_is_refused_before_data_is_read(tmp_path: Path) -> None:
    values = laid_out(tmp_path)
    with pytest.raises(CardError, match="did you mean 'unet'"):
        earthloom.train({**values, "model": values["model"] | {"architecture": "unett"}})
    with pytest.raises(ConfigError, match="'crop_px=40' is not a multiple of the network's stride 16; use 48"):
        earthloom.train({**values, "model": values["model"] | {"crop_px": 40}})
    with pytest.raises(ConfigError, match=r"`schedule.metric=iou_gras` is none of iou, iou_soil, iou_grass"):
        earthloom.train({**values, "schedule": values["schedule"] | {"metric": "iou_gras"}})
    with pytest.raises(SceneError, match="the model needs red, swir22, nir but the scene has"):
        earthloom.train({**values, "model": values["model"] | {"bands": ["red", "swir22", "nir"]}})
    without = [
        {key: value for key, value in scene.items() if key not in ("scale", "quantity")} for scene in values["scenes"]
    ]
    with pytest.raises(SceneError, match="nothing says what its values mean"):
        earthloom.train({**values, "scenes": without})
    assert not (tmp_path / "model").exists() or not list((tmp_path / "model").glob("*.json"))


@pytest.mark.slow
@pytest.mark.parametrize("kills", [pytest.param(3, marks=pytest.mark.long), pytest.param(10, marks=pytest.mark.chaos)])
def test_kills_at_random_moments_end_in_the_bytes_of_an_undisturbed_training(tmp_path: Path, kills: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.training", str(tmp_path), "7", str(kills)], cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert len(told["struck"]) == kills
    assert any("step-" in place for place in told["struck"]), "kills strike in the middle of the training"
    assert told["found"] == told["wanted"]
    assert not [name for name in told["left"] if name.startswith(("step-", "best-"))]


def test_weights_keep_every_bit(made: tuple[Mapping[str, Any], Trained]) -> None:
    header = read_header(Path(made[1].out) / "weights.safetensors")
    assert {tensor["dtype"] for tensor in header.values()} <= {"F32", "I64"}
