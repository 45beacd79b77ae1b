from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path

import pytest

from earthloom.cluster.package import sent_package
from earthloom.jobs.learning.config import load_training
from earthloom.jobs.learning.seeds import carried, teacher_card
from earthloom.jobs.learning.start import first_weights
from earthloom.jobs.monitoring.aoi_file import read_area
from earthloom.jobs.operations.submit import models_named, pack
from earthloom.jobs.page.site import OWN, PAGE
from earthloom.models import zoo
from earthloom.models.cards.file import load_card
from earthloom.models.cards.weights import FILE, fetch
from earthloom.tiling.errors import CardError, ConfigError
from earthloom.tiling.storage.objects import ObjectRef

SHIPPED = "buildings"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    made = tmp_path / "job"
    made.mkdir()
    return made


def test_small_files_travel_and_other_paths_are_told_to_be_of_this_machine(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "night.toml").write_text("block = 512")
    (tmp_path / "lake.tif").touch()
    words = [
        "run",
        f"--config={tmp_path / 'night.toml'}",
        str(tmp_path / "lake.tif"),
        "s3://scenes/a.tif",
        "--model",
        "ndvi",
    ]
    parcel = pack(words, folder)
    config, scene, *rest = parcel.words[4:]
    assert parcel.words[:4] == ("python", "-m", "earthloom", "run")
    assert (folder / config.removeprefix("--config=")).read_text() == "block = 512"
    assert (scene, rest) == (str(tmp_path / "lake.tif"), ["s3://scenes/a.tif", "--model", "ndvi"])
    (note,) = parcel.notes
    assert "lake.tif is a path of this machine" in note


AREA = """
name = "lake"
  geometry = {}  # the shore
crs = "EPSG:32617"
gsd = 10
shard = 512
[[product]]
model = "ndvi"
scenes = "s3://scenes/geometry = 'x'.tif"
"""
SHORE = (
    '{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": '
    "[[[-83, 40], [-82.99, 40], [-82.99, 40.01], [-83, 40]]]}}"
)


@pytest.mark.parametrize("written", ["'outlines/lake shore.geojson'", '"outlines/lake shore.geojson"', '"{absolute}"'])
def test_the_outline_of_an_area_travels_with_its_file(folder: Path, tmp_path: Path, written: str) -> None:
    outline = tmp_path / "areas" / "outlines" / "lake shore.geojson"
    outline.parent.mkdir(parents=True)
    outline.write_text(SHORE)
    area = tmp_path / "areas" / "lake.toml"
    area.write_text(AREA.format(written.format(absolute=outline)))
    here = read_area(str(area))
    parcel = pack(["monitor", str(area), "--out", "s3://maps"], folder)
    shutil.rmtree(tmp_path / "areas")
    there = read_area(str(folder / parcel.words[4]))
    assert (there.outline, there.grid, there.products) == (here.outline, here.grid, here.products)
    assert there.outline is not None
    assert parcel.notes == ()


def test_an_outline_in_object_storage_or_too_large_to_travel(folder: Path, tmp_path: Path) -> None:
    area = tmp_path / "lake.toml"
    area.write_text(AREA.format('"s3://areas/lake.geojson"'))
    sent = folder / pack(["monitor", str(area)], folder).words[4]
    assert sent.read_text() == area.read_text()
    area.write_text(AREA.format('"large.geojson"'))
    with (tmp_path / "large.geojson").open("wb") as file:
        file.truncate(5 << 20)
    shutil.rmtree(folder / "given")
    with pytest.raises(ConfigError, match=r"large.geojson has 5242880 bytes"):
        pack(["monitor", str(area)], folder)


def test_what_is_too_large_to_travel_is_refused(folder: Path, tmp_path: Path) -> None:
    with (tmp_path / "large.geojson").open("wb") as file:
        file.truncate(5 << 20)
    with pytest.raises(ConfigError, match=r"5242880 bytes, more than the 4194304 .* give its s3:// address"):
        pack(["zonal", str(tmp_path / "large.geojson")], folder)


