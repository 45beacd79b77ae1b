from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from earthloom.models.device.resolve import resolve
from earthloom.tiling.errors import ConfigError, EngineError


def test_cuda_that_is_absent_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="use `device=auto`"):
        resolve("cuda")


@pytest.mark.parametrize(
    ("capability", "amx", "bf16", "expected"),
    [
        ("AVX512", True, True, ("cpu-amx", "bf16")),
        ("AVX512", False, True, ("cpu-avx512bf16", "bf16")),
        ("AVX512", False, False, ("cpu-avx512", "fp32")),
        ("AVX2", False, False, ("cpu-avx2", "fp32")),
        ("DEFAULT", False, False, ("cpu-default", "fp32")),
    ],
)
def test_auto_takes_bf16_only_where_it_is_native(
    capability: str, amx: bool, bf16: bool, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    device = resolve("cpu")
    assert (device.device_class, device.precision) == expected
    assert resolve("cpu", "fp32").precision == "fp32"


def test_a_gpu_is_named_by_its_architecture_its_size_and_what_drives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    h100 = SimpleNamespace(major=9, minor=0, multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: h100)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr("earthloom.models.device.resolve.cudnn_version", lambda: 91002)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    device = resolve()
    assert (device.kind, device.device_class, device.precision) == ("cuda", "cuda-sm90x132-12.8-91002", "bf16")


@pytest.mark.parametrize("options", [("tpu", "auto"), ("cpu", "int8"), ("cpu", "fp16")])
def test_words_that_cannot_be_met_are_refused(options: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"`device`|`precision"):
        resolve(*options)
