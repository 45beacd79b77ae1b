"""What a user sees: tables and progress on stderr for people, plain dictionaries for `--json`. Decides nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from earthloom.jobs.execution.driver import Event, RunResult
from earthloom.jobs.planning.plan import RunPlan
from earthloom.jobs.products.areas import area_table
from earthloom.jobs.products.layout import QUICKLOOK
from earthloom.jobs.upkeep.doctor import Finding
from earthloom.jobs.upkeep.gc import Sweep
from earthloom.jobs.upkeep.verify import Report
from earthloom.models.cards.card import ModelCard

_GIB = 2**30
_MIB = 2**20
_PLAIN_EVERY_S = 10.0
_ROWS = 40  # of a plan's table; a nightly run may have thousands of scenes


def _console(*, stderr: bool = True) -> Console:
    """Wide enough for tables where there is no terminal that says its width (logs, cron)."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else 140)


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
        "refused": [{"id": r.id, "kind": r.kind, "message": r.message} for r in plan.refused],
        "notes": [f"{scene_id}: {text}" for scene_id, text in plan.notes],
    }  # fmt: skip


def show_plan(plan: RunPlan) -> None:
    """The verdict table, assumptions and what it will take."""
    console = _console()
    table = Table(title=f"{plan.model} to {plan.out.url}", title_justify="left")
    for name in ("scene", "verdict", "size", "model", "blocks", "chips", "halo cost", "estimate"):
        table.add_column(name, justify="right" if name in ("blocks", "chips", "halo cost", "estimate") else "left")
    for p in plan.scenes[:_ROWS]:
        seconds = plan.estimated_s.get(p.scene.id)
        table.add_row(
            p.scene.id, "[green]ready[/]", f"{p.grid.width} x {p.grid.height} px",
            " > ".join("+".join(card.label for card in stage.cards) for stage in p.chain.stages),
            str(p.n_blocks), str(p.n_chips), f"{p.halo_overhead:.2f} x", _duration(seconds) if seconds else "",
        )  # fmt: skip
    console.print(table)
    if len(plan.scenes) > _ROWS:
        console.print(f"… and {len(plan.scenes) - _ROWS} more scenes that are ready")
    for refused in plan.refused:
        console.print(f"[red]refused[/] {_named(refused.id, refused.message)}", soft_wrap=True)
    by_text: dict[str, list[str]] = {}
    for scene_id, text in plan.notes:
        by_text.setdefault(text, []).append(scene_id)
    for text, scene_ids in by_text.items():
        others = f" and {len(scene_ids) - 1} more" if len(scene_ids) > 1 else ""
        console.print(f"[yellow]note[/] {_named(scene_ids[0] + others, text)}", soft_wrap=True)
    console.print(
        f"device {plan.device.device_class}, {plan.device.precision}; at most {plan.worker_bytes / _GIB:.2f} GiB per worker; "
        f"run {plan.run_id[:12]}"
    )


def result_json(result: RunResult) -> dict[str, Any]:
    """How the run ended, as plain data."""
    return {
        "run_id": result.run_id, "out": result.out, "exit_code": result.exit_code, "stopped": result.stopped,
        "telemetry": result.telemetry,
        "scenes": {
            name: {
                "status": progress.status, "key": progress.key, "error": progress.error, "kind": progress.kind,
                **_published(result, name),
            }
            for name, progress in result.scenes.items()
        },
    }  # fmt: skip


def _published(result: RunResult, scene_id: str) -> dict[str, Any]:
    if scene_id not in result.results:
        return {}
    scene = result.results[scene_id]
    base = f"{result.out.rstrip('/')}/{scene.prefix}"
    tifs = [name for name in scene.files if name.endswith(".tif")]
    return {
        "folder": base,
        "files": {name: f"{base}/{name}" for name in (*tifs, "data.zarr", QUICKLOOK, "item.json")},
        "class_areas": list(scene.class_areas),
    }  # fmt: skip


