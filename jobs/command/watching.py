"""`earthloom status --watch`: the runs of an OUT, again and again, until none is at work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from earthloom.jobs.command.lines import Lines, plain
from earthloom.jobs.records.attempt import SceneProgress
from earthloom.jobs.report.verdict import count

EVERY_S = 5.0
_SHOWN = 12  # runs, the latest


def watch_runs(read: Callable[[], Mapping[str, Any]], every_s: float = EVERY_S) -> None:
    """Show runs until none is at work: redrawn on a terminal, else a line for each run whenever it has changed.

    Args:
        read: gives what `jobs.upkeep.status.status` says now.
    """
    lines = Lines()
    said: dict[str, str] = {}
    with Live(console=lines.console, auto_refresh=False) as live:
        while True:
            runs = read()["runs"][-_SHOWN:]
            if lines.is_live:
                live.update(_table(runs), refresh=True)
            else:
                for run in runs:
                    if (text := _line(run)) != said.get(run["run_id"]):
                        said[run["run_id"]] = text
                        lines.say("run", plain(text), run_id=run["run_id"], state=run["state"])
            if not any(run["state"] == "running" for run in runs):
                return
            time.sleep(every_s)


def facts_of(run: Mapping[str, Any]) -> tuple[str, str, int, int, str]:
    """The state in a word, scenes in words, blocks that are done and all, and the speed.

    A run that ended without some of its scenes is `failed` in its record; here it is called incomplete where the others
    are published.
    """
    scenes = [
        SceneProgress(one["status"], blocks=one["blocks"], blocks_done=one["blocks_done"], known=bool(one.get("known")))
        for one in run["scenes"].values()
    ]
    rate = run["telemetry"].get("mpx_per_s")
    done, every = (sum(getattr(one, name) for one in scenes) for name in ("blocks_done", "blocks"))
    counts = count(scenes)
    state = "incomplete" if run["state"] == "failed" and counts.published else run["state"]
    return state, str(counts), done, every, f"{rate:.2f} Mpx/s" if rate else ""


def _line(run: Mapping[str, Any]) -> str:
    state, scenes, done, every, rate = facts_of(run)
    return f"run {run['run_id'][:12]} {run['model']} {state}: {scenes}; {done}/{every} blocks {rate}".rstrip()


def _table(runs: list[Mapping[str, Any]]) -> Table:
    table = Table()
    for name in ("run", "product", "state", "scenes", "blocks", "", "speed", "heard of"):
        table.add_column(name)
    for run in runs:
        state, scenes, done, every, rate = facts_of(run)
        bar = ProgressBar(total=max(1, every), completed=done, width=24)
        table.add_row(
            run["run_id"][:12],
            plain(run["model"]),
            state,
            scenes,
            f"{done}/{every}",
            bar,
            rate,
            run["updated"] or "",
        )
    return table
