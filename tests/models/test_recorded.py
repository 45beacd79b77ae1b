"""What may be recorded when; on a GPU also that a replayed pass gives the bits of a plain one."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from earthloom.models.device import cuda_graph
from earthloom.models.device.cuda_graph import Recorder
from earthloom.models.device.resolve import Device, resolve
from earthloom.models.inference.predictor import Predictor
from tests.models.nets import card_of, seeded
from tests.models.test_sliding import grid, in_blocks, in_one_pass, same
from tests.scenes import landscape


class FakeGraph:
    """Stands for a CUDA graph: remembers its function and how often it was replayed."""

    made: list[FakeGraph]
    error: Exception | None

    def __init__(self, _: object, chips: Tensor, __: object) -> None:
        if FakeGraph.error is not None:
            raise FakeGraph.error
        self.shape, self.replays = tuple(chips.shape), 0
        FakeGraph.made.append(self)

    def replay(self, chips: Tensor) -> Tensor:
        self.replays += 1
        return chips * 2


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeGraph]:
    FakeGraph.made, FakeGraph.error = [], None
    monkeypatch.setattr(cuda_graph, "_Graph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    return FakeGraph


class Counted:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, chips: Tensor) -> Tensor:
        self.calls += 1
        return chips * 2


def chips(n: int) -> Tensor:
    return torch.full((n, 1, 4, 4), float(n))


def test_a_shape_is_recorded_when_it_comes_again(fake: type[FakeGraph]) -> None:
    run = Recorder(plain := Counted())
    for n in (8, 3, 8, 8, 3, 1):
        assert torch.equal(run(chips(n)), chips(n) * 2)
    assert plain.calls == 3
    assert [(graph.shape[0], graph.replays) for graph in fake.made] == [(8, 2), (3, 1)]


def test_only_a_few_shapes_are_recorded(fake: type[FakeGraph]) -> None:
    run = Recorder(Counted())
    for n in range(1, 10):
        run(chips(n))
        run(chips(n))
    assert len(fake.made) == 4


def test_a_pass_that_cannot_be_recorded_runs_as_it_is(fake: type[FakeGraph]) -> None:
    fake.error = RuntimeError("operation not permitted when stream is capturing")
    run = Recorder(plain := Counted())
    for n in (2, 2, 2, 3, 3):
        assert torch.equal(run(chips(n)), chips(n) * 2)
    assert (plain.calls, fake.made) == (5, [])


def test_where_there_is_no_memory_to_record_a_pass_runs_as_it_is_and_recordings_are_forgotten(
    fake: type[FakeGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied: list[None] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(None))
    run = Recorder(plain := Counted())
    for _ in range(2):
        run(chips(3))
    fake.error = torch.OutOfMemoryError("CUDA out of memory")
    for n in (2, 2, 2, 3):
        assert torch.equal(run(chips(n)), chips(n) * 2)
    assert (plain.calls, len(fake.made), len(emptied)) == (5, 1, 1)


def test_what_a_failed_recording_held_is_gone_when_the_pass_runs_as_it_is(
    fake: type[FakeGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Tensor]] = []

    def fails(*_: object) -> FakeGraph:
        half_made = torch.zeros(4)
        held.append(weakref.ref(half_made))
        raise torch.OutOfMemoryError("CUDA out of memory")

    def forward(chips: Tensor) -> Tensor:
        assert all(each() is None for each in held)
        return chips * 2

    monkeypatch.setattr(cuda_graph, "_Graph", fails)
    run = Recorder(forward)
    for _ in range(3):
        assert torch.equal(run(chips(2)), chips(2) * 2)
    assert len(held) == 1


def test_recordings_can_be_forgotten(fake: type[FakeGraph]) -> None:
    run = Recorder(Counted())
    for _ in range(2):
        run(chips(2))
    run.forget()
    run(chips(2))
    assert len(fake.made) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_gpu_a_recorded_pass_gives_the_bits_of_a_plain_one_in_every_cut(tmp_path: Path, precision: str) -> None:
    arguments = '{"arch":"unet","decoder_channels":[64,32,16],"encoder_depth":3,"encoder_name":"resnet18"}'
    case = seeded(card_of("smp", 4, 4, 8, arguments), tmp_path)
    device: Device = resolve("cuda", precision)
    scene = landscape(420, 300, 4), np.ones((300, 420), np.bool_)
    scene[1][40:90, 100:160] = False
    tiles = grid(scene[0], 128, 72, 8)
    recorded_one, plain = case.predictor(device, 2), case.predictor(device, 2)
    plain._recorder = None
    expected = in_blocks(plain, tiles, *scene, 1024)
    for _ in range(3):
        assert same(in_blocks(recorded_one, tiles, *scene, 1024), expected)
    assert recorded_one._recorder is not None
    assert recorded_one._recorder._graphs, "nothing was recorded"
    on_cpu = in_one_pass(case.predictor(), tiles, *scene)
    assert (on_cpu.classes != expected.classes).mean() < 0.01


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_batch_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path / "cache"))
    case = seeded(
        card_of(
            "smp", 4, 4, 4, '{"arch":"unet","decoder_channels":[16,8],"encoder_depth":2,"encoder_name":"resnet18"}'
        ),
        tmp_path,
    )
    scene = landscape(200, 200, 4), np.ones((200, 200), np.bool_)
    predictor = Predictor(case.card, case.path, resolve("cuda"))
    in_blocks(predictor, grid(scene[0], 64, 32, 4), *scene, 1024)
    assert predictor.batch >= 1
    assert len(list((tmp_path / "cache" / "batches").iterdir())) == 1
