from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.local import LocalObjects
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.probe import probe_access, probe_conditional_writes, time_of
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


@pytest.mark.parametrize("method", ["put", "get", "list", "delete"])
def test_a_machine_that_lacks_one_right_is_refused(tmp_path: Path, method: str) -> None:
    faulty: Any = Faulty(open_store(ObjectRef.parse(str(tmp_path))), {(method, 1): "reset"}, transient=False)
    with pytest.raises(StorageError, match=f"{method} failed"):
        probe_access(faulty)
    assert bool(list(tmp_path.rglob("*.*"))) == (method == "delete"), "what may be removed is"


def test_a_machine_with_all_rights_passes_in_four_requests_and_keeps_nothing(tmp_path: Path) -> None:
    faulty: Any = Faulty(open_store(ObjectRef.parse(str(tmp_path))), {})
    probe_access(faulty)
    assert faulty.calls == {"put": 1, "get": 1, "list": 1, "delete": 1}
    assert not list(tmp_path.rglob("*.*"))


def test_a_store_that_gives_other_bytes_is_refused(tmp_path: Path) -> None:
    store = LocalObjects(ObjectRef.parse(str(tmp_path)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "get", lambda _: b"a cache's")
        with pytest.raises(StorageError, match="not what was written there"):
            probe_access(store)


@pytest.mark.s3
def test_a_real_server_passes(s3_env: None) -> None:
    store: Store = open_store(ObjectRef.parse("s3://outputs/probe"))
    probe_conditional_writes(store)
    probe_access(store)
    assert abs(time_of(store) - time.time()) < 60
    assert not list(store.list())
