"""Any sequence of runs, crashes, lost answers, rivals, changed sources and sweeps, against a model of what must hold.

The model is a dictionary: what has been committed, by prefix. Whatever happens, a committed result has exactly the bytes
that a run without faults gives, stays until a sweep of superseded results is asked for, and is linked whole or not at all.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.upkeep.gc import sweep
from earthloom.tiling.storage.objects import ObjectRef
from tests.faults.golden import SMALL_PX, attempt, config, hurried, published, write_scenes
from tests.faults.reader import Reader
from tests.faults.store import Injector, Request

_VARIANTS = 2


@dataclass(frozen=True, slots=True)
class _Reference:
    """What runs without faults publish."""

    files: dict[str, dict[str, bytes]]
    """By prefix, of every variant of the scenes."""
    n_requests: int
    """Of one run."""
    variants: tuple[Path, ...]
    """Folders of scenes."""
    scenes: Path
    """Where each variant lies while it is run; items tell the place of their source, so it is the same for all."""


@cache
def _reference() -> _Reference:
    root = Path(tempfile.mkdtemp(prefix="earthloom-machine-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    files: dict[str, dict[str, bytes]] = {}
    folders = [write_scenes(root / f"variant-{number}", SMALL_PX, shift=number) for number in range(_VARIANTS)]
    injector = Injector()
    for number, folder in enumerate(folders):
        _put_in_place(folder, root / "scenes")
        injector = Injector()
        attempt(config(root / "scenes", root / str(number)), root / str(number), injector)
        files |= _by_prefix(root / str(number))
    return _Reference(files, len(injector.requests), tuple(folders), root / "scenes")


def _put_in_place(variant: Path, scenes: Path) -> None:
    scenes.mkdir(exist_ok=True)
    for path in variant.iterdir():
        shutil.copy(path, scenes.parent / "new")
        (scenes.parent / "new").replace(scenes / path.name)


def _by_prefix(out: Path) -> dict[str, dict[str, bytes]]:
    """Committed results only."""
    found: dict[str, dict[str, bytes]] = {}
    for name, data in published(out).items():
        if name.startswith("scenes/"):
            found.setdefault("/".join(name.split("/")[:3]), {})[name] = data
    return {prefix: files for prefix, files in found.items() if f"{prefix}/result.json" in files}


class RunsOverFaultyStorage(RuleBasedStateMachine):
    """One OUT, and everything that may happen to it."""

    faults: ClassVar = 0
    runs: ClassVar = 0
    """Of all sequences so far."""

    def __init__(self) -> None:
        super().__init__()
        self._hurry = hurried()
        self._hurry.__enter__()
        self._wanted = _reference()
        _put_in_place(self._wanted.variants[0], self._wanted.scenes)
        self._root = Path(tempfile.mkdtemp(prefix="earthloom-machine-"))
        self._out = self._root / "out"
        self._reader = Reader(self._out)
        self._committed: set[str] = set()

    def teardown(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        self._hurry.__exit__(None, None, None)

    def _run(self, injector: Injector) -> Any:
        ended = attempt(config(self._wanted.scenes, self._out), self._out, injector)
        RunsOverFaultyStorage.runs += 1
        RunsOverFaultyStorage.faults += injector.fired
        return ended

    @rule(share=st.floats(0, 1))
    def crash(self, share: float) -> None:
        """A run is killed at some request."""
        at = 1 + int(share * self._wanted.n_requests)
        counted = iter(range(1, 1_000_000))
        self._run(Injector(chance=lambda _: "kill before" if next(counted) == at else None))

    @rule(at=st.integers(0, 3))
    def lose_answers(self, at: int) -> None:
        """Every fourth write is carried out, and its answer never comes."""
        counted = iter(range(1_000_000))
        self._run(Injector(chance=lambda one: "lost" if "lost" in one.actions and next(counted) % 4 == at else None))

    @rule()
    def rival(self) -> None:
        """A second driver does the whole run while the first is about to commit."""
        others: list[Any] = []

        def overtake(request: Request, _: tuple[Any, ...]) -> None:
            if request.method == "create" and request.key.endswith("result.json") and not others:
                others.append(self._run(Injector()))

        ends = [self._run(Injector(hook=overtake)), *others]
        assert all(isinstance(one, RunResult) and one.exit_code == 0 for one in ends), ends
        for scene in ("east", "west"):
            assert sum(one.scenes[scene].status == "published" for one in ends) <= 1

    @rule(variant=st.integers(0, _VARIANTS - 1))
    def change_source(self, variant: int) -> None:
        """Another version of the scenes takes the place of the old one."""
        _put_in_place(self._wanted.variants[variant], self._wanted.scenes)

    @rule(variant=st.integers(0, _VARIANTS - 1))
    def change_source_during_a_run(self, variant: int) -> None:
        """The same, in the middle of a run."""
        changed: list[None] = []

        def swap(request: Request, _: tuple[Any, ...]) -> None:
            if request.is_marker and not changed:
                changed.append(None)
                self.change_source(variant)

        self._run(Injector(hook=swap))

    @rule()
    def resume(self) -> None:
        """A run that nothing disturbs."""
        ended = self._run(Injector())
        assert isinstance(ended, RunResult), ended
        assert ended.exit_code == 0, {name: scene.error for name, scene in ended.scenes.items()}
        self._committed |= {result.prefix for result in ended.results.values()}

    @precondition(lambda self: self._out.exists())
    @rule(superseded=st.booleans())
    def sweep(self, superseded: bool) -> None:
        """Abandoned work is removed, and superseded results if asked for."""
        scenes = {prefix.split("/")[1] for prefix in self._committed}
        sweep(ObjectRef.parse(str(self._out)), older_than_s=0, delete=True, superseded=superseded, living_s=0)
        left = {"/".join(path.relative_to(self._out).parts[:3]) for path in self._out.glob("scenes/*/*")}
        assert left == set(_by_prefix(self._out)), "something uncommitted was left"
        if superseded:
            assert {prefix.split("/")[1] for prefix in left} >= scenes, "the last result of a scene was removed"
            self._committed &= left

    @invariant()
    def what_is_committed_is_whole_and_stays(self) -> None:
        found = _by_prefix(self._out) if self._out.exists() else {}
        for prefix, files in found.items():
            assert files == self._wanted.files[prefix], f"{prefix} is not what a run without faults publishes"
        assert found.keys() >= self._committed, "a committed result is gone"
        self._committed = set(found)
        self._reader.look()
        assert not self._reader.violations
