"""`earthloom plan` and `earthloom run`, beside what they print: tables and progress for people, plain data for `--json`.

Decides nothing. Heavy modules are imported inside the commands, so that `earthloom --help` answers at once.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from earthloom.jobs.command.lines import Lines, Progress, by_reason, listed, log_json_option, named, plain
from earthloom.jobs.command.options import RunCommand, run_options
from earthloom.jobs.command.sigterm import exit_on_sigterm
from earthloom.jobs.command.terminal import GIB, MIB, counted, duration, make_console, show_path, with_flags
from earthloom.jobs.records.names import QUICKLOOK

if TYPE_CHECKING:
    from earthloom.jobs.execution.choice import Choice
    from earthloom.jobs.execution.driver import RunResult
    from earthloom.jobs.planning.plan import RunPlan

log = logging.getLogger(__name__)

STARTED_ALONE = "the process is the command's own"
"""What click's context holds where it may be forked: not where a program calls the command."""
_TABLES = 6
"""Scenes of which a table is shown; of more new ones a line."""
_FEW = 3
"""Scenes that a terminal shows although they were published before: somebody asks where they are."""
_SPEED = (
    "computed_px", "elapsed_s", "mpx_per_s", "km2", "km2_per_h", "device_busy_percent", "halo_overhead", "decode_amplification",
)  # fmt: skip
_TIME = (
    "read_bytes", "read_s", "wait_s", "compute_s", "written_bytes", "write_s", "start_s", "peak_worker_bytes",
    "predicted_worker_bytes",
)  # fmt: skip
_ROWS = 40  # of a plan's table; a nightly run may have thousands of scenes


@click.command(cls=RunCommand)
@run_options
@click.pass_context
def plan(
    context: click.Context, /, scenes: tuple[str, ...], config: Path | None, as_json: bool, **options: Any
) -> None:  # fmt: skip
    """Check scenes and show what a run would do. Writes nothing.

    Shows verdicts, assumptions, blocks, memory and time.
    """
    from earthloom.jobs.config import load
    from earthloom.jobs.intake.inspectors import start_early

    settings = load({"scenes": scenes, **options}, config)
    if context.obj is STARTED_ALONE:
        start_early()
    from earthloom.jobs.execution.engine import with_namesakes
    from earthloom.jobs.planning.plan import plan as make_plan

    made = with_namesakes(make_plan(settings))
    if as_json:
        click.echo(json.dumps(plan_json(made), indent=2))
    else:
        show_plan(made)
    sys.exit(0 if not made.refused else 3 if made.scenes else 2)


