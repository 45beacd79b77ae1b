"""What a long command says on stderr while it works: for a terminal, for a log with times, or as lines of JSON.

What changes is said as it happens; what stays as it was is counted at the end.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from earthloom.jobs.command.terminal import duration, make_console, with_flags
from earthloom.jobs.records.attempt import now

if TYPE_CHECKING:
    from rich.table import Table

    from earthloom.jobs.execution.event import Event

AS_JSON = "earthloom.log_json"
"""Key in click's context that says that lines are JSON, for whoever has none of the command's options."""
_ABOUT = "earthloom.about"
"""Key in click's context of the facts that every line repeats."""
_PLAIN_EVERY_S = 10.0
_NAMES = 8
"""Scenes named in a line that is about many."""
_MOST_BARS = 12
"""Scenes with a bar of their own at a time."""


def log_json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--log-json`, of commands that speak by `Lines`; logs, and what ends the command, are then lines of JSON too."""

    def remember(context: click.Context, _: click.Parameter, value: bool) -> bool:
        context.meta[AS_JSON] = value
        if value:
            _log_as_json(_about())
        return value

    told = "print each line of stderr as a JSON object"
    return click.option("--log-json", is_flag=True, callback=remember, help=told)(command)


class Lines:
    """Prints lines: as they are on a terminal, with the time in front where there is none, or each as a JSON object."""

    def __init__(self, *, as_json: bool = False, timed: bool = False) -> None:
        """
        Args:
            timed: put the time in front on a terminal too, for a command that stays for days.
        """
        self.console = make_console()
        self.as_json, self._timed = as_json, timed
        self.is_live = self.console.is_terminal and not as_json
        self.about = _about()
        """Facts of every line of this command from now on, for machines: of which run it is."""
        if as_json:
            _log_as_json(self.about)

    def say(self, event: str, text: str, **fields: Any) -> None:
        """Print a line.

        Args:
            event: what kind of line it is, for machines.
            text: for people, in rich's markup; text of others is escaped by `plain`.
            fields: the facts of the line, for machines.
        """
        bare = Text.from_markup(text).plain
        if self.as_json:
            facts = {"time": now(), "event": event, **self.about, **fields, "message": bare}
            print(json.dumps(facts), file=sys.stderr, flush=True)
        elif self.console.is_terminal and not self._timed:
            self.console.print(text, soft_wrap=True)
        else:
            print(f"{now()} {bare}", file=sys.stderr, flush=True)

    def show(self, table: Table | str) -> None:
        """Print a table, for people alone."""
        if not self.as_json:
            self.console.print(table)


def _about() -> dict[str, Any]:
    """One dictionary per command, so that whoever says its last line knows of which run it was."""
    context = click.get_current_context(silent=True)
    found: dict[str, Any] = context.meta.setdefault(_ABOUT, {}) if context else {}
    return found


def plain(text: str) -> str:
    """Text of others, as it is, with the options that it names spelled as flags."""
    return escape(with_flags(" ".join(text.split())))


def named(scene_id: str, text: str) -> str:
    """`lake: why`, whether the text has the id already or not."""
    return plain(text if text.startswith(f"{scene_id}: ") else f"{scene_id}: {text}")


def by_reason(found: Iterable[tuple[str, str]]) -> list[tuple[list[str], str]]:
    """Scenes with what is wrong with them, each reason once, in the words that it has for the first of its scenes.

    Args:
        found: id and reason of each scene. Reasons are the same if they differ by the id alone, which is no number: that may
            stand for anything in a reason.
    """
    groups: dict[str, tuple[list[str], str]] = {}
    for scene_id, text in found:
        text = text.removeprefix(f"{scene_id}: ")
        same = text if scene_id.isdecimal() else text.replace(scene_id, "\0")
        groups.setdefault(same, ([], text))[0].append(scene_id)
    return list(groups.values())


def listed(scene_ids: Sequence[str]) -> str:
    """`a`, `a, b and c`, or the first few and how many more."""
    if len(scene_ids) > _NAMES + 1:
        return f"{', '.join(scene_ids[:_NAMES])} and {len(scene_ids) - _NAMES} more"
    return " and ".join(filter(None, (", ".join(scene_ids[:-1]), scene_ids[-1])))


def _log_as_json(about: Mapping[str, Any]) -> None:
    logging.captureWarnings(True)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_JsonFormatter(about))


class _JsonFormatter(logging.Formatter):
    def __init__(self, about: Mapping[str, Any]) -> None:
        super().__init__()
        self._about = about

    def format(self, record: logging.LogRecord) -> str:
        facts = {"time": now(), "event": "log", **self._about, "level": record.levelname.lower()}
        return json.dumps(facts | {"message": with_flags(super().format(record))})


class Progress:
    """Shows events: live bars on a terminal, else a line now and then. Use as a context manager.

    Args:
        lines: by which lines are said.
    """

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self._bars: dict[str, TaskID] = {}
        self._notes: Mapping[str, Sequence[str]] = {}
        self._said: set[str] = set()
        self._refused: list[Event] = []
        """Refusals come first and all together. They are said when the last of them is there."""
        self._computed_px = 0
        self._last = time.monotonic()
        self._started: float | None = None
        self._begun: dict[str, tuple[float, int]] = {}
        """For each scene that is being computed: when it was first heard of, and how many of its blocks were done then."""
        self._progress = RichProgress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} blocks"),
            TextColumn("{task.fields[rate]}"), console=lines.console, transient=False,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the bars as they are."""
        self._say_refused()
        if self._bars:  # else it would print an empty line
            self._progress.stop()

    def expect(self, notes: Sequence[tuple[str, str]]) -> None:
        """Take the notes of a plan: each is said once, when the first scene begins that it is of."""
        by_scene: dict[str, list[str]] = {}
        for scene_id, text in notes:
            by_scene.setdefault(scene_id, []).append(text)
        self._notes = by_scene

    def __call__(self, event: Event) -> None:
        if event.status == "already published" or event.known:
            return  # it was so before; the end of the run counts it
        if event.status == "refused" and not self.lines.as_json:
            self._refused.append(event)
            return
        self._say_refused()
        self._computed_px += event.computed_px
        if self._started is None:  # planning is over
            self._started = time.monotonic()
        elapsed = max(time.monotonic() - self._started, 1e-6)
        left_s = self._left_s(event)
        rate = f"{self._computed_px / 1e6 / elapsed:.2f} Mpx/s"
        rate += f", about {duration(left_s)} left" if left_s else ""
        for text in self._notes.get(event.scene_id, ()):
            if text not in self._said:
                self._said.add(text)
                others = sum(text in texts for texts in self._notes.values()) - 1
                who = event.scene_id + (f" and {others} more" if others else "")
                self.lines.say(
                    "note",
                    f"[yellow]note[/] {named(who, text)}",
                    run_id=event.run_id,
                    product=event.product,
                    scenes=[name for name, texts in self._notes.items() if text in texts],
                    note=with_flags(text),
                )
        if self.lines.is_live and event.blocks:
            self._draw(event, rate)
            if not event.error:
                return
        quiet = event.status == "running" and 0 < event.blocks_done < event.blocks
        if quiet and time.monotonic() - self._last < _PLAIN_EVERY_S:
            return
        self._last = time.monotonic()
        why = f": {plain(event.error.removeprefix(f'{event.scene_id}: '))}" if event.error else ""
        blocks = f" {event.blocks_done}/{event.blocks} blocks {rate}" if event.blocks else ""
        self.lines.say(
            "scene", f"{plain(event.scene_id)} {event.status}{blocks}{why}", run_id=event.run_id, product=event.product,
            scene=event.scene_id, status=event.status, blocks_done=event.blocks_done, blocks=event.blocks,
            left_s=left_s and round(left_s, 1), error=with_flags(event.error) if event.error else None,
        )  # fmt: skip

    def _say_refused(self) -> None:
        for scene_ids, why in by_reason((event.scene_id, event.error or "") for event in self._refused):
            self.lines.say("scene", f"{plain(listed(scene_ids))} refused: {plain(why)}")
        self._refused.clear()

    def _left_s(self, event: Event) -> float | None:
        """How long the blocks of a scene that are left will take, by those that were done; None where none was."""
        if event.status != "running":
            self._begun.pop(event.scene_id, None)
            return None
        now_s = time.monotonic()
        begun_s, done_before = self._begun.setdefault(event.scene_id, (now_s, event.blocks_done))
        done = event.blocks_done - done_before
        return (now_s - begun_s) * (event.blocks - event.blocks_done) / done if done else None

    def _draw(self, event: Event, rate: str) -> None:
        self._progress.start()
        if event.scene_id not in self._bars:
            while len(self._bars) >= _MOST_BARS:
                self._progress.remove_task(self._bars.pop(next(iter(self._bars))))
            self._bars[event.scene_id] = self._progress.add_task(escape(event.scene_id), total=event.blocks, rate="")
        self._progress.update(
            self._bars[event.scene_id], completed=event.blocks_done, rate=rate,
            description=f"{escape(event.scene_id)} {event.status}",
        )  # fmt: skip
