from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file

from earthloom.jobs.command import main
from earthloom.jobs.config import check
from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import FILE, load_card
from earthloom.models.cards.weights import sha256_of
from earthloom.models.device.resolve import Device
from earthloom.models.importing.importing import import_model
from earthloom.models.importing.options import ImportOptions
from earthloom.models.measuring import measure, peak_memory
from earthloom.models.measuring.measure import agreement_at
from earthloom.models.networks.torchscript_net import TRUST
from earthloom.models.networks.torchvision_ops import define_missing_ops
from earthloom.tiling.errors import CardError, ConfigError, StorageError
from earthloom.tiling.storage.objects import ObjectRef
from tests.models.nets import BF16, CPU, Case, MakesFolder, TinyNet, stack_of
from tests.models.onnx_files import BANDS, CLASSES, tiny, tiny_onnx, with_outside_weights
from tests.scenes import landscape

pytestmark = pytest.mark.usefixtures("tiny_registry")
pytest.importorskip("onnxruntime")

OPTIONS = ImportOptions(
    bands=BANDS, quantity=("reflectance",), classes=CLASSES, mean=(0.25, 0.25), std=(0.1, 0.1), stride=2, halo=8
)
SMP = '{"arch":"unet","decoder_channels":[16,8,8],"encoder_depth":3,"encoder_name":"resnet18"}'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(TRUST, raising=False)
    return tmp_path / "cache"


def imported(source: Path, **changes: Any) -> Case:
    card, folder = import_model(source, check(ImportOptions, {**OPTIONS.model_dump(), **changes}))
    assert load_card(ObjectRef.parse(str(folder))) == card
    return Case(card, weights.find(folder))