def test_credentials_go_with_it_by_name_unless_nodes_have_their_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    parcel = pack(["doctor"], folder)
    assert parcel.env == {"AWS_SECRET_ACCESS_KEY": "very-secret"}
    told = " ".join(parcel.notes)
    assert "AWS_PROFILE name files of this machine and were not sent" in told
    assert "AWS_SECRET_ACCESS_KEY; who may open the cluster's dashboard can read them" in told
    assert "very-secret" not in told
    shutil.rmtree(folder / "given")
    assert pack(["doctor"], folder, credentials=False).env == {}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A card folder of a user, with weights."""
    ((_, found), *_) = zoo.variants(SHIPPED)
    return shutil.copytree(found.path, tmp_path / "mine")


def test_a_folder_of_a_model_is_put_beside_the_results_and_named_there(
    folder: Path, tmp_path: Path, model: Path
) -> None:
    out = tmp_path / "out"
    words = ["run", "s3://scenes/a.tif", "--model", str(model), "--out", str(out)]
    parcel = pack(words, folder, models=[str(model)], out=str(out))
    card = load_card(ObjectRef.parse(str(model)))
    place = parcel.words[parcel.words.index("--model") + 1]
    assert place.endswith(f"/models/{card.weights}")
    ref = ObjectRef.parse(place)
    assert load_card(ref) == card
    assert (ref.path / FILE).read_bytes() == (model / FILE).read_bytes()
    (model / FILE).write_bytes(b"something else")
    shutil.rmtree(folder / "given")
    with pytest.raises(CardError, match="does not hold the weights"):
        pack(words, folder, models=[str(model)], out=str(out))


def test_weights_that_a_node_lacks_come_from_the_place_beside_the_results(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = load_card(ObjectRef.parse(str(model)))
    assert card.weights
    carried = ObjectRef.parse(str(tmp_path / "out" / "models"))
    shutil.copytree(model, carried.path / card.weights)
    nowhere = ObjectRef.parse(str(tmp_path / "nowhere"))
    with pytest.raises(CardError):
        fetch(nowhere, card.weights)
    path = fetch(nowhere, card.weights, spare=carried / card.weights)
    assert path.read_bytes() == (model / FILE).read_bytes()
    (model / FILE).write_bytes(b"an older one")
    assert fetch(ObjectRef.parse(str(model)), card.weights, spare=carried / card.weights) == path

    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path / "cache"))  # a node that has never seen the model
    monkeypatch.setattr(zoo, "_at_hand", lambda _: None)
    with pytest.raises(CardError, match="earthloom submit"):
        zoo.variants(SHIPPED)
    brought = {found.weights: ref for found, ref in zoo.variants(SHIPPED, carried)}
    assert (brought[card.weights].path / FILE).read_bytes() == path.read_bytes()


def test_what_is_uploaded_is_below_5_mib_and_holds_no_weights(tmp_path: Path) -> None:
    with sent_package() as package:
        files = [path for path in package.rglob("*") if path.is_file()]
        data = {path.relative_to(package).as_posix() for path in files if path.suffix != ".py"}
        own = {"py.typed", *(f"jobs/page/site/{name}" for name in (PAGE, *OWN))}
        assert data == own, "what drivers there need beside code: runs write the page"
        assert sum(path.stat().st_size for path in files) < 5 << 20
        assert (package / "models" / "zoo" / "__init__.py").is_file()


def test_weights_that_come_with_earthloom_go_beside_the_results_when_they_are_named(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["run", "s3://scenes/a.tif", "--model", SHIPPED, "--out", str(out)]
    parcel = pack(words, folder, models=[SHIPPED], out=str(out))
    assert parcel.words[3:] == tuple(words)
    wanted = {str(card.weights) for card, _ in zoo.variants(SHIPPED)}
    assert {path.name for path in (out / "models").iterdir()} == wanted
    assert all((out / "models" / name / FILE).is_file() for name in wanted)


_AREA = """name = "lake"
onto = "EPSG:32612,30m,360000,4420000,420000,4560000"
[[product]]
model = "mine+landwater"
scenes = "s3://scenes/"
options = { mask_clouds = true }
[[product]]
model = "snow@snow"
"""
_TRAINING = """name = "mine"
out = "s3://maps/mine"
[[scenes]]
scene = "s3://scenes/a.tif"
labels = "s3://scenes/a-labels.tif"
[labels]
classes = [{ value = 0, name = "land" }, { value = 1, name = "water" }]
[model]
start = "buildings"
[teacher]
model = "landwater"
[schedule]
steps = 10
"""


def test_the_models_are_found_that_each_command_computes_with(tmp_path: Path) -> None:
    run, area, training = (tmp_path / f"{name}.toml" for name in ("run", "area", "training"))
    run.write_text('scenes = "s3://scenes/"\nmodel = "landwater"\nout = "s3://maps"\nmask_clouds = true')
    area.write_text(_AREA)
    training.write_text(_TRAINING)
    named = ("cloudmask", "mine+landwater", "snow@snow")
    assert models_named("run", {"config": run, "model": (), "out": None}) == (("cloudmask", "landwater"), "s3://maps")
    assert models_named("watch", {"file": str(run), "out": None}) == (("cloudmask", "landwater"), "s3://maps")
    assert models_named("watch", {"file": str(area), "out": "s3://maps"}) == (named, "s3://maps")
    assert models_named("monitor", {"files": (str(area),), "out": "s3://maps"}) == (named, "s3://maps")
    wanted = ("buildings", "landwater"), "s3://maps/mine"
    assert models_named("train", {"file": training, "out": None}) == wanted
    assert models_named("tune", {"file": training, "out": None}) == wanted
    given = {"model": ("landwater",), "scenes": ("s3://scenes/a.tif",), "out": "s3://maps", "config": None}
    assert models_named("evaluate", given | {"labels": "l.tif"}) == (("landwater",), "s3://maps")
    assert models_named("explain", given) == (("landwater",), "s3://maps")
    assert models_named("distil", given | {"start": "buildings"}) == (("landwater", "buildings"), "s3://maps")
    assert models_named("watch", {"file": "/of/the/cluster.toml", "out": "s3://maps"}) == ((), "s3://maps")
    assert models_named("gc", {"out": "s3://maps"}) == ((), "s3://maps")


def test_a_file_that_travels_names_a_folder_of_a_model_where_it_lies_now(
    folder: Path, tmp_path: Path, model: Path
) -> None:
    area, out = tmp_path / "area.toml", tmp_path / "out"
    area.write_text(_AREA.replace("mine+landwater", str(model)).replace("snow@snow", "ndvi"))
    words = ["monitor", str(area), "--out", str(out)]
    models, _ = models_named("monitor", {"files": (str(area),), "out": str(out)})
    parcel = pack(words, folder, models=[word for word in models if word != "cloudmask"], out=str(out))
    (first, second) = read_area(str(folder / parcel.words[4])).products
    assert load_card(ObjectRef.parse(first.model[0])) == load_card(ObjectRef.parse(str(model)))
    assert first.model[0].startswith(f"file://{out}/models/") or first.model[0].startswith(f"{out}/models/")
    assert second.model == ("ndvi",)


def test_only_models_are_renamed_in_a_file_that_travels(
    folder: Path, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    run, out = tmp_path / "run.toml", tmp_path / "out"
    said = f'scene_id = "{model.name}"\nmodel = [\'{model.name}\', "ndvi"]\n'
    run.write_text(said)
    parcel = pack(["run", "a.tif", "--config", str(run)], folder, models=[model.name], out=str(out))
    found = tomllib.loads((folder / parcel.words[-1]).read_text())
    assert (found["scene_id"], found["model"][1]) == (model.name, "ndvi")
    assert load_card(ObjectRef.parse(found["model"][0])) == load_card(ObjectRef.parse(str(model)))


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_training_on_a_cluster_leaves_its_first_weights_and_its_teacher_where_nodes_find_them(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    training, out = tmp_path / "training.toml", tmp_path / "out"
    training.write_text(_TRAINING.replace("landwater", str(model)))
    config = load_training(training, out=str(out))
    first = first_weights(config.model.start, config.out)
    assert first.card
    bands = (*first.card.bands, *load_card(ObjectRef.parse(str(model))).bands)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert carried(config, first, bands, None) is config, "it stays on this machine"
    if by_variable:  # as in a job of Ray
        monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    there = carried(config, first, bands, None if by_variable else "head:6379")
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path / "cache"))  # a node that has never seen the models
    monkeypatch.setattr(zoo, "_at_hand", lambda _: None)
    model.rename(tmp_path / "on another machine")
    found = first_weights(there.model.start, there.out)
    assert (found.sha256, found.path != first.path) == (first.sha256, True)
    taught = teacher_card(there, bands)
    assert taught is not None
    assert fetch(taught[1], str(taught[0].weights)).is_file()


@pytest.mark.parametrize("by_path", [True, False], ids=["path", "name of a folder"])
def test_a_training_on_a_cluster_that_begins_from_a_folder_names_it_where_nodes_find_it(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, by_path: bool
) -> None:
    monkeypatch.chdir(model.parent)
    training, out = tmp_path / "training.toml", tmp_path / "out"
    training.write_text(
        _TRAINING.replace("buildings", str(model) if by_path else model.name).partition("[teacher]")[0]
        + "[schedule]\nsteps = 10\n"
    )
    config = load_training(training, out=str(out))
    first = first_weights(config.model.start, config.out)
    assert first.card
    there = carried(config, first, first.card.bands, "head:6379")
    model.rename(tmp_path / "on another machine")
    assert first_weights(there.model.start, there.out).sha256 == first.sha256
