"""First weights: what is taken over, what is fitted to other bands and classes, and what is said of the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from earthloom.models.cards.card import ModelCard, ModelClass, ObjectRule
from earthloom.models.networks.torchvision_ops import define_missing_ops
from earthloom.models.training.network import build, named
from earthloom.models.training.start import from_file, from_network, to_hold
from earthloom.tiling.errors import CardError
from tests.models.nets import card_of

define_missing_ops()


def card(bands: tuple[str, ...], classes: tuple[str, ...], architecture: str = "lite-unet") -> ModelCard:
    made = card_of(architecture, len(bands), len(classes), 16)
    named_classes = tuple(ModelClass(value=v, name=n, color="#000000") for v, n in enumerate(classes))
    return replace(made, bands=bands, classes=named_classes)


def answer(module: nn.Module, bands: int | torch.Tensor) -> torch.Tensor:
    x = torch.randn(1, bands, 32, 32, generator=torch.Generator().manual_seed(3)) if isinstance(bands, int) else bands
    with torch.inference_mode():
        found: torch.Tensor = module.eval()(x)
    return found


BANDS = ("red", "green", "nir")
BEFORE = card(BANDS, ("land", "water"))


def test_a_network_of_the_same_bands_and_classes_answers_as_before() -> None:
    given = build(BEFORE, 1)
    module = build(BEFORE, 2)
    start = from_network(module, BEFORE, given.state_dict(), BEFORE)
    assert torch.equal(answer(module, 3), answer(given, 3))
    assert start.filled == set(given.state_dict())
    assert (start.adapted, start.missing, start.unused) == ((), (), ())


def test_with_a_new_band_it_answers_at_first_as_before_and_in_any_order_of_bands() -> None:
    given = build(BEFORE, 1)
    wider = card(("nir", "swir16", "red", "green"), ("land", "water"))
    module = build(wider, 2)
    start = from_network(module, wider, given.state_dict(), BEFORE)
    x = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(answer(module, x), answer(given, x[:, [2, 3, 0]]), rtol=1e-4, atol=1e-5)
    assert start.adapted == ("encoder.stem.conv.weight",)


def test_with_no_band_in_common_each_gets_the_mean_filter() -> None:
    given = build(BEFORE, 1)
    other = card(("vv", "vh"), ("land", "water"))
    module = build(other, 2)
    from_network(module, other, given.state_dict(), BEFORE)
    old, new = given.state_dict()["encoder.stem.conv.weight"], module.state_dict()["encoder.stem.conv.weight"]
    torch.testing.assert_close(new[:, 0], old.mean(dim=1) * 1.5)
    (
        torch.testing.assert_close(new.sum(dim=1), old.sum(dim=1)),
        "an input that is equal in all bands sees the same filter",
    )


def test_a_network_of_one_band_keeps_its_depthwise_filters() -> None:
    one = card(("red",), ("land", "water"))
    given, two = build(one, 1), card(("red", "green"), ("land", "water"))
    module = build(two, 2)
    assert from_network(module, two, given.state_dict(), one).adapted == ("encoder.stem.conv.weight",)
    kept = "encoder.stages.1.0.look.conv.weight"
    assert torch.equal(module.state_dict()[kept], given.state_dict()[kept])


def test_a_detector_finds_its_classes_again_by_name_and_keeps_what_it_knows_of_boxes() -> None:
    """Where as many classes stood in another order, each began as another one; of another number, none was taken over."""
    rule = ObjectRule(radius_px=3, threshold=0.3, merge_iou=0.3, size_px=16.0)
    before = replace(card(BANDS, ("ship", "buoy")), objects=rule, task="object-detection", activation="sigmoid")
    given = build(before, 1)
    for classes in (("buoy", "ship"), ("buoy", "rig", "ship")):
        other = replace(before, classes=card(BANDS, classes).classes)
        module = build(other, 2)
        own = answer(module, 3)
        start = from_network(module, other, given.state_dict(), before)
        old, new = answer(given, 3), answer(module, 3)
        for value, name in enumerate(classes):
            if name in before.gives:
                assert torch.equal(new[:, value], old[:, before.gives.index(name)])
        assert torch.equal(new[:, len(classes) :], old[:, 2:]), "width, height and the place of the centre"
        assert not torch.equal(new, own)
        assert not start.unused
        held = to_hold(module, {name.replace("encoder.", "trunk.") for name in start.filled}, other.sizes["classes"])
        assert len(start.filled - {name.replace("trunk.", "encoder.") for name in held}) == 2, "all but the last layer"


def test_one_logit_for_two_classes_becomes_two_that_say_the_same() -> None:
    """smp's binary networks end in one; it was left out, and the head began anew."""
    before = replace(BEFORE, arguments='{"classes":1}')
    given = build(before, 1)
    module = build(BEFORE, 2)
    start = from_network(module, BEFORE, given.state_dict(), before)
    one, two = answer(given, 3), answer(module, 3)
    torch.testing.assert_close(two.softmax(dim=1)[:, 1:], one.sigmoid(), rtol=1e-5, atol=1e-6)
    assert len(start.adapted) == 2
    assert start.unused == ()


