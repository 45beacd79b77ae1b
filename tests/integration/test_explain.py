"""`earthloom explain`: images of whole scenes that equal what the network says directly, however they are cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner

import earthloom
from earthloom.jobs.command import cli
from earthloom.jobs.learning import explain as module
from earthloom.jobs.learning.explain import _explained, explained_card, fitted
from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import write_card
from earthloom.models.networks import registry
from earthloom.tiling.errors import CardError, ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from tests.maps import SMALL, published
from tests.models.nets import TinyNet, card_of, seeded
from tests.scenes import landscape, write_scene


@pytest.fixture(scope="module", autouse=True)
def _tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.REGISTRY, "tiny", TinyNet)
        yield


@pytest.fixture(scope="module")
def folder(_tiny: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card folder with a small network of random weights, and a scene with a hole."""
    base = tmp_path_factory.mktemp("explain")
    card = replace(
        card_of("tiny", 2, 3, 2), name="sample", core_px=128, halo_px=4, support_px=4,
        memory=(("fp32", 1500.0),), flop_per_px=1000.0,
    )  # fmt: skip
    case = seeded(card, base / "card")
    write_card(base / "card", case.card)
    pixels = landscape(600, 300, 2)
    pixels[:, 40:80, 100:300] = 0
    write_scene(base / "s.tif", pixels, ("band0", "band1"), nodata=0)
    return base


