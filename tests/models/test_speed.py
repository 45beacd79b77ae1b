"""The speed that estimates of running time stand on."""

from __future__ import annotations

import itertools

import pytest
import torch

from earthloom.models.device.resolve import Device
from earthloom.models.device.speed import flop_per_s

CPU = Device(kind="cpu", precision="fp32", device_class="cpu")


def test_a_busy_machine_is_no_slower_and_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before, hours = torch.get_num_threads(), itertools.count(0, 3600)
    monkeypatch.setattr("time.perf_counter", lambda: next(hours))  # others have the cores
    monkeypatch.setattr("time.monotonic", lambda: next(hours))
    assert flop_per_s(CPU) > 1e8, "the time that a core computed counts"
    assert torch.get_num_threads() == before
    monkeypatch.setattr("time.thread_time", itertools.count(0, 0.5).__next__)
    one, four = (flop_per_s(CPU, threads=n) for n in (1, 4))
    assert four == pytest.approx(4 * one)
