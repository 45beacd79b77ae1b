"""`status`, `verify`, `gc`, `doctor`: the commands that look after an OUT, beside the tables that they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from earthloom.jobs.command.lines import listed, plain
from earthloom.jobs.command.terminal import counted, duration, make_console, with_flags

if TYPE_CHECKING:
    from earthloom.jobs.upkeep.doctor import Finding
    from earthloom.jobs.upkeep.gc import Sweep
    from earthloom.jobs.upkeep.status import Unmapped
    from earthloom.jobs.upkeep.verify import Verification


@click.command()
@click.argument("out")
@click.option("--since", help="only runs updated within this time: 90m, 12h, 1d")
@click.option(
    "--failed", is_flag=True, help="list only scenes without a result; exit with 3 if a failure is not yet known"
)
@click.option("--watch", is_flag=True, help="refresh every few seconds, until nothing is running")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on stdout")
def status(out: str, since: str | None, failed: bool, watch: bool, as_json: bool) -> None:
    """Show what is running, done or failed, and why.

    Reads storage alone.
    """
    from earthloom.jobs.command.watching import watch_runs
    from earthloom.jobs.upkeep.status import status as read_status
    from earthloom.jobs.upkeep.status import unmapped
    from earthloom.tiling.errors import ConfigError
    from earthloom.tiling.storage.objects import ObjectRef

    since_s = None if since is None else _seconds("since", since)
    ref = ObjectRef.parse(out)
    if watch:
        if failed or as_json:
            raise ConfigError("`watch` goes neither with `failed` nor with `json`, which tell once")
        watch_runs(lambda: read_status(ref, since_s))
        return
    found = read_status(ref, since_s)
    if failed:
        bad = unmapped(found)
        if as_json:
            click.echo(json.dumps([asdict(one) | {"error": with_flags(one.error or "")} for one in bad], indent=2))
        else:
            show_unmapped(bad)
        sys.exit(3 if any(not one.known for one in bad) else 0)
    for scene in (scene for run in found["runs"] for scene in run["scenes"].values()):
        scene |= {"error": with_flags(scene["error"])} if scene.get("error") else {}
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show_status(found)


@click.command()
@click.argument("place", metavar="OUT_OR_RUN")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on stdout")
def verify(place: str, as_json: bool) -> None:
    """Check every published byte, catalogue and commit.

    OUT_OR_RUN is an output prefix, or one run: OUT/runs/<run id>.
    """
    from earthloom.jobs.monitoring.audit.verify import verify as check
    from earthloom.tiling.storage.objects import ObjectRef

    report = check(ObjectRef.parse(place), on_place=None if as_json else lambda prefix: click.echo(prefix, err=True))
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
    else:
        show_report(report)
    sys.exit(report.exit_code)


@click.command()
@click.argument("out")
@click.option("--older-than", default="7d", show_default=True, help="only what has not been written to for this long")
@click.option(
    "--superseded",
    is_flag=True,
    help="also results that a newer one of the same files, grid, models and options replaces",
)
@click.option(
    "--keep-last",
    type=click.IntRange(min=0),
    help="also all results of each product except this many, latest acquisitions first, and records of its older runs; "
    "keeps what monitored cubes are made of",
)
@click.option("--product", help="product to which --keep-last applies; default: every product")
@click.option("--delete", is_flag=True, help="remove what was found; without it, nothing is changed")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on stdout")
def gc(
    out: str, older_than: str, superseded: bool, keep_last: int | None, product: str | None, delete: bool, as_json: bool
) -> None:  # fmt: skip
    """List what can be removed below OUT; --delete removes it.

    These are abandoned scenes, runs and leftovers, and with further options older results.
    """
    from earthloom.jobs.upkeep.gc import sweep
    from earthloom.jobs.upkeep.retention import Policy
    from earthloom.tiling.errors import ConfigError
    from earthloom.tiling.storage.objects import ObjectRef

    older_than_s = _seconds("older_than", older_than)
    if product is not None and keep_last is None:
        raise ConfigError("`product` goes with `keep_last`, which says how many of its results stay")
    policy = None if keep_last is None else Policy(keep_last=keep_last, product=product)
    done = sweep(ObjectRef.parse(out), older_than_s=older_than_s, superseded=superseded, policy=policy, delete=delete)
    if as_json:
        click.echo(json.dumps(asdict(done) | {"dry_run": not delete}, indent=2))
    else:
        show_sweep(done, dry_run=not delete)


@click.command()
@click.option("--out", "-o", help="also test whether this output prefix is writable and supports conditional writes")
@click.option("--address", help="check every node of the Ray cluster with this head instead: head:6379")
def doctor(out: str | None, address: str | None) -> None:
    """Check this installation, its GPU, Ray and object storage.

    Says how to fix each problem.
    """
    from earthloom.jobs.upkeep.doctor import diagnose
    from earthloom.jobs.upkeep.nodes import diagnose_nodes

    if address is None:
        findings = diagnose(out)
        show_diagnosis(findings)
    else:
        found = diagnose_nodes(address, out)
        for name, its in found.items():
            click.echo(name)
            show_diagnosis(its)
        findings = [finding for its in found.values() for finding in its]
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


def _seconds(option: str, text: str) -> float:
    from earthloom.jobs.config import parse_seconds
    from earthloom.tiling.errors import ConfigError

    try:
        return float(str(parse_seconds(text)))
    except ValueError as error:
        raise ConfigError(f"`{option}`: {error}") from None


def show_status(found: Mapping[str, Any]) -> None:
    """Runs and scenes as tables."""
    from earthloom.jobs.command.watching import facts_of

    console = make_console(stderr=False)
    for run in found["runs"]:
        state, scenes, *_ = facts_of(run)
        title = f"run {run['run_id'][:12]} · {run['model']} · {state}: {scenes} · attempt {run['attempts']}"
        console.print(f"{plain(title)} · {run['updated'] or 'never started'}", soft_wrap=True)
        table = Table()
        for name in ("scene", "status", "blocks", "cause"):
            table.add_column(name, overflow="fold")
        for name, scene in run["scenes"].items():
            blocks = f"{scene['blocks_done']}/{scene['blocks']}"
            table.add_row(plain(name), scene["status"], blocks, plain(scene["error"] or ""))
        console.print(table)
        if run["clock"]:
            console.print(f"[yellow]note[/] {plain(run['clock'])}", soft_wrap=True)


def show_unmapped(bad: Sequence[Unmapped]) -> None:
    """Each reason once with the scenes that it holds for; known ones are counted."""
    console = make_console(stderr=False)
    reasons: dict[tuple[str, str, str], list[Unmapped]] = {}
    for one in bad:
        if not one.known:
            text = (one.error or "not finished").removeprefix(f"{one.scene}: ")
            reasons.setdefault((one.status, one.product, text), []).append(one)
    for (state, product, text), ones in reasons.items():
        names = listed([one.scene for one in ones])
        where = f"({plain(product)}, run {ones[0].run_id[:12]}, {ones[0].when})"
        console.print(f"[red]{state}[/] {plain(names)}: {plain(text)} {where}", soft_wrap=True)
    known = sum(one.known for one in bad)
    console.print(f"{len(bad) - known} without a result, {known} known")


def show_report(report: Verification) -> None:
    """What was checked and what is wrong."""
    console = make_console(stderr=False)
    for problem in report.problems:
        console.print(f"[red]wrong[/] {plain(problem.place)}: {plain(problem.message)}", soft_wrap=True)
    for note in report.notes:
        console.print(f"[yellow]note[/] {plain(note)}", soft_wrap=True)
    verdict = (
        f"[red]{counted(len(report.problems), 'problem')}[/]"
        if report.problems
        else "[green]all is as it was published[/]"
    )
    monitors = f", {counted(report.monitors, 'monitored product')}" if report.monitors else ""
    checked = f"{counted(report.scenes, 'scene')}{monitors}, {counted(report.objects, 'object')}"
    console.print(f"{checked}, {report.checked_bytes / 1e6:.1f} MB read: {verdict}")


def show_sweep(done: Sweep, *, dry_run: bool) -> None:
    """What may go, or is gone."""
    console = make_console(stderr=False)
    table = Table()
    for name in ("kind", "place", "objects", "MB", "age", "why"):
        table.add_column(name, overflow="fold", justify="right" if name in ("objects", "MB", "age") else "left")
    for one in done.found:
        table.add_row(
            one.kind,
            plain(one.place),
            str(one.objects),
            f"{one.size_bytes / 1e6:.1f}",
            duration(one.age_s),
            plain(one.why),
        )
    if done.found:
        console.print(table)
    for note in done.notes:
        console.print(f"[yellow]note[/] {plain(note)}", soft_wrap=True)
    counted = done.found if dry_run else done.removed
    size = f"{sum(one.objects for one in counted)} objects, {sum(one.size_bytes for one in counted) / 1e6:.1f} MB"
    if not done.found:
        console.print("nothing to remove; what a run that may still be at work has made is left for an hour")
    else:
        console.print(f"{size} can be removed: the same command with --delete" if dry_run else f"{size} removed")


def show_diagnosis(findings: Sequence[Finding]) -> None:
    """One line per check; the remedy under what is wrong."""
    console = make_console(stderr=False)
    for finding in findings:
        console.print(
            f"{'[green]ok  [/]' if finding.ok else '[red]FAIL[/]'} {finding.subject}: {plain(finding.found)}",
            soft_wrap=True,
        )
        if not finding.ok:
            console.print(f"       {plain(finding.remedy)}", soft_wrap=True)
