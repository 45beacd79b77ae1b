from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pystac
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pystac.extensions.mlm import MLMExtension, ValueScaling

from earthloom.models.cards.card import ModelCard, ModelClass
from earthloom.models.cards.file import FILE, canonical, from_item, load_card, to_item, write_card
from earthloom.models.cards.weights import sha256_of
from earthloom.models.importing.smp_folder import card_from_smp
from earthloom.models.zoo.landwater import LANDWATER
from earthloom.models.zoo.rules import WATER_INDEX
from earthloom.tiling.errors import CardError
from earthloom.tiling.storage.objects import ObjectRef
from tests.models.nets import card_of

names = st.from_regex(r"[a-z][a-z0-9_-]{0,12}", fullmatch=True)
numbers = st.floats(-1e6, 1e6)
pairs = st.dictionaries(names, st.floats(0, 1e12), max_size=3).map(lambda d: tuple(sorted(d.items())))
colors = st.integers(0, 0xFFFFFF).map(lambda rgb: f"#{rgb:06x}")
arguments = st.dictionaries(names, st.one_of(st.integers(), st.text(max_size=5), st.none()), max_size=3)


@st.composite
def cards(draw: st.DrawFn) -> ModelCard:
    n_bands, n_classes, stride = draw(st.integers(1, 5)), draw(st.integers(1, 6)), draw(st.sampled_from([1, 8, 32]))
    return ModelCard(
        name=draw(names),
        variant=draw(st.one_of(st.just(""), names)),
        title=draw(st.text(max_size=20)),
        description=draw(st.text(max_size=40)),
        citation=draw(st.text(max_size=20)),
        architecture=draw(st.sampled_from(["smp", "ukis-unet"])),
        arguments=canonical(draw(arguments)),
        bands=tuple(draw(st.lists(names, min_size=n_bands, max_size=n_bands))),
        quantities=tuple(draw(st.lists(names, min_size=1, max_size=3))),
        mean=tuple(draw(st.lists(numbers, min_size=n_bands, max_size=n_bands))),
        std=tuple(draw(st.lists(st.floats(1e-9, 1e6), min_size=n_bands, max_size=n_bands))),
        gsd_m=(draw(st.floats(0.01, 10)), draw(st.floats(10, 1000))),
        classes=tuple(
            ModelClass(value=v, name=draw(names), color=draw(colors), description=draw(st.text(max_size=9)))
            for v in range(n_classes)
        ),
        activation=draw(st.sampled_from(["softmax", "none"])),
        stride_px=stride,
        support_px=draw(st.one_of(st.none(), st.integers(0, 500))),
        halo_px=draw(st.one_of(st.none(), st.integers(0, 8).map(lambda n: n * stride))),
        core_px=draw(st.integers(1, 64)) * stride,
        overlap=draw(st.sampled_from(["exact", "blend"])),
        weights=draw(st.one_of(st.none(), st.from_regex(r"[0-9a-f]{64}", fullmatch=True))),
        memory=draw(pairs),
        flop_per_px=draw(st.one_of(st.none(), st.floats(0, 1e9))),
        scores=draw(pairs),
    )  # fmt: skip


@given(card=cards())
@settings(deadline=None, max_examples=60)
def test_a_card_comes_back_from_its_json_unchanged(card: ModelCard) -> None:
    document = json.dumps(to_item(card, weights_name="weights.safetensors", n_parameters=1))
    assert from_item(json.loads(document)) == card


@pytest.mark.parametrize("card", [*LANDWATER, *WATER_INDEX], ids=lambda card: card.label)
def test_pystac_reads_the_same_values(card: ModelCard) -> None:
    item = pystac.Item.from_dict(to_item(card, weights_name="weights.safetensors", n_parameters=7), preserve_dict=True)
    mlm = MLMExtension.ext(item)
    assert (mlm.mlm_name, mlm.architecture, mlm.framework) == (card.name, card.architecture, "PyTorch")
    assert (list(mlm.tasks), mlm.total_parameters) == (["semantic-segmentation"], 7)
    (taken,), (given_,) = mlm.input, mlm.output
    assert tuple(band.name for band in taken.bands) == card.bands  # type: ignore[union-attr]  # not None here
    scalings = [
        ValueScaling(each) for each in taken.properties["value_scaling"]
    ]  # pystac's own accessor knows only one
    assert all(s.type == "z-score" for s in scalings)
    assert tuple((s.mean, s.stddev) for s in scalings) == tuple(zip(card.mean, card.std, strict=True))
    assert taken.input.shape[1] == len(card.bands)
    assert given_.classes is not None
    assert [(c.value, c.name, c.color_hint) for c in given_.classes] == [
        (c.value, c.name, c.color[1:].upper()) for c in card.classes
    ]
    assert item.to_dict()["stac_version"] == "1.1.0"


