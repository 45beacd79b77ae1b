from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from earthloom.models.device.resolve import Device
from earthloom.models.inference import predictor as predictor_module
from earthloom.models.inference.class_map import ClassMap
from earthloom.models.inference.passes import Threads
from earthloom.models.inference.predictor import Predictor
from earthloom.tiling.errors import CardError, EngineError
from tests.models.nets import BF16, CPU, Case, card_of, landwater, seeded, stack_of
from tests.models.record_onnx import RECORD, STEP_PX, port_chip

pytestmark = pytest.mark.usefixtures("tiny_registry")


@pytest.fixture
def tiny(tmp_path: Path, tiny_registry: None) -> Case:
    return seeded(card_of("tiny", 2, 3, 2), tmp_path)


def chips(count: int, n_bands: int = 2, side: int = 16) -> list[Tensor]:
    return list(torch.randn(count, n_bands, side, side, generator=torch.Generator().manual_seed(0)))


def answers(predictor: Predictor, items: list[Tensor], side: int = 16) -> list[Tensor]:
    def fill(item: Tensor, out: Tensor) -> None:
        out.copy_(item)

    return [logits.clone() for _, logits in predictor.run(items, fill, (side, side))]


class SmallMemory(torch.nn.Module):
    """Runs out of memory above `largest` chips, and says which sizes were tried."""

    def __init__(self, inner: torch.nn.Module, largest: int, error: Exception) -> None:
        super().__init__()
        self.inner, self.largest, self.error, self.tried = inner, largest, error, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.tried.append(x.shape[0])
        if x.shape[0] > self.largest:
            raise self.error
        out: Tensor = self.inner(x)
        return out