@pytest.fixture(autouse=True)
def _unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peaks of processes that are not started: 4000 bytes per chip pixel."""
    monkeypatch.setattr(module, "peak_bytes", lambda *given: 10**8 + 4000 * given[3] ** 2)


def explain(folder: Path, out: Path, **options: Any) -> list[Any]:
    return earthloom.explain(folder / "s.tif", model=str(folder / "card"), out=out, **(SMALL | options))


def image_of(made: Any) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    (summary,) = made.run.results.values()
    (name,) = summary.rasters
    with rasterio.open(Path(made.run.out) / summary.prefix / name) as cog:
        return cog.read(), {
            "nodata": cog.nodata,
            "names": cog.descriptions,
            "scales": cog.scales,
            "offsets": cog.offsets,
        }


def network(folder: Path) -> tuple[ModelCard, torch.nn.Module, torch.Tensor]:
    """The card, its network, and the whole scene as one chip without borders, 0 in the hole."""
    from earthloom.models.cards.file import load_card
    from earthloom.tiling.storage.objects import ObjectRef

    card = load_card(ObjectRef.parse(str(folder / "card")))
    net = registry.build(card).eval()
    weights.load_into(net, folder / "card" / weights.FILE, card.weights or "")
    with rasterio.open(folder / "s.tif") as scene:
        raw = scene.read().astype(np.float32)
    chip = torch.from_numpy(np.where(raw > 0, (raw * 1e-4 - 0.25) / 0.1, 0).astype(np.float32))[None]
    return card, net, chip


def test_images_are_what_the_network_says_of_the_scene(folder: Path, tmp_path: Path) -> None:
    entropy, occlusion = explain(folder, tmp_path, what=("entropy", "occlusion"), of_class="class_1")
    _, net, chip = network(folder)
    with torch.no_grad():
        p = torch.softmax(net(chip).double(), dim=1)[0]
        fall = [p[1] - torch.softmax(net(chip * torch.tensor(keep).reshape(1, 2, 1, 1)).double(), dim=1)[0, 1]
                for keep in ((0.0, 1.0), (1.0, 0.0))]  # fmt: skip
    inner = np.s_[8:-8, 8:-8]  # the reference has other borders
    stored, about = image_of(entropy)
    assert (about["nodata"], about["names"]) == (0, ("entropy",))
    hole = np.zeros((300, 600), bool)
    hole[40:80, 100:300] = True
    assert ((stored[0] == 0) == hole).all()
    expected = (torch.special.entr(p).sum(dim=0) / np.log(3)).numpy()[inner]
    found = (stored[0] * about["scales"][0] + about["offsets"][0])[inner]
    known = ~hole[inner]
    np.testing.assert_allclose(found[known], expected[known], atol=0.51 / 254)
    stored, about = image_of(occlusion)
    assert (stored.dtype, about["names"]) == (np.float32, ("attribution_band0", "attribution_band1"))
    assert (np.isnan(stored) == hole).all()
    for band, expected in zip(stored, fall, strict=True):
        np.testing.assert_allclose(band[inner][known], expected.numpy()[inner][known], atol=1e-5)
    assert occlusion.bands == pytest.approx(
        {f"band{n}": float(np.sqrt(np.nanmean(stored[n].astype(float) ** 2))) for n in (0, 1)}, rel=1e-4
    )
    assert entropy.bands == {}


def test_no_pixel_depends_on_how_a_scene_is_cut_or_when_it_is_done(folder: Path, tmp_path: Path) -> None:
    what = ("spread", "gradients")
    first = explain(folder, tmp_path / "a", what=what, steps=2)
    explain(folder, tmp_path / "b", what=what, steps=2, block=1024, batch=2)
    assert published(tmp_path / "a") == published(tmp_path / "b")
    assert {name.partition("/")[0] for name in published(tmp_path / "a")} == {"scenes"}
    assert [made.run.exit_code for made in first] == [0, 0]
    again = explain(folder, tmp_path / "a", what=what, steps=2)
    assert {state.status for made in again for state in made.run.scenes.values()} == {"already published"}


def test_the_command_prints_what_matters(folder: Path, tmp_path: Path) -> None:
    arguments = ["explain", str(folder / "card"), str(folder / "s.tif"), "--what", "occlusion", "--out", str(tmp_path)]
    for name, value in SMALL.items():
        arguments += [f"--{name}", str(value)]
    shown = CliRunner().invoke(cli, arguments)
    assert shown.exit_code == 0, shown.output
    assert "sample-occlusion.tif" in shown.stdout
    assert "band1" in shown.stdout
    told = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert told["occlusion"]["bands"].keys() == {"band0", "band1"}
    assert told["occlusion"]["scenes"]["s"]["status"] == "already published"


def test_a_class_whose_name_no_folder_may_have_is_called_by_its_value() -> None:
    """`of_class=Bare soil / rock` was refused with an error about the card's own name."""
    card = replace(card_of("lite-unet", 3, 2, 16), halo_px=32, memory=(("fp32", 100.0),))
    rock, water = (
        replace(each, name=name) for each, name in zip(card.classes, ("Bare soil / rock", "Open water"), strict=True)
    )
    named = replace(card, classes=(rock, water))
    assert [explained_card(named, "occlusion", target=value).name for value in (0, 1)] == [
        "made-occlusion-class_0", "made-occlusion-open_water",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"model": "denoise"}, ConfigError, r"what is explained is a map of classes"),
        ({"of_class": "water"}, ConfigError, r"`of_class=water`: sample knows class_0, class_1, class_2"),
        ({"what": "magic"}, ConfigError, r"what"),
        ({"model": "{card}+{card}"}, ConfigError, r"sample\+sample is an ensemble.*explain its members one by one"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    folder: Path, tmp_path: Path, words: dict[str, Any], error: type[Exception], message: str
) -> None:
    options = SMALL | {"model": str(folder / "card")} | words
    options["model"] = options["model"].replace("{card}", str(folder / "card"))
    with pytest.raises(error, match=message):
        earthloom.explain(folder / "s.tif", out=tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_network_with_global_context_is_refused(folder: Path, tmp_path: Path) -> None:
    card, *_ = network(folder)
    blended = tmp_path / "card"
    blended.mkdir()
    (blended / weights.FILE).write_bytes((folder / "card" / weights.FILE).read_bytes())
    write_card(blended, replace(card, overlap="blend"))
    with pytest.raises(CardError, match=r"sample: its chips are cross-faded.*`earthloom distil sample` makes"):
        earthloom.explain(folder / "s.tif", model=str(blended), out=tmp_path / "out", **SMALL)


def test_a_network_that_is_a_program_is_refused() -> None:
    chain = SimpleNamespace(stages=[SimpleNamespace(cards=("one",))], main=0, folders=())
    card = replace(card_of("onnx", 2, 3, 16), halo_px=32)
    chain.folders = ((card.digest(), ObjectRef.parse("/nowhere")),)
    with pytest.raises(CardError, match=r"is a program \(onnx\).*bring its weights as safetensors"):
        _explained((SimpleNamespace(card=card, chain=chain),))  # type: ignore[arg-type]


def test_the_halo_covers_all_that_an_explanation_sees_where_memory_allows() -> None:
    card = replace(card_of("lite-unet", 2, 3, 16), halo_px=32, support_px=70, core_px=1024, memory=(("fp32", 100.0),))

    def chips(what: str, per_px: float = 900.0, **changes: Any) -> tuple[int | None, int]:
        made = fitted(replace(explained_card(replace(card, **changes), what), memory=(("fp32", per_px),)))
        return made.halo_px, made.core_px

    assert {what: chips(what) for what in ("entropy", "spread", "occlusion")} == dict.fromkeys(
        ("entropy", "spread", "occlusion"), (80, 1024)
    )
    assert chips("gradients") == (144, 1024)
    assert chips("gradients", 3000.0) == (144, 512)
    assert chips("gradients", 9000.0) == (64, 256), "a chip with its whole halo would not fit"
    assert (chips("entropy", support_px=None), chips("gradients", support_px=None)) == ((32, 1024), (64, 1024))
    assert explained_card(card, "gradients", target=2).name == "made-gradients-class_2"
