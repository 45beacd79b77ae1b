"""Keeps the number of threads that a test sets from reaching the next one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.models.nets import tiny_registry

__all__ = ["tiny_registry"]


@pytest.fixture(autouse=True)
def _threads_stay() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_thread(_threads_stay: None) -> None:
    """For chips so small that threads would wait for each other."""
    torch.set_num_threads(1)