def chips(count: int = 1, side: int = 64) -> torch.Tensor:
    return torch.randn(count, len(BANDS), side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_an_onnx_graph_answers_as_the_network_that_it_came_from(tmp_path: Path, layout: str) -> None:
    case = imported(tiny_onnx(tmp_path / "tiny.onnx", layout=layout), layout=layout)
    x = chips(3)
    with torch.inference_mode():
        np.testing.assert_allclose(case.predictor().module(x).numpy(), tiny()(x).numpy(), atol=1e-5)
    assert (case.card.name, case.card.overlap, case.card.halo_px) == ("tiny", "exact", 8)


def test_tiles_of_an_onnx_graph_fit_without_a_seam_when_its_halo_covers_what_it_sees(tmp_path: Path) -> None:
    case = imported(tiny_onnx(tmp_path / "tiny.onnx"))
    values = landscape(160, 130, len(BANDS))
    found = agreement_at(case.predictor(batch=4), 8, 64, stack_of(values))
    assert found.flips == 0
    assert not agreement_at(case.predictor(), 0, 64, stack_of(values)).identical


def test_neither_batch_nor_threads_nor_precision_change_a_bit_of_an_onnx_graph(tmp_path: Path) -> None:
    case = imported(tiny_onnx(tmp_path / "tiny.onnx"))
    x = chips(5, 128)
    with torch.inference_mode():
        torch.set_num_threads(1)
        one = case.predictor().module(x)
        torch.set_num_threads(2)
        assert torch.equal(case.predictor(BF16).module(x), one)
        assert torch.equal(torch.cat([case.predictor().module(chip[None]) for chip in x]), one)
    assert case.predictor(BF16)._dtype == torch.float32


def test_without_a_halo_the_chips_of_a_graph_are_blended(tmp_path: Path) -> None:
    card = imported(tiny_onnx(tmp_path / "tiny.onnx"), halo=None).card
    assert (card.overlap, card.core_px, card.halo_px) == ("blend", 512, 64)


@pytest.mark.parametrize(
    ("halo_px", "tiling"), [(None, ("blend", 128, 64)), (64, ("exact", 128, 64)), (96, ("exact", 64, 96))]
)
def test_a_graph_of_one_size_decides_its_chips(
    tmp_path: Path, halo_px: int | None, tiling: tuple[str, int, int]
) -> None:
    case = imported(tiny_onnx(tmp_path / "tiny.onnx", side_px=256), halo=halo_px)
    assert (case.card.overlap, case.card.core_px, case.card.halo_px) == tiling
    with pytest.raises(CardError, match="chips of 256 x 256 px only, got 64 x 64"):
        case.predictor().module(chips())


def test_a_graph_of_one_size_is_measured_by_its_own_chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def peak(_card: ModelCard, _weights: Path | None, _device: Device, side_px: int) -> int:
        asked.append(side_px)
        return 300_000_000 + 80 * side_px**2

    monkeypatch.setattr(peak_memory, "peak_bytes", peak)
    case = imported(tiny_onnx(tmp_path / "tiny.onnx", side_px=256), halo=64)
    found = measure.measure(case.card, case.path, CPU, stack_of(landscape(300, 300, len(BANDS))))
    assert found.card.memory == (("fp32", 80.0),)
    assert set(asked) == {0, 256}, "it takes chips of no other size"
    assert found.agreement is None, "it answers no whole scene that chips could be compared with"


def test_a_graph_of_one_size_names_the_halos_that_work(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"leave `halo` 0 or 64 or 96 .*got 40"):
        imported(tiny_onnx(tmp_path / "tiny.onnx", side_px=256), halo=40)


_POOL = (helper.make_node("GlobalAveragePool", ["x0"], ["pool"]), helper.make_node("Mul", ["x0", "pool"], ["x"]))


@pytest.mark.parametrize(
    ("graph", "changes", "message"),
    [
        ({"opset": 5}, {}, "opset 5; 7 to 26 are read"),
        ({"domain": "com.microsoft"}, {}, "com.microsoft.Conv, which the ONNX standard does not know"),
        ({"elem_type": TensorProto.FLOAT16}, {}, "does not hold float32"),
        ({"n_outputs": 2}, {}, "1 inputs and 2 outputs|breaks the standard"),
        ({}, {"stride": 1}, "reduce the image 2 times"),
        ({}, {"stride": None}, "give `stride`"),
        ({}, {"bands": ("red", "nir", "blue"), "mean": None, "std": None}, "takes 2 bands, the card names 3"),
        ({}, {"classes": ("a", "b")}, "gives 3 classes, the card names 2"),
        ({"layout": "nhwc"}, {}, "`layout=nhwc`"),
        ({"before": _POOL}, {}, "looks at the whole chip.*leave out `halo=8`"),
        ({}, {"name": "../up"}, "name and variant become folder names"),
    ],
)
def test_a_graph_that_cannot_be_used_says_why(
    tmp_path: Path, cache: Path, graph: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CardError, match=message):
        imported(tiny_onnx(tmp_path / "tiny.onnx", **graph), **changes)
    assert not list(cache.rglob("*.onnx"))


def test_a_graph_with_global_pooling_is_blended(tmp_path: Path) -> None:
    assert imported(tiny_onnx(tmp_path / "tiny.onnx", before=_POOL), halo=None).card.overlap == "blend"


def test_a_graph_that_points_to_another_file_is_refused_at_import_and_at_run_time(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"first.weight lies in another file"):
        imported(with_outside_weights(tmp_path / "evil.onnx"))
    case = imported(tiny_onnx(tmp_path / "tiny.onnx"))
    path = with_outside_weights(tmp_path / weights.ONNX_FILE)
    with pytest.raises(CardError, match="lies in another file"):
        Case(replace(case.card, weights=sha256_of(path)), path).predictor()


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_a_graph_that_was_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    path = tiny_onnx(tmp_path / "tiny.onnx")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CardError, match=r"not an ONNX file|opset 0|breaks the standard|inputs"):
        imported(path)


def test_the_inside_of_a_graph_is_not_measured_but_the_way_out_is_told(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="cannot be measured; give `halo`"):
        imported(tiny_onnx(tmp_path / "tiny.onnx")).predictor().module(chips().requires_grad_())


def test_an_imported_graph_is_pinned_by_its_sha256(tmp_path: Path) -> None:
    case = imported(tiny_onnx(tmp_path / "tiny.onnx"))
    assert case.path is not None
    assert weights.fetch(ObjectRef.parse(str(case.path.parent)), case.card.weights or "") == case.path
    data = bytearray(case.path.read_bytes())
    data[-1] ^= 1
    case.path.write_bytes(data)
    with pytest.raises(CardError, match="changed or damaged"):
        case.predictor()


