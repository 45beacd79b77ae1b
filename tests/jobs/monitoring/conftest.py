"""Fixtures that many tests of monitoring share."""

from __future__ import annotations

from pathlib import Path

import pytest

from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """On a folder of the test's own."""
    return open_store(ObjectRef.parse(str(tmp_path)))