class OneAtATime(torch.nn.Module):
    """Has memory for one call at a time."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self.room, self.met = inner, threading.Lock(), threading.Event()

    def forward(self, x: Tensor) -> Tensor:
        if not self.room.acquire(blocking=False):
            self.met.set()
            raise MemoryError
        try:
            self.met.wait(120)
            out: Tensor = self.inner(x)
            return out
        finally:
            self.room.release()


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "cpu", "pinned", "cudnn", "workspace"])
def test_the_batch_halves_until_it_fits_and_stays_there(tiny: Case, error: Exception) -> None:
    expected = answers(tiny.predictor(), chips(11))
    predictor = tiny.predictor(batch=8)
    predictor.module = small = SmallMemory(predictor.module, 2, error)
    found = answers(predictor, chips(11))
    assert small.tried == [8, 4, 2, 2, 2, 2, 2, 1]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_memory_that_passes_side_by_side_lack_is_enough_for_one_alone(tiny: Case) -> None:
    expected = answers(tiny.predictor(), chips(6))
    predictor = Predictor(tiny.card, tiny.path, CPU, 1, threads=Threads(4))
    predictor.module = module = OneAtATime(predictor.module)
    found = answers(predictor, chips(6))
    assert module.met.is_set()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_passes_side_by_side_halve_the_batch_too_and_lose_no_chip(tiny: Case) -> None:
    expected = answers(tiny.predictor(), chips(11))
    predictor = Predictor(tiny.card, tiny.path, CPU, 4, threads=Threads(2))
    predictor.module = SmallMemory(predictor.module, 1, MemoryError())
    found = answers(predictor, chips(11))
    assert predictor.batch == 1
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_pages_that_are_kept_are_looked_at_after_each_layer_and_each_pass(
    tiny: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = list[None]()
    monkeypatch.setattr(predictor_module, "settle", lambda: looks.append(None))
    predictor = tiny.predictor()
    answers(predictor, chips(2))
    assert len(looks) == 2 * (3 + 1), "after a whole pass half a GiB can be too much"


def test_no_memory_for_one_chip_is_an_error_with_a_remedy(tiny: Case) -> None:
    predictor = tiny.predictor(batch=4)
    predictor.module = SmallMemory(predictor.module, 0, OUT_OF_MEMORY[0])
    with pytest.raises(EngineError, match=r"16 x 16 px on cpu in fp32; use a smaller `core`"):
        answers(predictor, chips(3))


def test_other_errors_of_the_network_are_not_taken_for_a_lack_of_memory(tiny: Case) -> None:
    predictor = tiny.predictor(batch=4)
    predictor.module = SmallMemory(predictor.module, 0, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="multiplied"):
        answers(predictor, chips(3))


@pytest.mark.parametrize("device", [CPU, BF16], ids=["fp32", "bf16"])
def test_batch_and_passes_do_not_change_a_bit(tiny: Case, device: Device) -> None:
    found = []
    for batch, passes in ((1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (1, 3), (3, 3)):
        predictor = Predictor(tiny.card, tiny.path, device, batch, threads=Threads(passes))
        found.append(torch.stack(answers(predictor, chips(5))))
    assert all(torch.equal(f, found[0]) for f in found)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_pixels_are_normalised_each_by_itself_and_invalid_ones_are_zero(tiny: Case, dtype: str) -> None:
    raw = np.random.default_rng(0).integers(0, 200, (2, 5, 7)).astype(dtype)
    raw.flags.writeable = False
    valid = np.random.default_rng(1).random((5, 7)) > 0.3
    gain, bias = np.array([0.01, 0.02], np.float32), np.array([-0.1, 0.3], np.float32)
    predictor = tiny.predictor(mean=(0.2, 0.3), std=(0.5, 0.25))
    found = predictor.normalise(replace(stack_of(raw, valid), gain=gain, bias=bias)).numpy()
    physical = raw.astype(np.float64) * gain[:, None, None] + bias[:, None, None]
    expected = np.where(valid, (physical - [[[0.2]], [[0.3]]]) / [[[0.5]], [[0.25]]], 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_one_logit_for_two_classes_is_the_second_ones() -> None:
    found = ClassMap.of(card_of("tiny", 2, 2, 2)).probabilities(torch.tensor([[[0.7, -3.0]]]))
    torch.testing.assert_close(found[1], torch.tensor([[0.7, -3.0]]).sigmoid())
    torch.testing.assert_close(found.sum(0), torch.ones(1, 2))


def test_a_network_whose_output_is_not_the_cards_is_refused(tiny: Case) -> None:
    predictor = tiny.predictor()
    predictor.module = torch.nn.Conv2d(2, 4, 1)
    with pytest.raises(CardError, match=r"give \(1, 4, 16, 16\), but 3 classes need \(1, 3, 16, 16\)"):
        answers(predictor, chips(1))


def test_a_network_with_weights_does_not_run_on_random_ones(tiny: Case) -> None:
    with pytest.raises(CardError, match="needs weights but the card names none"):
        Predictor(replace(tiny.card, weights=None), None, CPU)
    with pytest.raises(CardError, match="but the file given is None"):
        Predictor(tiny.card, None, CPU)


@pytest.mark.parametrize("variant", ["6b", "4b"])
def test_landwater_in_torch_gives_what_onnxruntime_gives_on_a_real_port(variant: str) -> None:
    predictor = landwater(variant).predictor()
    n_bands = len(predictor.card.bands)
    chip = predictor.normalise(stack_of(port_chip()[:n_bands]))
    ours = (
        ClassMap.of(predictor.card).probabilities(answers(predictor, [chip], 256)[0])[:, ::STEP_PX, ::STEP_PX].numpy()
    )
    theirs = np.load(RECORD)[variant]
    assert len(np.unique(theirs.argmax(0))) >= 2, "a chip of one class would prove little"
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_network_that_takes_no_small_chips_is_loaded(tmp_path: Path) -> None:
    arguments = '{"arch":"pan","encoder_name":"resnet18"}'
    predictor = seeded(card_of("smp", 4, 3, 32, arguments), tmp_path).predictor()
    assert predictor.n_folded > 30


@pytest.mark.parametrize(("differs", "chosen"), [(None, 16), (8, 4), (2, 1)])
def test_a_batch_in_which_a_chip_gets_other_bits_is_not_chosen(
    tiny: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, differs: int | None, chosen: int
) -> None:
    """What a GPU does, here with a network that looks at its batch and a clock by which larger ones are faster."""
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 30, 1 << 30))
    seconds = mock.Mock()
    monkeypatch.setattr(predictor_module, "time", seconds)

    class Batchy(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner, self.now = inner, 0.0

        def forward(self, x: Tensor) -> Tensor:
            n = x.shape[0]
            self.now += 1 + n if n <= 16 else 2 * n
            seconds.perf_counter.return_value = self.now
            out: Tensor = self.inner(x)
            return out + (1e-6 if differs and n >= differs else 0)

    for wanted in (None, 8):
        predictor = Predictor(tiny.card, tiny.path, CPU, wanted)
        seconds.perf_counter.return_value = 0.0
        predictor.module = Batchy(predictor.module)
        predictor._is_calibrated = False
        answers(predictor, chips(3))
        assert predictor.batch == (chosen if wanted is None else 8 if differs is None else 1)
        smaller = [size for size in (16, 8, 4, 2, 1) if size <= predictor.batch]
        assert list(predictor._sizes) == (smaller if wanted is None else [predictor.batch])


def test_on_a_gpu_a_rest_runs_in_passes_of_sizes_that_are_known_to_leave_its_bits(tiny: Case) -> None:
    predictor = tiny.predictor(batch=4)
    assert [len(part) for part in predictor._parts(range(11))] == [4, 4, 3]
    predictor.device = replace(CPU, kind="cuda")
    assert [len(part) for part in predictor._parts(range(11))] == [4, 4, 1, 1, 1]
    predictor._sizes = (4, 2, 1)
    assert [len(part) for part in predictor._parts(range(11))] == [4, 4, 2, 1]
    predictor.batch, predictor._sizes = 16, (16, 8, 4, 2, 1)
    assert [list(part) for part in predictor._parts(range(7))] == [[0, 1, 2, 3], [4, 5], [6]], "a block of few chips"
    predictor.batch = 2  # memory ran out in a pass of more
    assert [len(part) for part in predictor._parts(range(5))] == [2, 2, 1]
