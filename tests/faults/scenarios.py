"""Situations that only a careful protocol survives. Each returns what went wrong, in words; nothing when all is well.

`tests.faults.mutants` breaks the protocol on purpose, and each break must be noticed by the scenario named with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.records.documents import merge
from earthloom.models.zoo import variants
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.faults.golden import Golden, attempt, config, differences, published
from tests.faults.loop import strike
from tests.faults.store import Fault, Injector, Killed, Request

Scenario = Callable[[Golden, Path], list[str]]


def a_marker_is_proof(golden: Golden, out: Path) -> list[str]:
    """Killed right after the first marker."""
    first = next(one for one in golden.requests if one.is_marker)
    return list(strike(Fault(first, "kill after"), golden).wrong)


def an_own_commit_is_known(golden: Golden, out: Path) -> list[str]:
    """The answer to the commit of a scene is lost; whoever asks again meets an object that exists."""
    injector = Injector(Fault(_commit_of(golden, "east"), "lost"))
    ended = attempt(config(golden.scenes, out), out, injector)
    return (
        []
        if _status(ended, "east") == "published"
        else [f"east, which this run committed, is {_status(ended, 'east')}"]
    )


def a_new_model_is_a_new_result(golden: Golden, out: Path) -> list[str]:
    """The same scenes with another version of the model."""
    if (first := _finish(golden, out)) is None:
        return ["the first run failed"]
    real = variants

    def changed(name: str, *places: Any) -> Any:
        return [
            (dataclasses.replace(card, mean=tuple(m + 0.01 for m in card.mean)), place)
            for card, place in real(name, *places)
        ]

    with mock.patch("earthloom.jobs.planning.words.variants", changed):
        second = attempt(config(golden.scenes, out), out, Injector())
    output = {name: _status(second, name) for name in ("east", "west")}
    wrong = [
        f"{name} is {status} with a model that never ran" for name, status in output.items() if status != "published"
    ]
    if isinstance(second, RunResult) and any(
        first.results[n].prefix == second.results[n].prefix for n in second.results
    ):
        wrong.append("two models publish to one prefix")
    return wrong


def a_lost_shard_is_not_published(golden: Golden, out: Path) -> list[str]:
    """A finished shard vanishes before its scene is put together."""
    shard = next(one.key for one in golden.requests if "east" in one.key and one.key.endswith("0/classes/c/1/1"))

    def vanish(request: Request, _: tuple[Any, ...]) -> None:
        if request.method == "zarr get" and "east" in request.key:
            (out / shard).unlink(missing_ok=True)

    ended = attempt(config(golden.scenes, out), out, Injector(hook=vanish))
    if _status(ended, "east") == "published":
        return ["east is published without one of its shards"]
    return _whole(_finish(golden, out), golden, out)


def damaged_tiles_are_not_published(golden: Golden, out: Path) -> list[str]:
    """A bit of a shard's tiles flips before its scene is put together."""
    flipped: list[Path] = []

    def flip(request: Request, _: tuple[Any, ...]) -> None:
        if request.is_marker and "east" in request.key and not flipped:
            tiles = (out / request.key).with_suffix(".tiles")  # the marker's own: another's may still be written
            data = bytearray(tiles.read_bytes())
            data[30] ^= 1
            tiles.write_bytes(data)
            flipped.append(tiles)

    ended = attempt(config(golden.scenes, out), out, Injector(hook=flip))
    if _status(ended, "east") == "published":
        return ["east is published with damaged tiles"]
    return _whole(_finish(golden, out), golden, out)


def garbage_is_overwritten(golden: Golden, out: Path) -> list[str]:
    """Other bytes lie where a shard goes, with no marker that vouches for them."""
    shard = next(one.key for one in golden.requests if one.method == "put" and one.key.endswith("0/classes/c/1/1"))
    path = out / shard
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a shard")
    return _whole(_finish(golden, out), golden, out)


def one_driver_wins(golden: Golden, out: Path) -> list[str]:
    """A second driver does the whole run while the first is about to commit."""
    others: list[Any] = []

    def overtake(request: Request, _: tuple[Any, ...]) -> None:
        if request.key == _commit_of(golden, "east").key and request.method != "get" and not others:
            others.append(attempt(config(golden.scenes, out), out, Injector()))

    first = attempt(config(golden.scenes, out), out, Injector(hook=overtake))
    ends = [_status(one, "east") for one in (first, *others)]
    wrong = (
        [] if ends == ["already published", "published"] else [f"the first driver says {ends[0]}, the second {ends[1]}"]
    )
    return wrong + _whole(first, golden, out)


def nobodys_item_is_lost(golden: Golden, out: Path) -> list[str]:
    """A run on another scene enters the catalogue between this run's reading it and writing it."""
    others: list[Any] = []

    def overtake(request: Request, _: tuple[Any, ...]) -> None:
        if request.key.endswith("collection.json") and request.method in ("create", "replace") and not others:
            others.append(attempt(config(golden.scenes / "west.tif", out), out, Injector()))

    first = attempt(config(golden.scenes / "east.tif", out), out, Injector(hook=overtake))
    wanted = {name: data for name, data in golden.published.items() if not name.startswith("runs/")}
    found = {name: data for name, data in published(out).items() if not name.startswith("runs/")}
    wrong = [f"{name} differs" for name in differences(found, wanted)]
    return wrong + ([] if _status(first, "east") == "published" else [f"east is {_status(first, 'east')}"])


def a_store_without_conditions_is_refused(golden: Golden, out: Path) -> list[str]:
    """A store that ignores If-None-Match and If-Match."""
    ended = attempt(config(golden.scenes, out), out, Injector())
    return [f"the run was refused: {ended}"] if isinstance(ended, Exception) else []


def stale_writers_do_not_win(golden: Golden, out: Path) -> list[str]:
    """Two writers of one document, the second of which has not seen the first."""
    store = open_store(ObjectRef.parse(str(out)))
    merge(store, "list", lambda old: (old or b"") + b"a")
    interrupted: list[None] = []

    def append(old: bytes | None) -> bytes:
        if not interrupted:
            interrupted.append(None)
            merge(store, "list", lambda then: (then or b"") + b"b")
        return (old or b"") + b"c"

    merge(store, "list", append)
    try:
        held = store.get("list")
    except MissingObjectError:
        held = b""
    return [] if held == b"abc" else [f"of a, b and c only {held!r} was kept"]


def _commit_of(golden: Golden, scene: str) -> Request:
    return next(one for one in golden.requests
                if one.method == "create" and scene in one.key and one.key.endswith("result.json"))  # fmt: skip


def _status(ended: Any, scene: str) -> str:
    return ended.scenes[scene].status if isinstance(ended, RunResult) else f"{type(ended).__name__}: {ended}"


def _finish(golden: Golden, out: Path, runs: int = 2) -> RunResult | None:
    """Run again until all is published, at most `runs` times."""
    for _ in range(runs):
        ended = attempt(config(golden.scenes, out), out, Injector())
        if isinstance(ended, RunResult) and ended.exit_code == 0:
            return ended
    return None


def _whole(ended: Any, golden: Golden, out: Path) -> list[str]:
    if ended is None or isinstance(ended, Killed):
        return ["the runs never finish"]
    return [f"{name} differs" for name in differences(published(out), golden.published)]