def test_the_item_says_what_kind_of_file_the_network_is(tmp_path: Path) -> None:
    case = imported(tiny_onnx(tmp_path / "tiny.onnx"))
    assert case.path is not None
    item = pystac.Item.from_dict(json.loads((case.path.parent / FILE).read_text()))
    assert item.properties["mlm:framework"] == "ONNX"
    assert item.properties["mlm:total_parameters"] == sum(p.numel() for p in tiny().parameters()) + 4
    assert item.assets["weights"].href == "./weights.onnx"
    assert item.assets["weights"].media_type == "application/onnx"


@pytest.mark.parametrize("wrap", ["plain", "lightning", "parallel", "safetensors"])
def test_a_state_dict_is_taken_however_a_training_loop_wrapped_it(tmp_path: Path, wrap: str) -> None:
    state = tiny().state_dict()
    source = tmp_path / f"tiny.{'safetensors' if wrap == 'safetensors' else 'pth'}"
    if wrap == "safetensors":
        save_file(state, source)
    elif wrap == "lightning":
        torch.save({"state_dict": {f"model.{name}": value for name, value in state.items()}, "epoch": 3}, source)
    else:
        torch.save({f"{'module.' if wrap == 'parallel' else ''}{n}": value for n, value in state.items()}, source)
    case = imported(source, architecture="tiny", halo=None)
    assert case.path is not None
    assert (case.path.name, case.card.halo_px) == (weights.FILE, None)
    with torch.inference_mode():
        assert torch.allclose(case.predictor().module(chips()), tiny()(chips()), atol=1e-5)


def unet() -> Any:
    define_missing_ops()
    import segmentation_models_pytorch as smp

    return smp.Unet(
        "resnet18", encoder_depth=3, encoder_weights=None, decoder_channels=(16, 8, 8), in_channels=2, classes=3
    )


def test_a_state_dict_of_smp_knows_its_stride(tmp_path: Path) -> None:
    torch.save(unet().state_dict(), tmp_path / "unet.pt")
    card = imported(tmp_path / "unet.pt", architecture="smp", arguments=SMP, stride=None, halo=None).card
    assert card.stride_px == 8


def test_a_folder_of_save_pretrained_is_taken_with_its_classes(tmp_path: Path) -> None:
    unet().save_pretrained(tmp_path / "unet")
    case = imported(tmp_path / "unet", stride=None, halo=None)
    assert [c.name for c in case.card.classes] == list(CLASSES)
    assert (case.card.stride_px, case.card.mean) == (8, (0.25, 0.25))
    with pytest.raises(CardError, match="`stride=16`, but this network's is 8"):
        imported(tmp_path / "unet", stride=16)


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path) -> None:
    torch.save({"a": MakesFolder(tmp_path / "made")}, tmp_path / "evil.pth")
    with pytest.raises(CardError, match="only tensors are read"):
        imported(tmp_path / "evil.pth", architecture="tiny")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("net.pth", {}, "a state dict does not say which network"),
        ("net.pt2", {}, "is a program and could do anything"),
        ("net.h5", {}, "no model that can be imported"),
        ("net.pth", {"architecture": "tiny", "arguments": "[]"}, "must be a JSON object"),
        ("net.pth", {"architecture": "nothing"}, "unknown architecture"),
        ("net.pth", {"architecture": "tiny"}, "no state dict"),
        ("absent.onnx", {}, "does not exist"),
    ],
)
def test_what_cannot_be_imported_says_what_can(
    tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    if not name.startswith("absent"):
        (tmp_path / name).write_bytes(b"not a network")
    with pytest.raises(CardError, match=message):
        imported(tmp_path / name, **changes)


def program(path: Path) -> Path:
    if path.suffix == ".pt2":
        side = torch.export.Dim("half", min=8, max=1024) * 2
        other = torch.export.Dim("other", min=8, max=1024) * 2
        torch.export.save(torch.export.export(tiny(), (chips(),), dynamic_shapes=({2: side, 3: other},)), path)
    else:
        script: Any = torch.jit.script(tiny())
        script.save(str(path))
    return path


@pytest.mark.parametrize("name", ["tiny.pt", "tiny.pt2"])
def test_a_program_runs_only_where_an_operator_vouched_for_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = program(tmp_path / name)
    with pytest.raises(CardError, match="nothing was run"):
        imported(source, trust_code="0" * 64)
    case = imported(source, trust_code=sha256_of(source))
    assert TRUST not in os.environ
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("the program was loaded"))
    with pytest.raises(CardError, match=f"it is not in {TRUST}"):
        case.predictor()
    monkeypatch.undo()
    monkeypatch.setenv(TRUST, f"{'1' * 64}, {sha256_of(source)}")
    with torch.inference_mode():
        assert torch.allclose(case.predictor(BF16).module(chips(2)), tiny()(chips(2)), atol=1e-6)