@click.command(cls=RunCommand)
@run_options
@log_json_option
@click.option("--dry-run", is_flag=True, help="the same as `earthloom plan`")
@click.pass_context
def run(
    context: click.Context,
    /,
    scenes: tuple[str, ...],
    config: Path | None,
    as_json: bool,
    log_json: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Map scenes and publish the results.

    Repeat the command to compute only what is missing; a published scene is left as it is.
    """
    if dry_run:
        context.invoke(plan, scenes=scenes, config=config, as_json=as_json, **options)
        return
    from earthloom.jobs.config import load
    from earthloom.jobs.intake.inspectors import start_early

    settings = load({"scenes": scenes, **options}, config)
    if context.obj is STARTED_ALONE:
        if settings.engine.executor == "auto":
            engine = settings.engine.model_copy(update={"executor": outlive("auto")})
            settings = settings.model_copy(update={"engine": engine})
        start_early()
        gc.disable()  # imports make no garbage; to look for some among all that they make takes a tenth of a small run
    from earthloom.jobs.execution.driver import run as do_run

    if context.obj is STARTED_ALONE:
        gc.freeze()
        gc.enable()
    exit_on_sigterm()
    lines = Lines(as_json=log_json)
    with Progress(lines) as progress:

        def begin(made: RunPlan) -> None:
            progress.expect(made.notes)
            show_begin(made, lines)

        def choose(choice: Choice) -> None:
            lines.say("engine", plain(choice.sentence), executor=choice.executor)

        speaks = log_json or not as_json
        result = do_run(
            settings, on_plan=begin if speaks else None, on_event=progress, on_choice=choose if speaks else None
        )
    if as_json:
        click.echo(json.dumps(result_json(result), indent=2))
    if speaks:
        show_result(result, lines, files=not as_json)
    sys.exit(result.exit_code)


def outlive(executor: str) -> str:
    """The executor to go on with: in a guarded fork the one that was given, and where that was killed at its work Ray."""
    from earthloom.cluster.guard import stand_guard

    if (killed_by := stand_guard()) is None:
        return executor
    log.warning(
        "the process that computed was killed by %s; going on with Ray, which finds the block that did it", killed_by
    )
    return "ray"


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
    table = Table(title=f"{plain(plan.model)} to {plain(plan.out.url)}", title_justify="left")
    for name in ("scene", "verdict", "size", "model", "blocks", "chips", "halo cost", "estimate"):
        table.add_column(name, justify="right" if name in ("blocks", "chips", "halo cost", "estimate") else "left")
    for p in plan.scenes[:_ROWS]:
        seconds = plan.estimated_s.get(p.scene.id)
        table.add_row(
            plain(p.scene.id), "[green]ready[/]", f"{p.grid.width} x {p.grid.height} px",
            " > ".join("+".join(card.label for card in stage.cards) for stage in p.chain.stages),
            str(p.n_blocks), str(p.n_chips), f"{p.halo_overhead:.2f} x", duration(seconds) if seconds else "",
        )  # fmt: skip
    if plan.scenes:
        console.print(table)
    if len(plan.scenes) > _ROWS:
        console.print(f"… and {len(plan.scenes) - _ROWS} more scenes that are ready")
    for scene_ids, why in by_reason((refused.id, refused.message) for refused in plan.refused):
        console.print(f"[red]refused[/] {plain(listed(scene_ids))}: {plain(why)}", soft_wrap=True)
    show_notes(console, plan.notes)
    if plan.scenes:
        console.print(
            f"device {plan.device.device_class}, {plan.device.precision}; at most {plan.worker_bytes / GIB:.2f} GiB per "
            f"worker; run {plan.run_id[:12]}"
        )


def show_begin(plan: RunPlan, lines: Lines) -> None:
    """What a run is about to do, in one line; `earthloom plan` has a table."""
    seconds = sum(plan.estimated_s.values())
    n_blocks = sum(one.n_blocks for one in plan.scenes)
    lines.about |= {"run_id": plan.run_id, "product": plan.model}
    took = f", at most about {duration(seconds)} of one worker on idle cores" if seconds >= 1 else ""
    work = (
        f"{counted(len(plan.scenes), 'scene')} of {counted(n_blocks, 'block')}{took}, {len(plan.refused)} refused; device "
        f"{plan.device.device_class}, {plan.device.precision}, at most {plan.worker_bytes / GIB:.2f} GiB per worker"
    )
    nothing = f"nothing to do, {len(plan.refused)} refused"
    lines.say(
        "begin",
        f"{plain(plan.model)} to {plain(plan.out.url)}: {work if plan.scenes else nothing}; run {plan.run_id[:12]}",
        out=plan.out.url, scenes=len(plan.scenes), blocks=n_blocks, refused=len(plan.refused), estimated_s=round(seconds, 1),
        device=plan.device.device_class, precision=plan.device.precision, worker_bytes=plan.worker_bytes,
    )  # fmt: skip


def show_notes(console: Console, notes: Sequence[tuple[str, str]]) -> None:
    """What was assumed, each thing once, with the scenes that it is said of."""
    by_text: dict[str, list[str]] = {}
    for scene_id, text in notes:
        by_text.setdefault(text, []).append(scene_id)
    for text, scene_ids in by_text.items():
        others = f" and {len(scene_ids) - 1} more" if len(scene_ids) > 1 else ""
        console.print(f"[yellow]note[/] {named(scene_ids[0] + others, text)}", soft_wrap=True)


def result_json(result: RunResult) -> dict[str, Any]:
    """How the run ended, as plain data."""
    return {
        "run_id": result.run_id, "out": result.out, "exit_code": result.exit_code, "stopped": _flagged(result.stopped),
        "skipped": result.skipped, "page": result.page,
        "notes": _notes(result.notes), "telemetry": result.telemetry,
        "scenes": {
            name: {
                "status": progress.status, "key": progress.key, "error": _flagged(progress.error), "kind": progress.kind,
                "known": progress.known,
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


def show_result(result: RunResult, lines: Lines, *, all_of_them: bool = False, files: bool = True) -> None:
    """What is new, where it is and what it holds; what failed and why; how fast it was; and, last, how many of each.

    Args:
        all_of_them: show what was published before too.
        files: print the paths of new files on stdout.
    """
    if result.skipped:
        lines.say("end", f"skipped: {plain(result.skipped)}", exit_code=result.exit_code, skipped=result.skipped)
        return
    all_of_them = all_of_them or (lines.is_live and len(result.results) <= _FEW)
    new = [name for name in result.results if all_of_them or result.scenes[name].status in ("published", "corrected")]
    for name in new:
        _show_new(result, name, lines, brief=len(new) > _TABLES, files=files)
    for name, progress in result.scenes.items():
        if (
            name not in result.results and progress.status != "refused" and not progress.known
        ):  # refusals were said first
            why = progress.error or "not finished"
            lines.say(
                "failed", f"[red]{progress.status}[/] {named(name, why)}", scene=name, status=progress.status,
                kind=progress.kind, error=with_flags(why),
            )  # fmt: skip
    show_figures(result, lines, files=files)
    if not result.counts.has_news:
        n_notes = len({text for _, text in result.notes})
        notes = f", with {counted(n_notes, 'note')}" if n_notes else ""
        lines.say(
            "unchanged", f"nothing new: all scenes are as the last run left them{notes}: {plain(result.page or '')}",
            scenes=len(result.scenes), notes=n_notes, page=result.page,
        )  # fmt: skip
    elif result.page:
        lines.say("page", f"page {plain(result.page)}", page=result.page)
    if result.stopped:
        lines.say("stopped", f"[yellow]stopped[/]: {plain(result.stopped)}", reason=with_flags(result.stopped))
    counts = result.counts
    lines.say(
        "end", str(counts), exit_code=result.exit_code, **{name: getattr(counts, name) for name in counts.__slots__}
    )


def _show_new(result: RunResult, name: str, lines: Lines, *, brief: bool, files: bool) -> None:
    """A scene that is new or corrected; in one line where there are many."""
    from earthloom.jobs.products.areas import area_table

    scene, progress = result.results[name], result.scenes[name]
    title = f"{name}: {progress.status}"
    if scene.objects:
        title += f", {', '.join(f'{n:,} {label}' for label, n in scene.objects.items())}"
    if scene.class_areas and not brief and not lines.as_json:
        lines.show(area_table(scene.class_areas, title=title))
    else:
        shares = ", ".join(f"{one['name']} {one['percent']:.1f} %" for one in scene.class_areas)
        lines.say(
            "published", plain(f"{title}, {shares}" if shares else title), scene=name, status=progress.status,
            prefix=scene.prefix, class_areas=list(scene.class_areas), objects=dict(scene.objects),
        )  # fmt: skip
    for field, (was, now) in (progress.corrected or {}).items():
        text = plain(f"corrected {name}: {field} was {was}, is {now}")
        lines.say("corrected", text, scene=name, field=field, was=was, now=now)
    for key, path in _published(result, name)["files"].items() if files else ():
        if not key.endswith(".json"):
            show_path(path)


def show_figures(result: RunResult, lines: Lines, *, files: bool = True) -> None:
    """How fast it was, where the time went, and what it cost; nothing of a run that computed nothing."""
    figures = result.telemetry
    if not figures.get("computed_px"):
        return
    lines.say(
        "speed",
        f"{figures['computed_px'] / 1e6:.1f} Mpx in {figures['elapsed_s']:.1f} s = {figures['mpx_per_s']:.2f} Mpx/s, "
        f"{figures['km2_per_h']:.0f} km²/h; device busy {figures['device_busy_percent']:.0f} %; halo cost "
        f"{figures['halo_overhead']:.2f} x, decoded {figures['decode_amplification']:.2f} times what was mapped",
        **{name: figures[name] for name in _SPEED},
    )  # fmt: skip
    lines.say(
        "time",
        f"read {_size(figures['read_bytes'])}in {figures['read_s']:.1f} s, waited {figures['wait_s']:.1f} s, "
        f"computed {figures['compute_s']:.1f} s, wrote {figures['written_bytes'] / MIB:.1f} MiB in "
        f"{figures['write_s']:.1f} s; engine started in {figures['start_s']:.1f} s; worker peak "
        f"{figures['peak_worker_bytes'] / GIB:.2f} GiB, predicted {figures['predicted_worker_bytes'] / GIB:.2f}",
        **{name: figures[name] for name in _TIME},
    )
    if "cost_per_1000_km2" in figures:
        cost, per_area = figures["cost"], figures["cost_per_1000_km2"]
        lines.say("cost", f"cost {cost:.4g}, {per_area:.4g} per 1,000 km²", cost=cost, cost_per_1000_km2=per_area)
    for key in figures.get("profile", ()) if files else ():
        show_path(f"{result.out.rstrip('/')}/{key}")


def _size(read_bytes: int) -> str:
    """Nothing where it is not known: whatever is warped or a JPEG 2000 is read by GDAL, which does not tell."""
    return f"{read_bytes / MIB:.1f} MiB " if read_bytes else ""


def _notes(notes: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{scene_id}: {with_flags(text)}" for scene_id, text in notes]


def _flagged(text: str | None) -> str | None:
    return None if text is None else with_flags(text)