def test_a_folder_is_written_beside_its_weights_and_read_back(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from torch import zeros

    save_file({"a": zeros(3, 4), "b": zeros(5)}, tmp_path / "model.safetensors")
    card = replace(LANDWATER[0], weights=sha256_of(tmp_path / "model.safetensors"))
    write_card(tmp_path, card)
    assert load_card(ObjectRef.parse(str(tmp_path))) == card
    item = json.loads((tmp_path / FILE).read_text())
    assert item["properties"]["mlm:total_parameters"] == 17
    assert item["assets"]["weights"]["href"] == "./model.safetensors"
    assert item["assets"]["weights"]["file:checksum"] == "1220" + (card.weights or "")


def test_a_card_is_not_written_beside_other_weights(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(CardError, match=r"names weights bfe8.*but the folder holds"):
        write_card(tmp_path, LANDWATER[0])


def test_a_card_that_would_change_on_the_way_is_not_written() -> None:
    with pytest.raises(CardError, match="without loss"):
        to_item(replace(WATER_INDEX[0], arguments='{"threshold": 0.0}'), weights_name="", n_parameters=0)


def break_item(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    item = copy.deepcopy(to_item(LANDWATER[0], weights_name="weights.safetensors", n_parameters=1))
    node: Any = item
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return item


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("properties", "earthloom:stride_px"), 0, "stride is at least 1"),
        (("properties", "earthloom:stride_px"), "16", "stride_px: Input should be a valid integer"),
        (("properties", "earthloom:halo_px"), 40, "not a multiple of the stride"),
        (("properties", "earthloom:memory"), [], "not the item of a model card"),
        (("properties", "mlm:name"), "../../etc", "folder names"),
        (("properties", "mlm:hyperparameters"), None, "must be an object"),
        (("properties", "mlm:input", 0, "value_scaling", 0, "stddev"), 0.0, "std positive"),
        (("properties", "mlm:input", 0, "value_scaling", 0, "mean"), float("inf"), "not JSON compliant"),
        (("properties", "mlm:input", 0, "value_scaling", 0, "type"), "min-max", "must be z-score"),
        (("properties", "mlm:output", 0, "classification:classes", 2, "color_hint"), "zz0000", "#rrggbb"),
        (("properties", "mlm:output", 0, "classification:classes", 2, "value"), 7, "numbered 0, 1, 2"),
        (("assets", "weights", "file:checksum"), "d41d8cd98f00b204e9800998ecf8427e", "sha256 multihash"),
        (("properties",), None, "not the item of a model card"),
    ],
)
def test_a_wrong_card_is_an_error_that_names_the_field(
    tmp_path: Path, path: tuple[str | int, ...], value: object, message: str
) -> None:
    (tmp_path / FILE).write_text(json.dumps(break_item(path, value)))
    with pytest.raises(CardError, match=message) as caught:
        load_card(ObjectRef.parse(str(tmp_path)))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"properties": {}}', " " * 2_000_000])
def test_what_is_no_card_at_all_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(CardError, match=r"card\.json"):
        load_card(ObjectRef.parse(str(tmp_path)))


def test_an_empty_folder_is_told_from_one_that_smp_wrote(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"holds no card\.json"):
        load_card(ObjectRef.parse(str(tmp_path)))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CardError, match=f"earthloom models measure {tmp_path} SCENE .*`bands`"):
        load_card(ObjectRef.parse(str(tmp_path)))


@pytest.mark.s3
@pytest.mark.usefixtures("s3_env")
def test_a_card_is_read_from_object_storage() -> None:
    from earthloom.tiling.storage.store import open_store

    folder = ObjectRef.parse("s3://scenes/models/card")
    with pytest.raises(CardError, match=r"holds no card\.json"):
        load_card(folder)
    item = to_item(LANDWATER[1], weights_name="weights.safetensors", n_parameters=1)
    open_store(folder).put(FILE, json.dumps(item).encode())
    assert load_card(folder) == LANDWATER[1]


@pytest.mark.slow
def test_a_card_is_derived_from_what_save_pretrained_writes(tmp_path: Path) -> None:
    import torch

    from earthloom.models.cards.weights import load_into
    from earthloom.models.inference.class_map import ClassMap
    from earthloom.models.networks.registry import build
    from tests.models.nets import CPU, Case

    arguments = '{"arch":"unet","classes":1,"decoder_channels":[16,8,8],"encoder_depth":3,"encoder_name":"resnet18"}'
    saved: Any = build(card_of("smp", 4, 2, 8, arguments)).eval()
    saved.save_pretrained(str(tmp_path))
    bands = ("blue", "green", "red", "nir")
    card = card_from_smp(tmp_path, bands=bands, quantity="boa_reflectance", classes=("dry", "wet"), name="made")
    assert (card.halo_px, card.stride_px, card.bands, card.quantities) == (None, 8, bands, ("boa_reflectance",))
    assert [c.name for c in card.classes] == ["dry", "wet"]
    again = build(card).eval()
    assert card.weights is not None
    load_into(again, tmp_path / "model.safetensors", card.weights)
    x = torch.randn(1, 4, 32, 32)
    assert torch.equal(again(x), saved(x))
    Case(card, tmp_path / "model.safetensors").predictor(CPU)
    wet = ClassMap.of(card).probabilities(saved(x)[0].detach())
    torch.testing.assert_close(wet[1], saved(x)[0, 0].sigmoid())
    write_card(tmp_path, card)
    assert load_card(ObjectRef.parse(str(tmp_path))) == card
    with pytest.raises(CardError, match="takes 4 channels but 3 bands"):
        card_from_smp(tmp_path, bands=bands[:3], quantity="reflectance")


@pytest.mark.parametrize(
    ("network", "depth", "stride"), [("Unet", 4, 16), ("PAN", 5, 128), ("DPT", 4, 32), ("PSPNet", 3, 8)]
)
def test_the_stride_of_a_folder_of_smp_is_that_of_its_network(
    tmp_path: Path, network: str, depth: int, stride: int
) -> None:
    """Where a decoder reduces further than its encoder, tiles lay between the steps of the network: PAN's every 32 px."""
    config = {
        "_model_class": network,
        "encoder_name": "resnet18",
        "encoder_depth": depth,
        "in_channels": 1,
        "classes": 2,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert card_from_smp(tmp_path, bands=("red",), quantity="reflectance").stride_px == stride