def show_result(result: RunResult) -> None:
    """Where the maps are, what they hold, and what failed and why."""
    console = _console()
    for name, progress in result.scenes.items():
        if name in result.results:
            scene = result.results[name]
            title = f"{name}: {progress.status}"
            console.print(area_table(scene.class_areas, title=title) if scene.class_areas else title)
            for key, path in _published(result, name)["files"].items():
                if not key.endswith(".json"):
                    print(path)
        elif progress.status != "refused":  # those were named with the plan
            console.print(f"[red]{progress.status}[/] {_named(name, progress.error or 'not finished')}", soft_wrap=True)
    told = result.telemetry
    if told.get("computed_px"):
        console.print(
            f"{told['computed_px'] / 1e6:.1f} Mpx in {told['elapsed_s']:.1f} s = {told['mpx_per_s']:.2f} Mpx/s, "
            f"{told['km2_per_h']:.0f} km²/h; device busy {told['device_busy_percent']:.0f} %; halo overhead "
            f"{told['halo_overhead']:.2f}, decoded {told['decode_amplification']:.2f} times what was mapped"
        )
        console.print(
            f"read {told['read_bytes'] / _MIB:.1f} MiB in {told['read_s']:.1f} s, waited {told['wait_s']:.1f} s, computed "
            f"{told['compute_s']:.1f} s, wrote {told['written_bytes'] / _MIB:.1f} MiB in {told['write_s']:.1f} s; engine "
            f"started in {told['start_s']:.1f} s; worker peak {told['peak_worker_bytes'] / _GIB:.2f} GiB, predicted "
            f"{told['predicted_worker_bytes'] / _GIB:.2f}"
        )
        if "cost_per_1000_km2" in told:
            console.print(f"cost {told['cost_per_1000_km2']:.4g} per 1,000 km²")
    for key in told.get("profile", ()):
        print(f"{result.out.rstrip('/')}/{key}")
    if result.stopped:
        console.print(f"[yellow]stopped[/]: {result.stopped}")


def show_status(found: Mapping[str, Any]) -> None:
    """Runs and scenes as tables."""
    console = _console(stderr=False)
    for run in found["runs"]:
        table = Table(title=f"run {run['run_id'][:12]} · {run['model']} · {run['state']} · attempt {run['attempts']} · "
                            f"{run['updated'] or 'never started'}", title_justify="left")  # fmt: skip
        for name in ("scene", "status", "blocks", "cause"):
            table.add_column(name, overflow="fold")
        for name, scene in run["scenes"].items():
            table.add_row(name, scene["status"], f"{scene['blocks_done']}/{scene['blocks']}", scene["error"] or "")
        console.print(table)


def show_report(report: Report) -> None:
    """What was checked and what is wrong."""
    console = _console(stderr=False)
    for problem in report.problems:
        console.print(f"[red]wrong[/] {problem.place}: {problem.message}", soft_wrap=True)
    for note in report.notes:
        console.print(f"[yellow]note[/] {note}", soft_wrap=True)
    verdict = f"[red]{len(report.problems)} problems[/]" if report.problems else "[green]all is as it was published[/]"
    console.print(
        f"{report.scenes} scenes, {report.objects} objects, {report.checked_bytes / 1e6:.1f} MB read: {verdict}"
    )


def show_sweep(done: Sweep, *, dry_run: bool) -> None:
    """What may go, or is gone."""
    console = _console(stderr=False)
    table = Table()
    for name in ("kind", "place", "objects", "MB", "age", "why"):
        table.add_column(name, overflow="fold", justify="right" if name in ("objects", "MB", "age") else "left")
    for one in done.found:
        table.add_row(
            one.kind, one.place, str(one.objects), f"{one.size_bytes / 1e6:.1f}", _duration(one.age_s), one.why
        )
    if done.found:
        console.print(table)
    for note in done.notes:
        console.print(f"[yellow]note[/] {note}", soft_wrap=True)
    told = done.found if dry_run else done.removed
    size = f"{sum(one.objects for one in told)} objects, {sum(one.size_bytes for one in told) / 1e6:.1f} MB"
    if not done.found:
        console.print("nothing to remove")
    else:
        console.print(f"{size} can be removed: the same command with --delete" if dry_run else f"{size} removed")


