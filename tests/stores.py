"""A store that misbehaves on purpose, around one that does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.store import Store

Fault = Literal["lost", "conflict", "reset", "silent"]
"""How a write goes wrong.

`lost`: it is done, the answer is lost, and the client's own second try says that the object exists or has changed.
`conflict`: the answer is a conflict although nothing has landed (409). `reset`: an error, and nothing is done.
`silent`: an error, and it is done.
"""


class Faulty:
    """Passes everything on to `inner`; the n-th call of a method, from 1, has a fault."""

    def __init__(self, inner: Store, faults: dict[tuple[str, int], Fault], *, transient: bool = True) -> None:
        self.inner, self.faults, self.transient = inner, faults, transient
        self.calls: dict[str, int] = {}
        self.before: Callable[[str], None] = lambda _: None
        """Called with the method's name before each call."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self.before(name)
            self.calls[name] = self.calls.get(name, 0) + 1
            fault = self.faults.get((name, self.calls[name]))
            if fault in ("lost", "silent", None):
                answer = found(*arguments, **options)
            if fault is None:
                return answer
            if fault in ("lost", "conflict"):
                return False
            raise StorageError(f"{name} failed", transient=self.transient)

        return call
