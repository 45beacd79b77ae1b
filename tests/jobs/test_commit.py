from __future__ import annotations

import json
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.records.documents import Claim, claim, commit, merge
from earthloom.jobs.records.run_commit import commit_key, commit_run, note_superseded
from earthloom.tiling.errors import PublishError, StorageError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store
from tests.stores import Fault, Faulty
from tests.threads import side_by_side

DOCUMENT = {"format": 1, "pixels": 7, "parts": ("a", "b")}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(ObjectRef.parse(str(tmp_path)))


def held(store: Store, key: str = "result.json") -> dict[str, Any]:
    return dict(json.loads(store.get(key)))


@pytest.mark.parametrize("fault", ["lost", "conflict", "reset", "silent"])
def test_whatever_happens_to_the_answer_the_only_writer_has_won(store: Store, fault: Fault) -> None:
    assert commit(Faulty(store, {("create", 1): fault}), "result.json", DOCUMENT)
    assert held(store)["pixels"] == 7


@pytest.mark.parametrize("fault", ["lost", "reset", "silent", None])
def test_an_equal_document_of_another_writer_is_accepted(store: Store, fault: Fault | None) -> None:
    assert commit(store, "result.json", DOCUMENT)
    first = held(store)
    faults = {("create", 1): fault} if fault else {}
    assert not commit(Faulty(store, faults), "result.json", DOCUMENT)
    assert held(store) == first


def test_another_document_is_refused_and_the_difference_is_named(store: Store) -> None:
    commit(store, "result.json", DOCUMENT)
    with pytest.raises(PublishError, match=r"result\.json was made by another writer and differs in pixels, shards"):
        commit(store, "result.json", {**DOCUMENT, "pixels": 8, "shards": 1})


def test_a_failed_read_is_an_error_and_no_guess(store: Store) -> None:
    for fault in ("lost", "silent", "conflict"):
        key = f"{fault}.json"
        faulty = Faulty(store, {("create", 1): fault, ("get", 1): "reset"})
        with pytest.raises(StorageError, match="get failed"):
            commit(faulty, key, DOCUMENT)


def test_a_store_that_never_writes_ends_in_its_own_error(store: Store) -> None:
    always: dict[tuple[str, int], Fault] = {("create", n): "reset" for n in range(1, 99)}
    faulty = Faulty(store, always)
    with pytest.raises(StorageError, match="create failed"):
        commit(faulty, "result.json", DOCUMENT)
    assert 2 <= faulty.calls["create"] <= 6, "tried again, and not for ever"
    refused = Faulty(store, always, transient=False)
    with pytest.raises(StorageError, match="create failed"):
        commit(refused, "result.json", DOCUMENT)
    assert refused.calls["create"] == 1, "a refusal is no matter of trying"


def test_a_document_of_an_unknown_version_is_refused(store: Store) -> None:
    store.put("result.json", b'{"format": 2}')
    with pytest.raises(PublishError, match="has format 2, this version reads 1"):
        commit(store, "result.json", DOCUMENT)


def contend(store: Store, trials: int) -> None:
    """Four writers, each losing an answer now and then: one winner, and it is the one whose document is there."""
    faults: list[Fault | None] = [None, "lost", "conflict", "silent"]
    barrier = threading.Barrier(4)

    def write(trial: int, number: int) -> Claim:
        fault = faults[(number + trial) % 4]
        mine = Faulty(store, {("create", 1): fault} if fault else {})
        barrier.wait()
        return claim(mine, f"race/{trial}.json", {"format": 1, "writer": number})

    for trial in range(trials):
        claims = side_by_side(partial(write, trial), range(4))
        (winner,) = [number for number, made in enumerate(claims) if made.won]
        assert held(store, f"race/{trial}.json")["writer"] == winner
        assert {made.document["writer"] for made in claims} == {winner}


def test_one_of_four_racing_writers_wins_although_answers_are_lost(store: Store) -> None:
    contend(store, 20)


@pytest.mark.s3
def test_one_of_four_racing_writers_wins_in_a_bucket(s3_env: None) -> None:
    contend(open_store(ObjectRef.parse("s3://outputs/race-commit")), 10)


def _add(name: str) -> Any:
    return lambda existing: json.dumps(sorted({*(json.loads(existing) if existing else []), name})).encode()


@pytest.mark.parametrize("fault", ["lost", "conflict", "reset", "silent"])
@pytest.mark.parametrize("method", ["create", "replace"])
def test_a_change_is_made_once_whatever_happens_to_the_answer(store: Store, method: str, fault: Fault) -> None:
    if method == "replace":
        merge(store, "list", _add("a"))
    faulty = Faulty(store, {(method, 1): fault})
    merge(faulty, "list", _add("b"))
    merge(faulty, "list", _add("c"))
    assert json.loads(store.get("list")) == [*(["a"] if method == "replace" else []), "b", "c"]


def test_a_change_that_another_made_in_between_is_kept(store: Store) -> None:
    merge(store, "list", _add("a"))
    faulty = Faulty(store, {})

    def interrupt(method: str) -> None:
        if method == "replace" and faulty.calls.get("replace", 0) == 0:
            merge(store, "list", _add("b"))

    faulty.before = interrupt
    merge(faulty, "list", _add("c"))
    assert json.loads(store.get("list")) == ["a", "b", "c"]


def test_writers_that_change_one_object_at_once_lose_nothing(store: Store) -> None:
    def add(number: int) -> None:
        for count in range(5):
            fault: Fault = ("lost", "silent", "conflict", "reset")[(number + count) % 4]
            faulty = Faulty(store, {("replace", 1): fault})
            merge(faulty, "list", _add(f"{number}-{count}"))

    side_by_side(add, range(4))
    assert len(json.loads(store.get("list"))) == 20


def test_a_run_that_was_committed_without_some_scenes_gains_them_later(store: Store) -> None:
    commit_run(store, "r", scenes={"a": "scenes/a/1"}, missing=["b"])
    commit_run(store, "r", scenes={"a": "scenes/a/1", "b": "scenes/b/1"}, missing=[])
    whole = held(store, commit_key("r"))
    assert (whole["scenes"], whole["missing"]) == ({"a": "scenes/a/1", "b": "scenes/b/1"}, [])
    commit_run(store, "r", scenes={"a": "scenes/a/1"}, missing=["b"])
    assert held(store, commit_key("r")) == whole, "a slower driver that failed takes nothing back"
    note_superseded(store, "r", "scenes/a/1")
    less = held(store, commit_key("r"))
    assert (less["scenes"], less["superseded"]) == ({"b": "scenes/b/1"}, {"a": "scenes/a/1"})
    commit_run(store, "r", scenes=whole["scenes"], missing=[])
    assert held(store, commit_key("r"))["superseded"] == {}