class Stubborn(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, 3, 5, 7)


def test_a_program_that_fails_on_its_trial_says_on_what(tmp_path: Path) -> None:
    script: Any = torch.jit.script(Stubborn())
    script.save(str(tmp_path / "stubborn.pt"))
    with pytest.raises(CardError, match=r"fails on a chip of \(1, 2, 1040, 1040\)"):
        imported(tmp_path / "stubborn.pt", trust_code=sha256_of(tmp_path / "stubborn.pt"))


def test_a_program_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"PK nothing")
    with pytest.raises(CardError, match=r"not a TorchScript or torch\.export archive"):
        imported(tmp_path / "x.pt", trust_code=sha256_of(tmp_path / "x.pt"))


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    source = tiny_onnx(tmp_path / "tiny.onnx")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(CardError, match="is there already"):
        import_model(source, OPTIONS, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    import_model(source, OPTIONS, tmp_path / "empty")
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == [FILE, weights.ONNX_FILE]
    assert not list(tmp_path.glob(".earthloom-*"))


def test_a_place_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="choose another `to`"):
        import_model(tiny_onnx(tmp_path / "tiny.onnx"), OPTIONS, tmp_path / "file" / "below")


def test_the_network_is_tried_before_anything_is_kept(tmp_path: Path, cache: Path) -> None:
    state = tiny().state_dict()
    state["head.bias"][0] = torch.nan
    torch.save(state, tmp_path / "sick.pth")
    with pytest.raises(CardError, match="NaN"):
        imported(tmp_path / "sick.pth", architecture="tiny")
    assert not list(cache.rglob(FILE))


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("bands", "red,,nir", "`bands`: 'red,,nir' is not a list of different names"),
        ("classes", "a,a", "`classes`: 'a,a' is not a list of different names"),
        ("mean", "0.1;0.2", "`mean`: '0.1;0.2' is not a list of numbers"),
        ("gsd", "60,8", "`gsd`: .*60.*8.* is neither a distance in metres nor a range"),
        ("gsd", "1,2,3", "`gsd`: .*at most 2 items"),
        ("quantity", "brightness", "`quantity` must be 'toa_reflectance'.*got 'brightness'"),
    ],
)
def test_an_option_of_the_wrong_form_is_named(option: str, text: str, message: str) -> None:
    given = {"bands": "red,nir", "quantity": "reflectance", "classes": "a,b"}
    assert check(ImportOptions, given | {"gsd": "10"}).gsd == (10.0, 10.0)
    with pytest.raises(ConfigError, match=message):
        check(ImportOptions, given | {option: text})


@pytest.mark.long
@pytest.mark.parametrize("side_px", [None, 256])
def test_the_command_writes_a_folder_that_a_run_can_name_and_plan_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, side_px: int | None
) -> None:
    monkeypatch.setattr(measure, "_RUNS", 1)
    source = tiny_onnx(tmp_path / "my tiny.onnx", side_px=side_px)
    main(
        ["models", "import", str(source), "--to", str(tmp_path / "made"), "--bands", "red,nir", "--quantity",
         "boa_reflectance,reflectance", "--classes", "land,water,cloud", "--stride", "2", "--gsd", "8,60"]
    )  # fmt: skip
    assert str(tmp_path / "made") in capsys.readouterr().out
    card = load_card(ObjectRef.parse(str(tmp_path / "made")))
    assert (card.name, card.quantities, card.gsd_m) == ("my-tiny", ("boa_reflectance", "reflectance"), (8.0, 60.0))
    per_px = card.bytes_per_chip_px("fp32")
    assert per_px is not None
    assert per_px > (len(BANDS) + len(CLASSES)) * 4, "input and answer alone take that"


def test_every_network_that_is_its_own_file_speaks_the_protocol() -> None:
    from earthloom.models.networks.registry import REGISTRY

    for name in ("onnx", "torchscript"):
        assert isinstance(REGISTRY[name](in_channels=2, classes=3), weights.LoadsItself)
    assert not isinstance(TinyNet(in_channels=2, classes=3), weights.LoadsItself)
