"""What an executor is: tasks in, outcomes out. Knows nothing of how they are run.

A worker is built once per process by a `WorkerFactory` and is then called from several threads, its lanes: while one
task computes, another may read and a third may write. How much of that may overlap is bounded by the worker itself.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from earthloom.cluster.outcome import Outcome
from earthloom.tiling.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One unit of work; running it twice must do no harm, because a worker may die after finishing it."""

    key: str
    """Names the task in its outcome and in messages."""
    payload: Any
    """What the worker is called with: a small picklable value."""


class Worker(Protocol):
    """Runs payloads, from several threads at once."""

    def __call__(self, payload: Any, /) -> Any:
        """Run one payload and return a small picklable value.

        An exception makes the task `Failed`, after retries when it is transient; it does not harm the worker.
        """


@dataclass(frozen=True, slots=True)
class WorkerFactory:
    """A recipe that travels to the worker's process: a top-level callable and its one argument.

    Raises:
        EngineError: if either does not pickle.
    """

    make: Callable[[Any], Worker]
    arguments: Any = None

    def __post_init__(self) -> None:
        try:
            pickle.dumps((self.make, self.arguments))
        except Exception as error:
            raise EngineError(
                f"the worker factory {self.make!r} cannot be sent to workers ({error}); use a top-level function or "
                "class and plain values as its arguments"
            ) from error

    def __call__(self) -> Worker:
        return self.make(self.arguments)


class Executor(Protocol):
    """Runs many tasks and says what happened to each."""

    def run(self, tasks: Iterable[Task | None]) -> Generator[Outcome, None, None]:
        """Run tasks and yield their outcomes in order of completion, one per task.

        Tasks are pulled as they are needed, never more than a bounded window ahead. One task's failure does not stop
        the others. Closing the generator abandons what is in flight and returns at once.

        Args:
            tasks: in the order in which they are to start. A task may follow from the outcome of another one: None says
                that there is none now, and the source is asked again when the caller has taken the next outcome.

        Raises:
            EarthloomError: if no worker can be made, with the class of the factory's own error where it is ours.
            EngineError: if the source gives None while no task is without its outcome, so that it would wait for ever.
        """

    def dismiss(self) -> None:
        """Give back all workers: those that are kept from one run to the next, and those of a run that was not closed.

        A later run starts others.
        """
