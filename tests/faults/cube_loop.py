"""The n-th request loop over a cube: each request of an update meets each fault once; then updates run until it is done.

Whatever the fault was, a reader that opens the cube before any request sees whole dates only, and in the end the cube is
byte for byte that of an update without faults.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from earthloom.jobs.monitoring.cube.cube import open_cube
from earthloom.jobs.monitoring.cube.log import cube_prefix, read_head
from earthloom.jobs.monitoring.cube.marks import read_sum
from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.objects import ObjectRef
from tests.faults import again
from tests.faults.again import Verdict
from tests.faults.store import Fault, FaultyStore, Injector, Request
from tests.jobs.monitoring.watched import RULES, Watched, scene, snapshot
from tests.memory_store import MemoryStore

SCENES = (
    scene("a", "2020-01-01T10:00:00Z", seed=1), scene("b", "2020-02-01T10:00:00Z", seed=2, east_px=100),
    scene("c", "2020-03-01T10:00:00Z", seed=3), scene("d", "2020-03-01T11:00:00Z", seed=4, east_px=450),
)  # fmt: skip

CASES: Mapping[str, tuple[Sequence[int], Sequence[int]]] = {
    "first": ((), (0, 1)), "append": ((0,), (1,)), "between": ((0, 3), (1,)), "replace": ((0, 2), (3,)),
}  # fmt: skip
"""By name, the scenes that the cube holds before, and those that come; positions in SCENES."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An update, as it is without a fault."""

    name: str
    folder: Path
    before: Mapping[str, bytes]
    """Every object, once the scenes are committed and the update has not begun."""
    after: Mapping[str, bytes]
    """The current generation then."""
    requests: tuple[Request, ...]
    seen: frozenset[str]
    """What a reader may see: each state of the cube that is whole (`look`)."""


def case(name: str, folder: Path) -> Case:
    """Make the scenes below `folder`, and update without a fault."""
    first, then = ([SCENES[number] for number in numbers] for numbers in CASES[name])
    out = Watched(folder)
    seen = {"none"}
    if first:
        out.commit(*first)
        out.update()
        seen.add(look(out.store))
    out.commit(*then)
    before = dict(out.store.objects)
    injector = Injector()
    made = out.update(store=FaultyStore(out.store, injector))
    assert not made.failures
    seen.add(look(out.store))
    return Case(
        name=name, folder=folder, before=before, after=snapshot(out.store), requests=tuple(injector.requests),
        seen=frozenset(seen),
    )  # fmt: skip


def look(store: MemoryStore) -> str:
    """What a reader sees: the digest of all dates, pixels and sums; `none` where there is no cube yet.

    Raises:
        Exception: if it cannot be read as it says.
    """
    if not (number := read_head(store, RULES.base)):
        return "none"
    cube = open_cube(store, cube_prefix(RULES.base, number))
    root = json.loads(store.get(f"{cube.prefix}/zarr.json"))["consolidated_metadata"]["metadata"]
    lengths = {name: root[name]["shape"][0] for name in ("classes", "confidence", "time")}
    assert set(lengths.values()) == {len(cube.steps)}, f"arrays of different length: {lengths}"
    days = np.frombuffer(store.get(f"{cube.prefix}/time/c/0"), "<i4")[: len(cube.steps)]
    dates = [str(step.date) for step in cube.steps]
    assert days.astype("M8[D]").astype(str).tolist() == dates, "the time coordinate is not that of the steps"
    found = hashlib.sha256(repr(dates).encode())
    for step in range(len(cube.steps)):
        for layer in cube.layers:
            for row, col, _ in cube.shards():
                # as they are stored: decoding them before each request would take minutes
                shard = f"{cube.prefix}/{cube.layout.shard_key(layer.name, step, row, col)}"
                found.update(repr(store.objects.get(shard)).encode())
        found.update(repr(read_sum(store, cube.prefix, step)).encode())
    return found.hexdigest()


def strike(fault: Fault, one: Case) -> Verdict:
    """Update with one fault, then again until all is done, with a reader before each request."""
    store = MemoryStore(ObjectRef.parse(str(one.folder)), dict(one.before))
    out = Watched(one.folder, store)

    def update(faulty: FaultyStore) -> None:
        if failures := out.update(store=faulty).failures:
            raise StorageError("; ".join(failures))

    def wrong(objects: Mapping[str, bytes]) -> list[str]:
        try:
            seen = look(MemoryStore(store.ref, dict(objects)))
        except Exception as error:
            seen = f"{type(error).__name__}: {error}"
        return [] if seen in one.seen else [f"a reader sees {seen}"]

    return again.strike(fault, store, update, wrong, snapshot, one.after)