def show_diagnosis(findings: Sequence[Finding]) -> None:
    """One line per check; the remedy under what is wrong."""
    console = _console(stderr=False)
    for finding in findings:
        console.print(
            f"{'[green]ok  [/]' if finding.ok else '[red]FAIL[/]'} {finding.subject}: {finding.found}", soft_wrap=True
        )
        if not finding.ok:
            console.print(f"       {finding.remedy}", soft_wrap=True)


def show_models(entries: Sequence[tuple[ModelCard, bool]]) -> None:
    """The zoo: a card and whether its weights are here."""
    table = Table()
    for name in ("model", "variant", "bands", "GSD", "classes", "licence", "ready"):
        table.add_column(name)
    for card, ready in entries:
        table.add_row(
            card.name, card.variant, " ".join(card.bands), f"{card.gsd_m[0]:g}-{card.gsd_m[1]:g} m",
            ", ".join(entry.name for entry in card.classes) or f"image, scale {card.scale}", card.license,
            "yes" if ready else f"earthloom models add {card.name}",
        )  # fmt: skip
    _console(stderr=False).print(table)


def show_card(card: ModelCard) -> None:
    """What a model needs and gives."""
    console = _console(stderr=False)
    table = Table(title=f"{card.label} {card.version}", title_justify="left", show_header=False)
    halo = f"{card.halo_px} px" if card.halo_px is not None else "not measured"
    rows = {
        "title": card.title, "description": card.description, "licence": card.license, "citation": card.citation,
        "task": card.task, "architecture": f"{card.architecture} {card.arguments}", "bands": ", ".join(card.bands),
        "values": " or ".join(card.quantities), "GSD": f"{card.gsd_m[0]:g} to {card.gsd_m[1]:g} m",
        "tiling": f"{card.overlap}: core {card.core_px} px, halo {halo}, stride {card.stride_px} px, "
                  f"support {card.support_px if card.support_px is not None else 'unbounded or not measured'}",
        "memory": ", ".join(f"{name} {size:.0f} bytes per chip pixel" for name, size in card.memory) or "not measured",
        "makes": f"{', '.join(card.outputs)} at {card.scale} x" if card.outputs else "",
        "masks": ", ".join(card.classes[value].name for value in card.masks),
        "weights": card.weights or "none",
        "scores": ", ".join(f"{name} {value:g}" for name, value in card.scores),
    }  # fmt: skip
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    console.print(table)
    if not card.classes:
        return
    classes = Table("value", "class", "colour", "description")
    for entry in card.classes:
        classes.add_row(str(entry.value), entry.name, f"[on {entry.color}]    [/] {entry.color}", entry.description)
    console.print(classes)


class Progress:
    """Shows events: a live bar per scene on a terminal, else a plain line now and then. Use as a context manager."""

    def __init__(self) -> None:
        self._console = _console()
        self._live = self._console.is_terminal
        self._bars: dict[str, TaskID] = {}
        self._computed_px = 0
        self._started = self._last = time.monotonic()
        self._progress = RichProgress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} blocks"),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=self._console, transient=False,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        self._computed_px += event.computed_px
        elapsed = max(time.monotonic() - self._started, 1e-6)
        rate = f"{self._computed_px / 1e6 / elapsed:.2f} Mpx/s"
        if not self._live:
            quiet = event.status == "running" and 0 < event.blocks_done < event.blocks
            if not quiet or time.monotonic() - self._last >= _PLAIN_EVERY_S:
                self._last = time.monotonic()
                why = f": {event.error}" if event.error else ""
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


def _named(scene_id: str, text: str) -> str:
    return text if text.startswith(f"{scene_id}: ") else f"{scene_id}: {text}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"
