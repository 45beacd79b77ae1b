"""The browser that pages are looked at in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.apps.chromium import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as made:
        yield made
