"""The n-th request loop over a watch: each request of a look meets each fault once; then looks are made until all is known.

Whatever the fault was, every good scene is mapped and done in the end, every bad one is named, nothing is called done that
was not mapped, and a scene is mapped twice only if its watcher was struck between mapping it and saying so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from earthloom.jobs.records import lease
from earthloom.tiling.errors import EarthloomError
from tests.faults.store import Fault, FaultyStore, Injector, Killed, Request
from tests.jobs.operations.watching import Mapper, arrive, look_once, memory_out, remembered, write_file
from tests.memory_store import MemoryStore

GOOD, BAD = ("a_20200101", "c_20200103", "d_20200104"), ("bad_20200102",)
_LOOKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchVerdict:
    """What became of one fault."""

    fault: Fault
    looks: int
    """Until everything was known; 1 where the look itself got over the fault."""
    wrong: tuple[str, ...]


def prepare(folder: Path) -> tuple[Path, tuple[Request, ...]]:
    """A folder with scenes, and every request of a look without a fault; runs are of two scenes."""
    file = write_file(folder)
    arrive(folder, *GOOD, *BAD)
    injector = Injector()
    with memory_out(FaultyStore(MemoryStore(), injector), Mapper()):
        look_once(file, at_once=2)
    return file, tuple(injector.requests)


def strike(fault: Fault, file: Path) -> WatchVerdict:
    """Look with one fault, then again until all is known. A dead watcher's lease is taken over at once."""
    store, mapper = MemoryStore(), Mapper()
    wrong: list[str] = []

    def check(request: Request, _: tuple[Any, ...]) -> None:
        if "/done/" in request.key and request.method == "create" and not mapper.mapped:
            wrong.append(f"{request} before anything was mapped")

    for number in range(1, _LOOKS + 1):
        injector = Injector(fault if number == 1 else None, hook=check)
        try:
            with mock.patch.object(lease, "EXPIRES_S", 0.0), memory_out(FaultyStore(store, injector), mapper):
                look_once(file, at_once=2)
        except (Killed, EarthloomError):
            pass
        except Exception as error:
            wrong.append(f"the look crashed: {type(error).__name__}: {error}")
        if number == 1 and not injector.fired:
            wrong.append("the request was never made")
        if remembered(store, "done") == list(GOOD) and remembered(store, "bad") == list(BAD):
            break
    else:
        wrong.append(f"after {_LOOKS} looks {remembered(store, 'done')} are done, {remembered(store, 'bad')} bad")
    for name in (*GOOD, *BAD):
        if not 1 <= mapper.mapped.count(name) <= 2:
            wrong.append(f"{name} was mapped {mapper.mapped.count(name)} times")
    twice = [name for name in (*GOOD, *BAD) if mapper.mapped.count(name) > 1]
    if len(twice) > 2:
        wrong.append(f"{', '.join(twice)} were mapped twice, and a run has two scenes")
    return WatchVerdict(fault=fault, looks=number, wrong=tuple(wrong))
