"""The outcome of a task: `Done` or `Failed`, with a `Fault` in place of an exception.

Exceptions do not cross the wire: their classes may not be importable, or their state not picklable, on the other side.
Knows nothing of threads, Ray or retries.
"""

from __future__ import annotations

from dataclasses import dataclass
from traceback import walk_tb
from typing import Any, TypeAlias

from earthloom.tiling import errors
from earthloom.tiling.redact import redact


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An exception as a plain record: it pickles whatever the exception was."""

    kind: str
    """Class name of the exception, or `WorkerDied` / `PoisonTask` when there was none."""
    message: str
    """For humans, with the remedy."""
    transient: bool = False
    """True when the same task may succeed later with nothing changed."""
    exit_code: int = 1

    @classmethod
    def of(cls, error: BaseException) -> Fault:
        """Record an exception. Earthloom's errors say themselves whether they are transient; of the others only
        connection errors and time-outs are. An error that is not one of ours was not foreseen, so the message ends with the
        line of Earthloom's code that it came through: it is all that reaches a person from a worker elsewhere."""
        message = redact(str(error)) or type(error).__name__
        if not isinstance(error, errors.EarthloomError) and (line := line_of(error)):
            message = f"{message} ({line})"
        return cls(
            kind=type(error).__name__,
            message=message,
            transient=bool(getattr(error, "transient", isinstance(error, ConnectionError | TimeoutError))),
            exit_code=error.exit_code if isinstance(error, errors.EarthloomError) else 1,
        )

    def as_error(self) -> errors.EarthloomError:
        """The error to raise when this fault ends the run: the same class if it is one of ours, else EngineError."""
        found = getattr(errors, self.kind, None)
        if not (isinstance(found, type) and issubclass(found, errors.EarthloomError)):
            return errors.EngineError(f"{self.kind}: {self.message}")
        if found is errors.StorageError:
            return errors.StorageError(self.message, transient=self.transient)
        return found(self.message)


def line_of(error: BaseException) -> str:
    """`earthloom.tiling.window, line 8`: the innermost line of Earthloom's code that an exception came through, but for this
    package, which all of them come through; empty where there is none."""
    modules = ((str(frame.f_globals.get("__name__")), line) for frame, line in walk_tb(error.__traceback__))
    lines = [
        f"{module}, line {line}"
        for module, line in modules
        if module.startswith("earthloom.") and not module.startswith("earthloom.cluster.")
    ]
    return lines[-1] if lines else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The task was finished."""

    key: str
    value: Any
    attempts: int
    """Runs that counted: this one and those that faulted or killed their worker alone."""
    seconds: float
    """Running time of the last attempt in the worker."""
    causes: tuple[str, ...] = ()
    """How each earlier attempt ended, in a line; a worker's death counts even where the task was not alone in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The task was given up."""

    key: str
    error: Fault
    attempts: int
    seconds: float
    causes: tuple[str, ...] = ()
    """Causes of the failed attempts, as in `Done`, the last one included."""


Outcome: TypeAlias = Done | Failed
