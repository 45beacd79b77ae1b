"""`earthloom plan` and `earthloom run`, beside what they print: tables and progress for people, plain data for `--json`.

Decides nothing. Heavy modules are imported inside the commands, so that `earthloom --help` answers at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from earthloom.jobs.command.options import SectionedCommand, run_options
from earthloom.jobs.command.terminal import GIB, MIB, duration, make_console, with_flags
from earthloom.jobs.records.names import QUICKLOOK

if TYPE_CHECKING:
    from earthloom.jobs.execution.driver import Event, RunResult
    from earthloom.jobs.planning.plan import RunPlan

EXIT_SIGTERM = 128 + signal.SIGTERM
_PLAIN_EVERY_S = 10.0
_ROWS = 40  # of a plan's table; a nightly run may have thousands of scenes


@click.command(cls=SectionedCommand)
@run_options
def plan(scenes: tuple[str, ...], config: Path | None, as_json: bool, **options: Any) -> None:
    """Check scenes and show what a run would do: verdicts, blocks, memory, time. Touches nothing."""
    from earthloom.jobs.config import load
    from earthloom.jobs.planning.plan import plan as make_plan

    made = make_plan(load({"scenes": scenes, **options}, config))
    if as_json:
        click.echo(json.dumps(plan_json(made), indent=2))
    else:
        show_plan(made)
    sys.exit(0 if not made.refused else 3 if made.scenes else 2)


@click.command(cls=SectionedCommand)
@run_options
@click.option("--dry-run", is_flag=True, help="the same as `earthloom plan`")
@click.pass_context
def run(
    context: click.Context,
    /,
    scenes: tuple[str, ...],
    config: Path | None,
    as_json: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Map scenes. Running it again computes only what is missing; a published scene is left as it is."""
    if dry_run:
        context.invoke(plan, scenes=scenes, config=config, as_json=as_json, **options)
        return
    from earthloom.jobs.config import load
    from earthloom.jobs.execution.driver import run as do_run

    settings = load({"scenes": scenes, **options}, config)
    exit_on_sigterm()
    with Progress() as progress:
        result = do_run(settings, on_plan=None if as_json else show_plan, on_event=progress)
    if as_json:
        click.echo(json.dumps(result_json(result), indent=2))
    else:
        show_result(result)
    sys.exit(result.exit_code)


def plan_json(plan: RunPlan) -> dict[str, Any]:
    """The plan as plain data."""
    return {
        "run_id": plan.run_id, "model": plan.model, "out": plan.out.url, "device": plan.device.device_class,
        "precision": plan.device.precision, "worker_bytes": plan.worker_bytes,
        "scenes": [
            {
                "id": p.scene.id, "key": p.key, "model": p.card.label, "product": p.product, "width": p.scene.grid.width,
                "height": p.scene.grid.height, "crs": p.scene.grid.crs, "bands": [band.name for band in p.chain.bands],
                "datetime": p.scene.datetime, "blocks": p.n_blocks, "chips": p.n_chips,
                "core_px": p.chips.core_px, "halo_px": p.chips.halo_px, "overlap": "blend" if p.chips.blend else "exact",
                "stages": [[card.label for card in stage.cards] for stage in p.chain.stages], "scale": p.chain.scale,
                "halo_overhead": round(p.halo_overhead, 4), "worker_bytes": p.memory.total_bytes,
                "estimated_s": plan.estimated_s.get(p.scene.id),
            }
            for p in plan.scenes
        ],
        "refused": [{"id": r.id, "kind": r.kind, "message": with_flags(r.message)} for r in plan.refused],
        "notes": _notes(plan.notes),
    }  # fmt: skip


