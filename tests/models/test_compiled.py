from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from earthloom.models.device.compiled import compile_network
from earthloom.models.device.resolve import Device
from earthloom.models.inference.predictor import Predictor
from earthloom.models.zoo.rules import WATER_INDEX
from earthloom.tiling.errors import EngineError
from tests.models.nets import BF16, CPU, Case, card_of, seeded
from tests.models.test_sliding import grid, in_blocks, in_one_pass, same
from tests.scenes import landscape

SMP = '{"arch":"unet","decoder_channels":[16,8],"encoder_depth":2,"encoder_name":"resnet18"}'
HALO_PX = 36


@pytest.fixture
def compiler() -> None:
    """Skips where nothing can be compiled."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("no C++ compiler here: install g++, or set CXX")


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return seeded(card_of("smp", 4, 4, 4, SMP), tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    "device",
    [pytest.param(CPU, marks=pytest.mark.long), pytest.param(BF16, marks=pytest.mark.long)],
    ids=["fp32", "bf16"],
)
def test_a_compiled_network_is_near_the_plain_one_and_as_exact_in_any_cut_and_batch(case: Case, device: Device) -> None:
    scene = landscape(260, 200, 4), np.ones((200, 260), np.bool_)
    chips = grid(scene[0], 128, HALO_PX, 4)
    made = Predictor(case.card, case.path, device, 1, compiled=True)
    whole = in_one_pass(made, chips, *scene)
    assert same(in_blocks(made, chips, *scene, 128), whole)
    made.batch = 3
    assert same(in_blocks(made, chips, *scene, 1024), whole)
    plain = in_one_pass(Predictor(case.card, case.path, device, 1), chips, *scene)
    assert len(np.unique(plain.classes)) > 2
    flips = (plain.classes != whole.classes).mean()
    assert flips < (1e-4 if device is CPU else 0.01)
    np.testing.assert_allclose(whole.confidence.astype(int), plain.confidence, atol=1 if device is CPU else 12)


def test_without_a_compiler_the_error_names_the_remedy(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("/no/such/compiler",))
    monkeypatch.setattr(config, "force_disable_caches", True)
    scene = landscape(40, 40, 4), np.ones((40, 40), np.bool_)
    predictor = Predictor(case.card, case.path, CPU, 1, compiled=True)
    with pytest.raises(EngineError, match=r"could not be compiled: .*install them, or run without `compile`"):
        in_one_pass(predictor, grid(scene[0], 32, 4, 4), *scene)


def test_where_torch_has_one_limit_of_shapes_for_all_programs_it_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def older(module: nn.Module, *, dynamic: bool, options: dict[str, object]) -> nn.Module:
        assert not dynamic
        assert options
        return module

    limits: Any = torch._dynamo.config
    for name in ("recompile_limit", "accumulated_recompile_limit"):
        monkeypatch.setattr(limits, name, 8)
    monkeypatch.setattr(torch, "compile", older)
    chips = torch.ones(1, 1, 2, 2)
    assert torch.equal(compile_network(nn.Identity(), "net")(chips), chips)
    assert min(limits.recompile_limit, limits.accumulated_recompile_limit) > 1000


def test_a_model_without_weights_has_nothing_to_compile() -> None:
    scene = landscape(50, 40, 2), np.ones((40, 50), np.bool_)
    chips = grid(scene[0], 16, 0, 1)
    plain, made = (Predictor(WATER_INDEX[0], None, CPU, compiled=flag) for flag in (False, True))
    assert same(in_blocks(made, chips, *scene, 16), in_blocks(plain, chips, *scene, 16))
