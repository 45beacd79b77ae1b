"""The run that all faulty runs are compared with, made once."""

from __future__ import annotations

import pytest

from tests.faults.golden import SMALL_PX, Golden, golden, hurried


@pytest.fixture(scope="session")
def golden_run(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    with hurried():
        return golden(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    with hurried():
        return golden(tmp_path_factory.mktemp("small"), SMALL_PX)
