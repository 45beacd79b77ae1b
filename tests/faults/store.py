"""Storage that fails on purpose, inside this process: every request of a run is counted, and one of them meets a fault.

A killed run is one whose store refuses everything from then on, whichever thread asks: what SIGKILL looks like from
storage. Real signals are sent by `tests.faults.kills`; this is the fast and exhaustive form.
"""

from __future__ import annotations

import functools
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zarr.storage import WrapperStore

from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.local import LocalObjects
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store

WRITES = ("put", "create", "replace", "upload", "copy", "delete")
READS = ("get", "get_range", "get_versioned", "head", "list", "zarr get")
ON_WRITES = ("kill before", "kill after", "torn", "503", "lost", "stall")
ON_READS = ("kill before", "503", "stall")  # the answer of a read that is lost or cut short is an error like a 503
STALL_S = 0.15

_RANDOM = re.compile(r"(?<=probe)\S*[0-9a-f]{8,}|(?<=\.)[0-9a-f]{12}(?=\.partial)")


class Killed(Exception):  # noqa: N818 (it is no error)
    """The run is dead. No error of ours, so nobody handles it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, the same one in every run: how often the same was asked before tells it from its repetitions."""

    method: str
    key: str
    nth: int

    def __str__(self) -> str:
        return f"{self.method} {self.key} #{self.nth}"

    @property
    def is_marker(self) -> bool:
        """Whether a block's marker is written."""
        return self.method == "put" and "/blocks/" in self.key and self.key.endswith(".json")

    @property
    def actions(self) -> tuple[str, ...]:
        """The faults that it can meet."""
        return ON_WRITES if self.method in WRITES else ON_READS


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request."""

    request: Request
    action: str

    def __str__(self) -> str:
        return f"{self.action} at {self.request}"


class Injector:
    """Counts the requests of one run and lets one of them meet a fault, or each with some chance."""

    def __init__(
        self, fault: Fault | None = None, *, chance: Callable[[Request], str | None] | None = None,
        hook: Callable[[Request, tuple[Any, ...]], None] | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            fault: the one fault, if any.
            chance: says of each request which fault it meets.
            hook: called with each request and its arguments before it is carried out, in the thread that makes it.
        """
        self.fault, self.chance, self.hook = fault, chance, hook
        self.requests: list[Request] = []
        self.fired = 0
        self.dead = False
        self._seen: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    @property
    def markers(self) -> int:
        """Blocks that were computed to their end."""
        return sum(one.is_marker for one in self.requests)

    def before(self, method: str, key: str, arguments: tuple[Any, ...] = ()) -> tuple[Request, str | None]:
        """Count a request, and say which fault it meets."""
        key = _RANDOM.sub("*", key)
        with self._lock:
            self._check()
            self._seen[method, key] += 1
            request = Request(method, key, self._seen[method, key])
            self.requests.append(request)
            action = self.chance(request) if self.chance else None
            if self.fault is not None and self.fault.request == request:
                action = self.fault.action
            self.fired += action is not None
            if action in ("kill before", "torn"):
                self.dead = True
        if action == "kill before":
            raise Killed(str(request))
        if self.hook is not None:
            self.hook(request, arguments)
        if action == "503":
            raise StorageError(f"{request}: 503 Slow Down (injected)", transient=True)
        if action == "stall":
            time.sleep(STALL_S)
            self._check()
        return request, action

    def after(self, request: Request, action: str | None) -> None:
        """What the caller hears once the request was carried out."""
        if action == "kill after":
            self.dead = True
        self._check()
        if action == "lost" and request.method not in ("create", "replace"):
            raise StorageError(f"{request}: connection reset (injected)", transient=True)

    def _check(self) -> None:
        if self.dead:
            raise Killed("this run is dead")


class FaultyStore:
    """A store whose requests pass an injector."""

    def __init__(self, inner: Store, injector: Injector) -> None:
        self._inner, self._injector = inner, injector
        self.ref = inner.ref

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name == "zarr":
            return lambda prefix, **options: _FaultyZarr(method(prefix, **options), self._injector, prefix)
        if name not in WRITES + READS:
            return method

        def call(key: str = "", *arguments: Any) -> Any:
            written = arguments[0] if name == "copy" else key
            request, action = self._injector.before(name, written, arguments)
            if action == "torn":
                _leave_debris(self._inner, written)
                raise Killed(str(request))
            result = method(key, *arguments)
            if name == "list":
                result = iter(list(result))
            self._injector.after(request, action)
            if action == "lost" and name in ("create", "replace"):
                return False  # the client asked again by itself, and met its own object
            return result

        return call


class _FaultyZarr(WrapperStore[Any]):
    def __init__(self, inner: Any, injector: Injector, prefix: str) -> None:
        super().__init__(inner)
        self._injector, self._prefix = injector, prefix

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        request, action = self._injector.before("zarr get", f"{self._prefix}/{key}")
        value = await self._store.get(key, prototype, byte_range)
        self._injector.after(request, action)
        return value


def _leave_debris(store: Store, key: str) -> None:
    """What a writer that dies half way leaves in a folder."""
    if isinstance(store, LocalObjects):
        path = (store.ref / key).path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.0123456789ab.partial").write_bytes(b"half")


_current = threading.local()


@contextmanager
def injected(injector: Injector, out: Path) -> Iterator[None]:
    """Every store that this thread opens on `out` while the block runs passes `injector`.

    A run opens its stores in the thread that calls it. Its other threads keep the store they have beyond the block, so a
    dead run stays dead; and several runs may go on in several threads, each with its injector.
    """
    _install()
    before = getattr(_current, "injector", None)
    _current.injector = injector, ObjectRef.parse(str(out))
    try:
        yield
    finally:
        _current.injector = before


@functools.cache
def _install() -> None:
    """Put a switch before `open_store` in all modules that use it; it does nothing where no injector is set."""
    import earthloom.jobs.execution.driver
    import earthloom.jobs.execution.worker

    real = earthloom.tiling.storage.store.open_store

    def open_store(ref: ObjectRef) -> Any:
        injector, root = getattr(_current, "injector", None) or (None, None)
        return FaultyStore(real(ref), injector) if injector is not None and ref == root else real(ref)

    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "earthloom" and vars(module).get("open_store") is real:
            vars(module)["open_store"] = open_store
