"""Calls made in disposable child processes, with a deadline and a memory cap, so that what they read cannot harm us.

A decoder that crashes, hangs or fills memory takes its child along and nothing else: the call raises, and the next one
finds a fresh child. Knows nothing of rasters. Runs by `python -m earthloom.tiling.reading.sandbox FD`, for this module only.
"""

from __future__ import annotations

import os
import pickle
import queue
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

from earthloom.tiling.errors import EarthloomError, EngineError, SceneError

P = ParamSpec("P")
T = TypeVar("T")

_MIB = 2**20
_START_S = 60.0
_ANSWER_BYTES = 16 * _MIB
_FILE_BYTES = 64 * 1024
_GRACE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """What one call may use up."""

    deadline_s: float = 120.0
    memory_bytes: int = 1536 * _MIB
    """Private writable memory of the child (RLIMIT_DATA), of which about 150 MiB are its libraries."""


class Disposables:
    """Up to `size` children, started when calls come and kept for the next ones; `with` ends them all.

    Calls may come from any number of threads; more than `size` at once wait for a free child.
    """

    def __init__(self, size: int = 1, cap: Cap | None = None, preload: tuple[str, ...] = ()) -> None:
        """
        Args:
            size: most children at once.
            cap: of each call.
            preload: modules that children import before the first call; the first child does so while the caller is
                still at other things.
        """
        self._cap, self._preload = cap or Cap(), preload
        self._sound: bool | None = None
        self._asking = threading.Lock()
        self._free: queue.LifoQueue[_Child | None] = queue.LifoQueue()  # the last used first: start as few as needed
        for _ in range(size):
            self._free.put(None)

    def __enter__(self) -> Self:
        self._free.get()
        self._free.put(_started_early(self._cap, self._preload) or _Child(self._cap, self._preload))
        return self

    def __exit__(self, *_: object) -> None:
        while True:
            try:
                child = self._free.get_nowait()
            except queue.Empty:
                return
            if child is not None:
                child.end()

    def call(self, what: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`function(*args, **kwargs)` in a child; all must pickle, and the function be importable.

        Args:
            what: the name of what is read, for messages.

        Raises:
            EarthloomError: the function's own.
            SceneError: if the call failed otherwise: it killed its child, ran over its cap, or raised something else.
            EngineError: if no child could be started.
        """
        child = self._free.get()
        try:
            if child is None:
                child = _Child(self._cap, self._preload)
            verdict, value = child.ask((function, args, kwargs))
        except BaseException as error:
            if child is not None:
                child.end()
                child = None
            if isinstance(error, _LostError):
                kind = CrashError if error.crashed else SceneError
                raise kind(f"{what} cannot be trusted: checking it {error}") from None
            raise
        finally:
            self._free.put(child)
        if verdict == "value":
            result: T = value
            return result
        if verdict == "ours":
            raise value
        raise SceneError(
            f"{what} could not be checked: {value}; the file says something that its reader does not expect: rewrite it with "
            "gdal_translate -of COG, or leave it out"
        )

    def is_sound(self, function: Callable[[], object]) -> bool:
        """Whether a fresh child with ample caps survives the function; asked once, when a child has crashed."""
        with self._asking:
            if self._sound is None:
                try:
                    with Disposables(1, Cap(), self._preload) as fresh:
                        fresh.call("a sound file", function)
                    self._sound = True
                except CrashError:
                    self._sound = False
                except EarthloomError:
                    self._sound = True  # it did not crash, which is all that was asked
            return self._sound


_early: list[_Child] = []


def start_early(preload: tuple[str, ...]) -> None:
    """Start a child, with the usual caps, that the next pool with these modules begins with.

    It lasts as long as this process; one whose environment is no longer this process's is not taken.

    Raises:
        EngineError: if no child could be started.
    """
    _early.append(_Child(Cap(), preload))


def _started_early(cap: Cap, preload: tuple[str, ...]) -> _Child | None:
    while _early:
        child = _early.pop()
        if child.made_for == (cap, preload, _environment(), Path.cwd()):
            return child
        child.end()
    return None


class CrashError(SceneError):
    """Reading a file killed the process that read it."""

    @property
    def how(self) -> str:
        """`checking it killed its process (SIGSEGV)`, without a guess at the cause."""
        return str(self).partition(": ")[2].partition(";")[0]


class _LostError(Exception):
    """A child did not answer; the message says why, after "checking it"."""

    def __init__(self, message: str, *, crashed: bool = False) -> None:
        super().__init__(message)
        self.crashed = crashed


class _Child:
    def __init__(self, cap: Cap, preload: tuple[str, ...]) -> None:
        self._cap, self._ready = cap, False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the child)
        self._pipe, theirs = Pipe()
        env = _environment()
        self.made_for = cap, preload, env, Path.cwd()
        command = [sys.executable, "-P", "-m", "earthloom.tiling.reading.sandbox", str(theirs.fileno()), repr(cap.deadline_s),
                   str(cap.memory_bytes), *preload]  # fmt: skip
        try:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=env, stdin=subprocess.DEVNULL, stdout=self._errors,
                stderr=self._errors, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise EngineError(f"cannot start a process to check scenes in: {error.strerror or error}") from error
        finally:
            theirs.close()

    def _await(self) -> None:
        try:
            self._ready = self._pipe.poll(_START_S) and self._pipe.recv_bytes(_ANSWER_BYTES) == b"ready"
        except (EOFError, OSError):
            self._ready = False
        if not self._ready:
            raise EngineError(
                f"the process to check scenes in did not start within {_START_S:g} s: {self._last_words()}; "
                "earthloom doctor looks for what is missing"
            )

    def ask(self, task: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> tuple[str, Any]:
        if not self._ready:
            self._await()
        until = time.monotonic() + self._cap.deadline_s
        try:
            self._pipe.send_bytes(pickle.dumps(task))
            if not self._pipe.poll(max(0.0, until - time.monotonic())):
                raise _LostError(
                    f"took more than {self._cap.deadline_s:g} s; it is made to keep readers busy, or its storage stalls"
                )
            answer = self._pipe.recv_bytes(_ANSWER_BYTES)
        except (EOFError, OSError):
            raise self._death() from None
        verdict, value = pickle.loads(answer)
        if verdict == "memory":
            raise _LostError(self._too_much())
        return verdict, value

    def _death(self) -> _LostError:
        try:
            code = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            return _LostError(
                f"said more of it than the {_ANSWER_BYTES // _MIB} MiB that are heard; it is made to fill memory"
            )
        if code == -signal.SIGALRM:
            return _LostError(
                f"took more than {self._cap.deadline_s:g} s; it is made to keep readers busy, or its storage stalls"
            )
        words = self._last_words()
        if "bad_alloc" in words or "emory" in words:
            return _LostError(self._too_much())
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
        return _LostError(
            f"killed its process ({name}); the file is damaged or an attack: fetch it again from its source",
            crashed=True,
        )

    def _too_much(self) -> str:
        return (
            f"would take more than the {self._cap.memory_bytes / _MIB:.0f} MiB of memory that are allowed for it; rewrite "
            "it with tiles of 512 px: gdal_translate -of COG"
        )

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read(_FILE_BYTES).decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "it said nothing"

    def end(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}  # noqa: PTH109


def _serve(descriptor: int, deadline_s: float, memory_bytes: int, preload: list[str]) -> None:
    """The child: answer calls until the parent is gone."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold credentials
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))  # reads only; its last words fit
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process inside native code too, parent alive or not
    for name in preload:
        import_module(name)
    with Connection(descriptor) as pipe:
        pipe.send_bytes(b"ready")
        while True:
            try:
                task = pipe.recv_bytes()
            except (EOFError, OSError):
                os._exit(0)
            signal.setitimer(signal.ITIMER_REAL, deadline_s + _GRACE_S)
            verdict, value = _answer(task)
            answer = pickle.dumps((verdict, value))
            signal.setitimer(signal.ITIMER_REAL, 0)
            pipe.send_bytes(answer)


def _answer(task: bytes) -> tuple[str, Any]:
    try:
        function, args, kwargs = pickle.loads(task)
        return "value", function(*args, **kwargs)
    except EarthloomError as error:
        return "ours", error
    except MemoryError:
        return "memory", None
    except Exception as error:
        return "other", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


if __name__ == "__main__":
    _serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
