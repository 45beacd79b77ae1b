"""`earthloom monitor`, beside what it prints. Decides nothing; heavy modules are imported inside the command."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from earthloom.jobs.command.options import SectionedCommand, options_of
from earthloom.jobs.command.run import Progress, exit_on_sigterm, result_json, show_notes
from earthloom.jobs.command.terminal import counted, in_a_file, make_console, with_flags
from earthloom.jobs.monitoring.options import MonitorConfig

if TYPE_CHECKING:
    from earthloom.jobs.monitoring.monitor import MonitorEvent, MonitorResult, ProductResult

_EVERY_S = 10.0


@click.command(cls=SectionedCommand)
@click.argument("files", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="machine-readable result on stdout, logs on stderr")
@options_of(MonitorConfig, but=("files",), short={"out": "-o"})
def monitor(files: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Bring areas up to date: map new scenes, then their cubes and all that follows from them. Again: only what is new."""
    from earthloom.jobs.config import RunConfig, check
    from earthloom.jobs.intake.options import SceneOptions
    from earthloom.jobs.monitoring.monitor import monitor as do_monitor

    settings = check(MonitorConfig, {"files": files, **options})
    exit_on_sigterm()
    with in_a_file({*RunConfig.model_fields, *SceneOptions.model_fields} - options.keys()):
        with Progress() as progress:
            result = do_monitor(settings, on_event=_Lines(), on_scene=progress)
        if as_json:
            click.echo(json.dumps(monitor_json(result), indent=2))
        else:
            show_monitor(result)
    sys.exit(result.exit_code)


def monitor_json(result: MonitorResult) -> dict[str, Any]:
    """How it ended, as plain data."""
    return {
        "out": result.out, "exit_code": result.exit_code,
        "refused": [{"file": file, "message": with_flags(why)} for file, why in result.refused],
        "products": [
            {
                "aoi": one.aoi, "product": one.product, "status": one.status, "prefix": one.prefix,
                "cube": one.update.cube.prefix if one.update.cube else None, "generation": one.update.generation,
                "dates": [step.date.isoformat() for step in one.update.cube.steps] if one.update.cube else [],
                "new_dates": _new(one), "renewed": one.update.renewed, "derived": dict(one.derived),
                "errors": [{"doing": doing, "kind": kind, "message": with_flags(text)} for doing, kind, text in one.errors],
                "notes": [with_flags(note) for note in one.notes], "run": result_json(one.run) if one.run else None,
            }
            for one in result.products
        ],
    }  # fmt: skip


def show_monitor(result: MonitorResult) -> None:
    """What is up to date, where it lies, and what failed and why."""
    console = make_console()
    for file, why in result.refused:
        console.print(f"[red]refused[/] {with_flags(file)}: {with_flags(why)}", soft_wrap=True)
    table = Table(title=f"monitors below {result.out}", title_justify="left")
    for name in ("area", "product", "status", "dates", "new", "from", "to"):
        table.add_column(name, justify="right" if name in ("dates", "new") else "left")
    for one in result.products:
        steps = one.update.cube.steps if one.update.cube else ()
        ends = (str(steps[0].date), str(steps[-1].date)) if steps else ("", "")
        table.add_row(one.aoi, one.product, one.status, str(len(steps)), str(_new(one)), *ends)
    if result.products:
        console.print(table)
    for one in result.products:
        where = f"{one.aoi} {one.product}"
        for doing, _, text in one.errors:
            console.print(f"[red]failed[/] {where}, {doing}: {with_flags(text)}", soft_wrap=True)
        show_notes(console, one.run.notes if one.run else ())
        for note in one.notes:
            console.print(f"[yellow]note[/] {where}: {with_flags(note)}", soft_wrap=True)
        root = result.out.rstrip("/")
        if one.update.cube:
            console.print(f"{where}: cube")
            print(f"{root}/{one.update.cube.prefix}")
        for stage, summary in one.derived.items():
            for text, key in _told(stage, summary, one.prefix):
                console.print(f"{where}: {text}", soft_wrap=True)
                if key:
                    print(f"{root}/{key}")


def _told(stage: str, summary: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str | None]]:
    """What a stage made, in words, and where the newest of it lies below OUT."""
    from earthloom.jobs.products.areas import area_text  # which imports numpy

    match stage:
        case "composites":
            for rule, made in summary.items():
                yield f"composites {rule}, {counted(made['periods'], 'period')}, the latest", made["latest"]
        case "change":
            for name, made in summary.items():
                yield f"change {name}" + ("" if made else ": its dates have not come yet"), made and made["prefix"]
        case "alerts":
            for name, made in summary.items():
                if waits := made.get("waits_for"):
                    yield f"alerts {name} wait for {waits}", None
                    continue
                states = [f"{of['count']} {state} ({area_text(of['area_m2'])})" for state, of in made["alerts"].items()]
                yield f"alerts {name}: {', '.join(states) or 'none'}", made.get("view")
        case "monitors":
            for name, made in summary.items():
                waits = made.get("waits_for")
                yield f"monitor {name}" + (f" waits for {waits}" if waits else ""), made.get("prefix")
        case "series" if summary:
            yield f"series of {counted(summary['dates'], 'date')}", f"{prefix}/series.png"


class _Lines:
    """Shows events as plain lines now and then."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, event: MonitorEvent) -> None:
        if event.done == event.total or time.monotonic() - self._last >= _EVERY_S:
            self._last = time.monotonic()
            print(f"{event.aoi} {event.product} {event.doing} {event.done}/{event.total}", file=sys.stderr)


def _new(one: ProductResult) -> int:
    """Dates that readers did not see before; of a cube that was made anew, all that it has more than the one before."""
    return max(0, len(one.update.cube.steps) - one.update.before) if one.update.cube else 0