def show_plan(plan: RunPlan) -> None:
    """The verdict table, assumptions and what it will take."""
    console = make_console()
    table = Table(title=f"{plan.model} to {plan.out.url}", title_justify="left")
    for name in ("scene", "verdict", "size", "model", "blocks", "chips", "halo cost", "estimate"):
        table.add_column(name, justify="right" if name in ("blocks", "chips", "halo cost", "estimate") else "left")
    for p in plan.scenes[:_ROWS]:
        seconds = plan.estimated_s.get(p.scene.id)
        table.add_row(
            p.scene.id, "[green]ready[/]", f"{p.grid.width} x {p.grid.height} px",
            " > ".join("+".join(card.label for card in stage.cards) for stage in p.chain.stages),
            str(p.n_blocks), str(p.n_chips), f"{p.halo_overhead:.2f} x", duration(seconds) if seconds else "",
        )  # fmt: skip
    if plan.scenes:
        console.print(table)
    if len(plan.scenes) > _ROWS:
        console.print(f"… and {len(plan.scenes) - _ROWS} more scenes that are ready")
    for refused in plan.refused:
        console.print(f"[red]refused[/] {_named(refused.id, refused.message)}", soft_wrap=True)
    show_notes(console, plan.notes)
    if plan.scenes:
        console.print(
            f"device {plan.device.device_class}, {plan.device.precision}; at most {plan.worker_bytes / GIB:.2f} GiB per "
            f"worker; run {plan.run_id[:12]}"
        )


def show_notes(console: Console, notes: Sequence[tuple[str, str]]) -> None:
    """What was assumed, each thing once, with the scenes that it is said of."""
    by_text: dict[str, list[str]] = {}
    for scene_id, text in notes:
        by_text.setdefault(text, []).append(scene_id)
    for text, scene_ids in by_text.items():
        others = f" and {len(scene_ids) - 1} more" if len(scene_ids) > 1 else ""
        console.print(f"[yellow]note[/] {_named(scene_ids[0] + others, text)}", soft_wrap=True)


def result_json(result: RunResult) -> dict[str, Any]:
    """How the run ended, as plain data."""
    return {
        "run_id": result.run_id, "out": result.out, "exit_code": result.exit_code, "stopped": _flagged(result.stopped),
        "notes": _notes(result.notes), "telemetry": result.telemetry,
        "scenes": {
            name: {
                "status": progress.status, "key": progress.key, "error": _flagged(progress.error), "kind": progress.kind,
                **({"corrected": progress.corrected} if progress.corrected else {}), **_published(result, name),
            }
            for name, progress in result.scenes.items()
        },
    }  # fmt: skip


def _published(result: RunResult, scene_id: str) -> dict[str, Any]:
    if scene_id not in result.results:
        return {}
    scene = result.results[scene_id]
    base = f"{result.out.rstrip('/')}/{scene.prefix}"
    return {
        "folder": base,
        "files": {name: f"{base}/{name}" for name in (*scene.rasters, *scene.tables, "data.zarr", QUICKLOOK, "item.json")},
        "class_areas": list(scene.class_areas),
        **({"objects": dict(scene.objects)} if scene.objects else {}),
    }  # fmt: skip


