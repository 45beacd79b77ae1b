"""The n-th request loop in memory: one request of some work meets a fault; then the work is done again until it is done.

A reader looks before each request, and in the end all is byte for byte what it is without faults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from earthloom.tiling.errors import EarthloomError
from tests.faults.store import Fault, FaultyStore, Injector, Killed, Request
from tests.memory_store import MemoryStore

_TRIES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one fault."""

    fault: Fault
    tries: int
    """Until the work was done; 1 where it got over the fault itself."""
    wrong: tuple[str, ...]


def faults_of(requests: Sequence[Request]) -> list[Fault]:
    """Every fault of every request but those that only take time, in the order of the requests."""
    return [Fault(request, action) for request in requests for action in request.actions if action != "stall"]


def strike(
    fault: Fault,
    store: MemoryStore,
    work: Callable[[FaultyStore], None],
    look: Callable[[Mapping[str, bytes]], Sequence[str]],
    snapshot: Callable[[MemoryStore], Mapping[str, bytes]],
    after: Mapping[str, bytes],
) -> Verdict:
    """Work with one fault, then again.

    Args:
        look: what is wrong for a reader of these objects.
        snapshot: what is compared in the end, and `after`: as it is without faults.
    """
    wrong: list[str] = []
    looks = dict[int, Sequence[str]]()

    def check(_: Request, __: tuple[Any, ...]) -> None:
        objects = dict(store.objects)  # at once, as other threads go on writing
        state = hash(tuple((key, id(data)) for key, data in objects.items()))
        if state not in looks:  # only where something was written since
            looks[state] = look(objects)
        wrong.extend(looks[state])

    ended: Exception | None = None
    for number in range(1, _TRIES + 1):
        injector = Injector(fault if number == 1 else None, hook=check)
        try:
            work(FaultyStore(store, injector))
            ended = None
        except Exception as error:  # judged below
            ended = error
        if number == 1 and not injector.fired:
            wrong.append("the request was never made")
        if ended is None:
            break
        if not isinstance(ended, Killed | EarthloomError):
            wrong.append(f"it crashed: {type(ended).__name__}: {ended}")
    else:
        wrong.append(f"not done after {_TRIES} tries: {ended}")
    found = snapshot(store)
    wrong += [f"{key} differs" for key in sorted(found.keys() | after.keys()) if found.get(key) != after.get(key)]
    return Verdict(fault=fault, tries=number, wrong=tuple(dict.fromkeys(wrong)))
