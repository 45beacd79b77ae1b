"""The making of a cube in storage: generations, claims, commits, and the choice of the current generation.

A generation is a list of steps that only grows. Who wants to add steps claims their places first, by creating
`log/<places taken so far>.json`: one writer wins, and everybody reads the same list. A claimed step is a pure function of
its claim, so whoever finds an unfinished one finishes it. Steps are committed by replacing the root document of the
Zarr, in order. A step that belongs between others makes a new generation; `head.json` names the one that readers follow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from earthloom.jobs.monitoring.cube.cube import Cube, Step, cube_of_root, open_cube
from earthloom.jobs.records.canonical import FORMAT, canonical, read_document
from earthloom.jobs.records.documents import claim, merge
from earthloom.tiling.errors import MissingObjectError, PublishError
from earthloom.tiling.storage.store import Store
from earthloom.tiling.writing.zarr_cube import ROOT, encode_times, time_keys

HEAD = "head.json"
_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One generation as storage holds it."""

    base: str
    """`monitors/<aoi>/<product>/<key>`"""
    number: int
    """Number of the entry, from 1."""
    template: Cube
    """The cube without steps."""
    steps: tuple[Step, ...]
    """All that are claimed."""
    committed: int
    """Number of them that readers see."""

    @property
    def prefix(self) -> str:
        return generation_prefix(self.base, self.number)

    @property
    def cube(self) -> Cube:
        """The cube that readers see."""
        return replace(self.template, steps=self.steps[: self.committed])


def generation_prefix(base: str, number: int) -> str:
    """Prefix under which a generation lies."""
    return f"{base}/generations/{number}"


def cube_prefix(base: str, number: int) -> str:
    """Prefix of a generation's `cube.zarr`."""
    return f"{generation_prefix(base, number)}/cube.zarr"


def read_head(store: Store, base: str) -> int:
    """Number of the current generation; 0 if there is none.

    Raises:
        PublishError: if the document is not of this version.
    """
    try:
        document = read_document(store.get(f"{base}/{HEAD}"), f"{store.ref.url}/{base}/{HEAD}")
    except MissingObjectError:
        return 0
    return int(document["generation"])


def current_cube(store: Store, base: str) -> Cube | None:
    """The cube that readers follow; None if there is none yet.

    Raises:
        PublishError: if it is not of this version.
    """
    number = read_head(store, base)
    return open_cube(store, cube_prefix(base, number)) if number else None


def advance_head(store: Store, base: str, number: int, content: Mapping[str, Any]) -> None:
    """Let readers follow this generation, unless they follow a later one.

    Args:
        said: what else the document says.
    """
    key = f"{base}/{HEAD}"

    def changed(existing: bytes | None) -> bytes:
        if existing is not None and int(read_document(existing, key)["generation"]) >= number:
            return existing
        return canonical({**content, "format": FORMAT, "generation": number})

    merge(store, key, changed)


def newest_generation(store: Store, base: str) -> Generation | None:
    """The last generation that anybody has begun, finished or not; None if there is none."""
    number = max(1, read_head(store, base))
    newest = read_generation(store, base, number)
    while newest is not None and (later := read_generation(store, base, newest.number + 1)) is not None:
        newest = later
    return newest