def show_result(result: RunResult) -> None:
    """Where the maps are, what they hold, and what failed and why."""
    from earthloom.jobs.products.areas import area_table

    console = make_console()
    for name, progress in result.scenes.items():
        if name in result.results:
            scene = result.results[name]
            title = f"{name}: {progress.status}"
            if scene.objects:
                title += f", {', '.join(f'{n:,} {label}' for label, n in scene.objects.items())}"
            console.print(area_table(scene.class_areas, title=title) if scene.class_areas else title)
            for field, (was, now) in (progress.corrected or {}).items():
                console.print(f"corrected {name}: {field} was {was}, is {now}", soft_wrap=True)
            for key, path in _published(result, name)["files"].items():
                if not key.endswith(".json"):
                    print(path)
        elif progress.status != "refused":  # those were named with the plan
            console.print(f"[red]{progress.status}[/] {_named(name, progress.error or 'not finished')}", soft_wrap=True)
    figures = result.telemetry
    if figures.get("computed_px"):
        console.print(
            f"{figures['computed_px'] / 1e6:.1f} Mpx in {figures['elapsed_s']:.1f} s = {figures['mpx_per_s']:.2f} Mpx/s, "
            f"{figures['km2_per_h']:.0f} km²/h; device busy {figures['device_busy_percent']:.0f} %; halo cost "
            f"{figures['halo_overhead']:.2f} x, decoded {figures['decode_amplification']:.2f} times what was mapped"
        )
        console.print(
            f"read {_size(figures['read_bytes'])}in {figures['read_s']:.1f} s, waited {figures['wait_s']:.1f} s, "
            f"computed {figures['compute_s']:.1f} s, wrote {figures['written_bytes'] / MIB:.1f} MiB in "
            f"{figures['write_s']:.1f} s; engine started in {figures['start_s']:.1f} s; worker peak "
            f"{figures['peak_worker_bytes'] / GIB:.2f} GiB, predicted {figures['predicted_worker_bytes'] / GIB:.2f}"
        )
        if "cost_per_1000_km2" in figures:
            console.print(f"cost {figures['cost_per_1000_km2']:.4g} per 1,000 km²")
    for key in figures.get("profile", ()):
        print(f"{result.out.rstrip('/')}/{key}")
    if result.stopped:
        console.print(f"[yellow]stopped[/]: {with_flags(result.stopped)}")


def _size(read_bytes: int) -> str:
    """Nothing where it is not known: whatever is warped or a JPEG 2000 is read by GDAL, which does not tell."""
    return f"{read_bytes / MIB:.1f} MiB " if read_bytes else ""


class Progress:
    """Shows events: a live bar per scene on a terminal, else a plain line now and then. Use as a context manager."""

    def __init__(self) -> None:
        self.console = make_console()
        self._live = self.console.is_terminal
        self._bars: dict[str, TaskID] = {}
        self._computed_px = 0
        self._started = self._last = time.monotonic()
        self._progress = RichProgress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} blocks"),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=self.console, transient=False,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the bars as they are."""
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        self._computed_px += event.computed_px
        elapsed = max(time.monotonic() - self._started, 1e-6)
        rate = f"{self._computed_px / 1e6 / elapsed:.2f} Mpx/s"
        if not self._live:
            quiet = event.status == "running" and 0 < event.blocks_done < event.blocks
            if not quiet or time.monotonic() - self._last >= _PLAIN_EVERY_S:
                self._last = time.monotonic()
                why = f": {with_flags(event.error)}" if event.error else ""
                print(
                    f"{event.scene_id} {event.status} {event.blocks_done}/{event.blocks} blocks {rate}{why}",
                    file=sys.stderr,
                )
            return
        self._progress.start()
        if event.scene_id not in self._bars:
            self._bars[event.scene_id] = self._progress.add_task(event.scene_id, total=event.blocks, rate="")
        self._progress.update(
            self._bars[event.scene_id], completed=event.blocks_done, rate=rate,
            description=f"{event.scene_id} {event.status}",
        )  # fmt: skip


def _notes(notes: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{scene_id}: {with_flags(text)}" for scene_id, text in notes]


def _named(scene_id: str, text: str) -> str:
    return with_flags(text if text.startswith(f"{scene_id}: ") else f"{scene_id}: {text}")


def _flagged(text: str | None) -> str | None:
    return None if text is None else with_flags(text)


def exit_on_sigterm() -> None:
    """Preemption and `ray job stop` send SIGTERM and kill soon after: leave at once, the next run continues.

    What is in flight is abandoned. Native code may hold the interpreter up, so a timer has the last word.
    """

    def stop(_signal: int, _frame: object) -> None:
        last_word = threading.Timer(1.5, os._exit, [EXIT_SIGTERM])
        last_word.daemon = True
        last_word.start()
        sys.exit(EXIT_SIGTERM)

    signal.signal(signal.SIGTERM, stop)