def test_classes_are_kept_by_name_and_new_ones_start_from_nothing() -> None:
    given, more = build(BEFORE, 1), card(BEFORE.bands, ("snow", "water", "land"))
    module = build(more, 2)
    fresh = module.state_dict()["head.weight"].clone()
    start = from_network(module, more, given.state_dict(), BEFORE)
    assert torch.equal(answer(module, 3)[:, [2, 1]], answer(given, 3))
    assert torch.equal(module.state_dict()["head.weight"][0], fresh[0])
    assert set(start.adapted) == {"head.weight", "head.bias"}


def smp_card(encoder: str, bands: tuple[str, ...] = ("red", "green", "blue"), arch: str = "unet") -> ModelCard:
    architecture, arguments, stride = named(arch, encoder, {})
    made = card_of(architecture, len(bands), 2, stride, arguments)
    return replace(made, bands=bands)


def test_torchvisions_weights_of_a_resnet_fill_the_encoder(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    published = resnet18(weights=None).state_dict()
    torch.save(published, tmp_path / "resnet18.pth")
    module = build(smp_card("resnet18"), 1)
    start = from_file(module, ("red", "green", "blue"), tmp_path / "resnet18.pth")
    own = module.state_dict()
    assert torch.equal(own["encoder.layer3.1.conv2.weight"], published["layer3.1.conv2.weight"])
    assert set(start.unused) == {"fc.weight", "fc.bias"}
    assert all(not name.startswith("encoder.") for name in start.missing)
    assert "start from nothing" in start.describe()


@pytest.mark.slow
def test_timms_weights_fill_an_encoder_that_names_its_stages_otherwise(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    published = timm.create_model("convnext_tiny", pretrained=False).state_dict()
    save_file(published, tmp_path / "convnext.safetensors")
    module = build(smp_card("tu-convnext_tiny"), 1)
    start = from_file(module, ("red", "green", "blue"), tmp_path / "convnext.safetensors")
    own = module.state_dict()
    assert torch.equal(
        own["encoder.model.stages_2.blocks.4.conv_dw.weight"], published["stages.2.blocks.4.conv_dw.weight"]
    )
    assert all(name.startswith("head.") for name in start.unused)
    assert all(not name.startswith("encoder.") for name in start.missing)


@pytest.mark.slow
def test_timms_weights_of_a_plain_transformer_fill_it_key_by_key(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    published = timm.create_model("vit_small_patch16_dinov3", pretrained=False).state_dict()
    save_file(published, tmp_path / "dinov3.safetensors")
    bands = ("red", "green", "blue", "nir")
    module = build(smp_card("tu-vit_small_patch16_dinov3", bands, "dpt"), 1)
    start = from_file(module, bands, tmp_path / "dinov3.safetensors")
    own = module.state_dict()
    encoder = {name.removeprefix("encoder.model.") for name in own if name.startswith("encoder.")}
    assert encoder == set(published)
    assert start.unused == ()
    patches = "patch_embed.proj.weight"
    assert start.adapted == (f"encoder.model.{patches}",)
    assert all(torch.equal(own[f"encoder.model.{name}"], published[name]) for name in encoder - {patches})
    torch.testing.assert_close(own[f"encoder.model.{patches}"][:, :3], published[patches] * 0.75)


def test_filters_for_colours_go_by_the_names_of_the_bands(tmp_path: Path) -> None:
    encoder = build(BEFORE, 1).state_dict()
    old = encoder["encoder.stem.conv.weight"]
    save_file(dict(encoder), tmp_path / "rgb.safetensors")
    bands = ("blue", "nir", "green", "red")
    module = build(card(bands, ("land", "water")), 2)
    from_file(module, bands, tmp_path / "rgb.safetensors")
    new = module.state_dict()["encoder.stem.conv.weight"]
    torch.testing.assert_close(new[:, 0], old[:, 2] * 0.75)
    torch.testing.assert_close(new[:, 1], old.mean(dim=1) * 0.75)
    torch.testing.assert_close(new[:, 3], old[:, 0] * 0.75)


def test_a_file_of_another_network_names_what_it_holds_and_what_was_wanted(tmp_path: Path) -> None:
    save_file({"block.a": torch.zeros(3), "block.b": torch.zeros(4)}, tmp_path / "other.safetensors")
    with pytest.raises(CardError, match=r"none of its 2 tensors \(block.a, block.b, …\) fits"):
        from_file(build(BEFORE, 1), BEFORE.bands, tmp_path / "other.safetensors")


def test_a_pickle_that_holds_more_than_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"model": nn.Conv2d(1, 1, 1)}, tmp_path / "whole.pt")
    with pytest.raises(CardError, match="holds more than tensors"):
        from_file(build(BEFORE, 1), BEFORE.bands, tmp_path / "whole.pt")


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = {name: value.clone() for name, value in build(BEFORE, 1).state_dict().items()}
    state["head.bias"][0] = torch.nan
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(CardError, match=r"head\.bias holds NaN"):
        from_file(build(BEFORE, 1), BEFORE.bands, tmp_path / "nan.safetensors")


def test_unknown_networks_and_encoders_are_refused_with_what_there_is() -> None:
    with pytest.raises(CardError, match="did you mean 'unet'"):
        named("unnet", "resnet18", {})
    with pytest.raises(CardError, match="needs an 'encoder'"):
        named("fpn", None, {})
    with pytest.raises(CardError, match="an encoder of its own"):
        named("lite-unet", "resnet18", {})