def read_generation(store: Store, base: str, number: int) -> Generation | None:
    """A generation with its claims; None if nobody has begun it.

    Raises:
        PublishError: if a document is not of this version, or the log does not fit the cube.
    """
    prefix, cube_at = generation_prefix(base, number), cube_prefix(base, number)
    places = sorted(_place(head.key) for head in store.list(f"{prefix}/log") if head.key.endswith(".json"))
    if not places:
        return None
    try:
        committed = open_cube(store, cube_at).steps
    except MissingObjectError:
        committed = ()
    # claims before the one that holds the last committed step say nothing new
    first = max((place for place in places if place <= len(committed)), default=0) if committed else 0
    wanted = sorted({0, *(place for place in places if place >= first)})  # the first one has the template
    with ThreadPoolExecutor(_AT_ONCE, "log") as pool:
        claims = dict(zip(wanted, pool.map(lambda place: _read_claim(store, prefix, place), wanted), strict=True))
    template = Cube.from_json({**claims[0]["cube"], "steps": []}, cube_at, log_key(prefix, 0))
    steps = committed[:first]
    while len(steps) in claims and (claimed := claims[len(steps)]["steps"]):
        steps += tuple(Step.from_json(step) for step in claimed)
    if steps[: len(committed)] != committed:
        raise PublishError(
            f"{store.ref.url}/{cube_at} holds steps that its log does not know; another program has written there: remove "
            f"{base} and run `earthloom monitor` again"
        )
    return Generation(base=base, number=number, template=template, steps=steps, committed=len(committed))


def log_key(prefix: str, place: int) -> str:
    """The claim of the steps from this place on."""
    return f"{prefix}/log/{place}.json"


def claim_steps(store: Store, prefix: str, place: int, steps: Sequence[Step], template: Cube) -> bool:
    """Claim the places from `place` on for these steps; False if another writer has claimed them.

    Args:
        prefix: prefix of the generation.
        place: how many steps are claimed already.
        steps: at least one.
        template: the cube that they belong to; the first claim of a generation keeps it.
    """
    document: dict[str, Any] = {"format": FORMAT, "steps": [step.to_json() for step in steps]}
    if place == 0:
        document["cube"] = {name: value for name, value in template.to_json().items() if name != "steps"}
    return claim(store, log_key(prefix, place), document).won


def commit_steps(store: Store, generation: Generation, count: int) -> Generation:
    """Let readers of a generation see its first `count` steps, whose shards are all there.

    The dates first, of which a reader sees no more than the root document says; then the root document, which is the
    commit; then the documents of single arrays, for readers that do not know consolidated metadata. None of them ever
    goes back, whoever else commits.

    Raises:
        StorageError: if other writers win every time, or the storage fails.
    """
    cube = replace(generation.template, steps=generation.steps[:count])
    documents = cube.metadata()
    growing = {ROOT} | {f"{layer.name}/{ROOT}" for layer in cube.layers} | {f"time/{ROOT}"}
    if count > generation.committed:
        if not generation.committed:
            for key in sorted(documents.keys() - growing):
                store.put(f"{cube.prefix}/{key}", documents[key])
        dates = [step.date for step in generation.steps]
        for number, key in enumerate(time_keys(dates[:count])):
            merge(store, f"{cube.prefix}/{key}", partial(encode_times, dates[:count], number))
        merge(store, f"{cube.prefix}/{ROOT}", lambda existing: _longer(existing, documents[ROOT], cube))
    for key in sorted(growing - {ROOT}):
        merge(store, f"{cube.prefix}/{key}", partial(_longer_array, ours=documents[key]))
    return replace(generation, committed=max(count, generation.committed))


def _longer(existing: bytes | None, ours: bytes, cube: Cube) -> bytes:
    """Whichever root document has more steps."""
    if existing is None:
        return ours
    held = cube_of_root(existing, cube.prefix, f"{cube.prefix}/{ROOT}")
    return existing if len(held.steps) >= len(cube.steps) else ours


def _longer_array(existing: bytes | None, ours: bytes) -> bytes:
    """Whichever array document has the longer first axis."""
    if existing is not None and json.loads(existing)["shape"][0] >= json.loads(ours)["shape"][0]:
        return existing
    return ours


def _place(key: str) -> int:
    name = key.rpartition("/")[2].removesuffix(".json")
    if not name.isdigit():
        raise PublishError(f"{key} is no claim of a cube; another program writes to this prefix")
    return int(name)


def _read_claim(store: Store, prefix: str, place: int) -> dict[str, Any]:
    key = log_key(prefix, place)
    return read_document(store.get(key), f"{store.ref.url}/{key}")
