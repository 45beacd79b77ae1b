from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.local import LocalObjects
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.probe import probe_conditional_writes
from earthloom.tiling.storage.store import Store, open_store
from tests.stores import Fault, Faulty


class Heedless(LocalObjects):
    """A store that overwrites what exists, as S3 servers without conditional PUT do."""

    ignores = "create"

    def create(self, key: str, data: bytes) -> bool:
        if self.ignores == "create":
            self.put(key, data)
            return True
        return super().create(key, data)

    def replace(self, key: str, data: bytes, etag: str) -> bool:
        if self.ignores == "replace":
            self.put(key, data)
            return True
        return False if self.ignores == "always no" else super().replace(key, data, etag)


@pytest.mark.parametrize(
    ("ignores", "problem"),
    [
        ("create", "If-None-Match is ignored"),
        ("replace", "If-Match is ignored"),
        ("always no", "If-Match failed on the current version"),
    ],
)
def test_a_store_that_ignores_conditions_is_refused_with_the_remedy(tmp_path: Path, ignores: str, problem: str) -> None:
    store = Heedless(ObjectRef.parse(str(tmp_path)))
    store.ignores = ignores
    with pytest.raises(StorageError, match=rf"{problem}.*use a store with If-None-Match"):
        probe_conditional_writes(store)
    assert not list(store.list())


@pytest.mark.parametrize("fault", ["lost", None])
@pytest.mark.parametrize("method", ["create", "replace"])
def test_a_sound_store_passes_in_few_requests_and_keeps_nothing(
    tmp_path: Path, method: str, fault: Fault | None
) -> None:
    store = open_store(ObjectRef.parse(str(tmp_path)))
    faulty: Any = Faulty(store, {(method, 1): fault} if fault else {})
    probe_conditional_writes(faulty)
    assert sum(faulty.calls.values()) <= 7
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.s3
def test_a_real_server_passes(s3_env: None) -> None:
    store: Store = open_store(ObjectRef.parse("s3://outputs/probe"))
    probe_conditional_writes(store)
    assert not list(store.list())
