"""`earthloom monitor`, beside what it prints. Decides nothing; heavy modules are imported inside the command."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from earthloom.jobs.command.lines import Lines, Progress, log_json_option, named, plain
from earthloom.jobs.command.options import SectionedCommand, options_of
from earthloom.jobs.command.run import result_json
from earthloom.jobs.command.sigterm import exit_on_sigterm
from earthloom.jobs.command.terminal import counted, in_a_file, with_flags
from earthloom.jobs.monitoring.options import MonitorConfig

if TYPE_CHECKING:
    from earthloom.jobs.monitoring.monitor import MonitorEvent, MonitorResult, ProductResult

_EVERY_S = 10.0


@click.command(cls=SectionedCommand)
@click.argument("files", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on stdout, logs on stderr")
@log_json_option
@options_of(MonitorConfig, but=("files",), short={"out": "-o"})
def monitor(files: tuple[str, ...], as_json: bool, log_json: bool, **options: Any) -> None:
    """Bring areas up to date: maps, cubes, changes, alerts.

    Maps new scenes, then updates cubes, composites, changes, alerts, trends and series. FILES are AOI files. Repeat the
    command, for example every night: it does only what is new.
    """
    from earthloom.jobs.config import RunConfig, check
    from earthloom.jobs.intake.options import SceneOptions
    from earthloom.jobs.monitoring.monitor import monitor as do_monitor

    settings = check(MonitorConfig, {"files": files, **options})
    exit_on_sigterm()
    lines = Lines(as_json=log_json)
    with in_a_file({*RunConfig.model_fields, *SceneOptions.model_fields} - options.keys()):
        with Progress(lines) as progress:
            result = do_monitor(settings, on_event=_Lines(lines), on_scene=progress)
        if as_json:
            click.echo(json.dumps(monitor_json(result), indent=2))
        else:
            show_monitor(result, lines)
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


def show_monitor(result: MonitorResult, lines: Lines) -> None:
    """What is new and where it lies, what failed and why; and, last, how many of each. What is as it was is counted."""
    if result.skipped:
        lines.say("end", f"skipped: {plain(result.skipped)}", exit_code=result.exit_code, skipped=result.skipped)
        return
    for file, why in result.refused:
        lines.say("refused", f"[red]refused[/] {plain(file)}: {plain(why)}", file=file, error=with_flags(why))
    table = Table(title=f"monitors below {plain(result.out)}", title_justify="left")
    for name in ("area", "product", "status", "dates", "new", "from", "to"):
        table.add_column(name, justify="right" if name in ("dates", "new") else "left")
    changed = [one for one in result.products if one.status != "up to date"]
    for one in changed:
        steps = one.update.cube.steps if one.update.cube else ()
        ends = (str(steps[0].date), str(steps[-1].date)) if steps else ("", "")
        table.add_row(one.aoi, one.product, one.status, str(len(steps)), str(_new(one)), *ends)
    if changed:
        lines.show(table)
    for one in changed:
        _show_product(one, result.out.rstrip("/"), lines)
    if same := len(result.products) - len(changed):
        lines.say("unchanged", f"{counted(same, 'product')} up to date, with nothing new", products=same)
    states = [one.status for one in result.products]
    ended = ", ".join(f"{states.count(state)} {state}" for state in ("updated", "up to date", "empty", "failed"))
    lines.say(
        "end", f"scenes: {result.counts}; products: {ended}", exit_code=result.exit_code,
        **{state.replace(" ", "_"): states.count(state) for state in set(states)},
    )  # fmt: skip


def _show_product(one: ProductResult, root: str, lines: Lines) -> None:
    where = f"{one.aoi} {one.product}"
    about = {"aoi": one.aoi, "product": one.product}
    for doing, kind, text in one.errors:
        lines.say(
            "failed", f"[red]failed[/] {plain(where)}, {doing}: {plain(text)}", **about, doing=doing, kind=kind,
            error=with_flags(text),
        )  # fmt: skip
    by_text: dict[str, list[str]] = {}
    for scene_id, text in one.run.notes if one.run else ():
        by_text.setdefault(text, []).append(scene_id)
    for text, scene_ids in by_text.items():
        others = f" and {len(scene_ids) - 1} more" if len(scene_ids) > 1 else ""
        said = f"[yellow]note[/] {named(scene_ids[0] + others, text)}"
        lines.say("note", said, **about, scenes=scene_ids, note=with_flags(text))
    for note in one.notes:
        lines.say("note", f"[yellow]note[/] {plain(where)}: {plain(note)}", **about, note=with_flags(note))
    if one.update.cube:
        lines.say("cube", f"{plain(where)}: cube", **about, prefix=one.update.cube.prefix, new_dates=_new(one))
        print(f"{root}/{one.update.cube.prefix}")
    for stage, summary in one.derived.items():
        for text, key in _told(stage, summary, one.prefix):
            lines.say("derived", f"{plain(where)}: {plain(text)}", **about, stage=stage, key=key)
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
            left_out = ", ".join(summary["left_out"])
            without = f" without the composites of {left_out}, which are outdated or missing" if left_out else ""
            yield f"series of {counted(summary['dates'], 'date')}{without}", f"{prefix}/series.png"


class _Lines:
    """Shows events as lines now and then."""

    def __init__(self, lines: Lines) -> None:
        self._lines, self._last = lines, 0.0

    def __call__(self, event: MonitorEvent) -> None:
        if event.done == event.total or time.monotonic() - self._last >= _EVERY_S:
            self._last = time.monotonic()
            text = f"{event.aoi} {event.product} {event.doing} {event.done}/{event.total}"
            self._lines.say(
                "task",
                plain(text),
                aoi=event.aoi,
                product=event.product,
                doing=event.doing,
                done=event.done,
                total=event.total,
            )


def _new(one: ProductResult) -> int:
    """Dates that readers did not see before; of a cube that was made anew, all that it has more than the one before."""
    return max(0, len(one.update.cube.steps) - one.update.before) if one.update.cube else 0
