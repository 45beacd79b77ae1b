from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from earthloom.jobs.intake.sensors import SENSORS
from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.sliding import predict_block
from earthloom.models.measuring.measure import framed
from earthloom.models.zoo import folder_of
from earthloom.models.zoo.cloudmask import CLOUDMASK
from earthloom.models.zoo.convert.convert import state_to_safetensors
from earthloom.models.zoo.convert.torchscript_archive import torchscript_tensors
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.errors import CardError
from earthloom.tiling.window import Window
from tests.models.nets import Case, MakesFolder, TinyNet, stack_of
from tests.models.record_cloudmask import RECORD, STEP_PX, cloud_chip, cloudy_scene
from tests.scenes import real

BY_VARIANT = {card.variant: card for card in CLOUDMASK}


def cloudmask(card: ModelCard) -> Case:
    """The real model from the cache, or skip."""
    path = folder_of(card) / weights.FILE
    if not path.is_file():
        pytest.skip(f"{card.label} is not in the cache; fetch it once: earthloom models add cloudmask")
    return Case(card, path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "card",
    [CLOUDMASK[1], *(pytest.param(card, marks=pytest.mark.zoo) for card in CLOUDMASK[2:])],
    ids=lambda card: card.label,
)
def test_converted_weights_answer_as_the_published_graph_does(card: ModelCard) -> None:
    predictor = cloudmask(card).predictor()
    chip = predictor.normalise(stack_of(cloud_chip(card.bands)))
    with torch.inference_mode():
        logits = predictor.module(chip[None])[0, :, ::STEP_PX, ::STEP_PX].numpy()
    recorded = np.load(RECORD)[card.variant].astype(np.float32)
    np.testing.assert_allclose(logits, recorded, atol=0.05)  # onnxruntime rounds to fp16 on the way
    assert (logits.argmax(0) == recorded.argmax(0)).mean() > 0.995


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "agreement", "precision"),
    [
        ("4b-l1c", 0.87, 0.9),
        pytest.param("6b-l1c", 0.87, 0.9, marks=pytest.mark.zoo),
        pytest.param("s2-12b", 0.7, 0.95, marks=pytest.mark.zoo),
    ],
)
def test_a_cloudy_scene_is_masked_where_another_method_sees_cloud(
    variant: str, agreement: float, precision: float
) -> None:
    card = BY_VARIANT[variant]
    values = cloudy_scene(card.bands)
    expected = np.asarray(Image.open(real("clouds_s2/s2cloudless_mask_auto.png"))) > 0
    scene = Window(0, 0, values.shape[2], values.shape[1])
    assert card.halo_px is not None
    chips = ChipGrid(scene=scene, core_px=card.core_px, halo_px=card.halo_px, stride_px=card.stride_px, blend=True)
    pixels = framed(stack_of(values), chips.extent, card.halo_px)
    found = predict_block(cloudmask(card).predictor(), chips, scene, pixels).made.classes
    cloudy = np.isin(found, [c.value for c in card.classes if "cloud" in c.name])
    opaque = found == 1
    assert (cloudy == expected).mean() > agreement
    assert (opaque & expected).sum() / opaque.sum() > precision


@pytest.mark.slow
def test_neither_batch_nor_threads_change_a_bit_though_the_network_pools_over_its_chip() -> None:
    card = BY_VARIANT["4b-l1c"]
    values = cloud_chip(card.bands)
    scene = Window(0, 0, 256, 256)
    chips = ChipGrid(scene=scene, core_px=128, halo_px=32, stride_px=32, blend=True)
    pixels = framed(stack_of(values), chips.extent, chips.halo_px)
    maps = []
    for batch, threads in ((1, 1), (4, 2)):
        torch.set_num_threads(threads)
        predictor = cloudmask(card).predictor(batch=batch)
        maps.append(predict_block(predictor, chips, scene, pixels).made)
    np.testing.assert_array_equal(maps[0].classes, maps[1].classes)
    np.testing.assert_array_equal(maps[0].confidence, maps[1].confidence)


def test_every_variant_asks_for_bands_that_its_sensors_have() -> None:
    for card in CLOUDMASK:
        sensor = SENSORS["sentinel2-l1c" if "l1c" in card.variant else "sentinel2-l2a"]
        assert set(card.bands) <= {band.name for band in sensor.bands}
        assert sensor.quantity in card.quantities
    twelve = BY_VARIANT["s2-12b"].bands
    assert twelve == tuple(b.name for b in SENSORS["sentinel2-l1c"].bands if b.name != "cirrus")


def test_every_cloud_and_shadow_class_masks_and_clear_does_not() -> None:
    for card in CLOUDMASK:
        assert set(card.masks) == {c.value for c in card.classes if c.name != "clear"}


def archive(module: nn.Module) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module), file)
    return file.getvalue()


def forged(data: bytes, name: str = "data.pkl") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr(f"archive/{name}", data)
    return file.getvalue()


def test_the_tensors_of_a_torchscript_archive_are_read_without_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Sequential(nn.Conv2d(3, 1, 1)))
    data = archive(module)
    monkeypatch.setattr(torch.jit, "load", lambda *_: pytest.fail("the program was loaded"))
    found = torchscript_tensors(data)
    assert found.keys() == module.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in module.state_dict().items())


def test_an_archive_that_would_call_something_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"asks for posix\.mkdir"):
        torchscript_tensors(forged(pickle.dumps(MakesFolder(tmp_path / "made"), protocol=2)))
    assert not (tmp_path / "made").exists()


class Half(nn.Module):
    """A network with a layer that it never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.norm, self.unused = nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 9, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm(self.used(x))
        return out


def test_only_tensors_without_a_part_in_the_answer_may_be_missing(tmp_path: Path) -> None:
    state = Half().state_dict()
    published = {n: v.half() for n, v in state.items() if not n.startswith("unused") and "num_batches" not in n}
    state_to_safetensors(published, Half(), 2, 1, tmp_path / "made")
    module = Half()
    weights.load_into(module, tmp_path / "made", weights.sha256_of(tmp_path / "made"))
    assert torch.equal(module.used.weight, published["used.weight"].float())
    assert not module.unused.weight.any()
    for broken, message in (
        ({n: v for n, v in published.items() if n != "norm.bias"}, r"1 missing \['norm.bias'\]"),
        (published | {"surplus": torch.zeros(1)}, r"1 unknown \['surplus'\]"),
        (published | {"norm.bias": torch.zeros(4)}, r"1 of another shape \['norm.bias'\]"),
    ):
        with pytest.raises(CardError, match=message):
            state_to_safetensors(broken, Half(), 2, 1, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="not the weights of this network"):
        state_to_safetensors(Half().state_dict(), TinyNet(in_channels=2, classes=3), 2, 2, tmp_path / "made")
