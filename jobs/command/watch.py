"""`earthloom watch`, beside what it prints. Decides nothing; heavy modules are imported inside the command."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from earthloom.jobs.command.lines import Lines, Progress, log_json_option, plain
from earthloom.jobs.command.monitoring import monitor_json
from earthloom.jobs.command.options import SectionedCommand, options_of
from earthloom.jobs.command.sigterm import exit_on_sigterm
from earthloom.jobs.command.terminal import counted, duration, with_flags
from earthloom.jobs.config import EngineOptions
from earthloom.jobs.operations.options import WatchConfig

if TYPE_CHECKING:
    from earthloom.jobs.intake.arrivals import Arrival
    from earthloom.jobs.operations.watch import HeldError, Seen

_ROWS = 20  # of what is bad, or would be mapped


@click.command(cls=SectionedCommand)
@click.argument("file")
@click.option("--from", "first", metavar="DATE", help="map only scenes taken on this day or later: 2020-01-01")
@click.option("--until", "last", metavar="DATE", help="map only scenes taken on this day or earlier")
@click.option("--dry-run", is_flag=True, help="print what would be mapped, and write nothing")
@click.option("--json", "as_json", is_flag=True, help="print the results as JSON on stdout, one line per look")
@log_json_option
@options_of(WatchConfig, but=("file", "first", "last"), short={"out": "-o"})
def watch(file: str, dry_run: bool, as_json: bool, log_json: bool, **options: Any) -> None:
    """Map scenes as they arrive.

    FILE is the TOML of a run, or an AOI file. Processed scenes are recorded below OUT.
    """
    from earthloom.jobs.config import check
    from earthloom.jobs.operations.watch import HeldError, Listeners
    from earthloom.jobs.operations.watch import watch as do_watch
    from earthloom.jobs.operations.watched import read_watched

    engine = {name: options[name] for name in EngineOptions.model_fields}
    config = check(WatchConfig, {"file": file, **options})
    watched = read_watched(file, config.out, engine)
    exit_on_sigterm()
    lines = Lines(as_json=log_json, timed=True)
    speaks = log_json or not as_json

    def due(seen: Seen, arrivals: Sequence[Arrival]) -> None:
        if arrivals and speaks:
            text = f"{counted(len(arrivals), 'scene')} to map: {found_text(seen)}"
            lines.say("due", text, scenes=len(arrivals), **_counts(seen))
        for arrival in arrivals[:_ROWS] if dry_run and not as_json else ():
            taken = f", taken {arrival.taken:%Y-%m-%d %H:%M}" if arrival.taken else ""
            print(f"  {arrival.request.id}{taken}: {arrival.request.reference}")

    def tell(seen: Seen) -> None:
        if as_json:
            print(json.dumps(seen_json(seen)), flush=True)
        if speaks:
            show_seen(seen, lines, event="end" if config.once else "look")

    def held(error: HeldError) -> None:
        lines.say("held", plain(f"{error}; standing by"))

    progress = Progress(lines) if log_json else None  # people are told of a look when it has ended
    listeners = Listeners(on_due=due, on_seen=tell, on_held=held, on_scene=progress)
    try:
        seen = do_watch(config, watched, listeners, dry=dry_run)
    except HeldError as error:  # the usual thing where a schedule overtakes itself
        lines.say("end", plain(f"{error}; nothing is done here"), exit_code=0, skipped=str(error))
        return
    if dry_run and as_json:
        print(json.dumps(seen_json(seen)))
    if dry_run and speaks:
        lines.say("end", found_text(seen), exit_code=seen.exit_code, **_counts(seen))
    sys.exit(seen.exit_code)


def found_text(seen: Seen) -> str:
    """`120 found: 3 new (1 changed, 2 late), 1 tried again, 116 known; 1 still arriving …`."""
    of_new = [f"{n} {word}" for n, word in ((seen.changed, "changed"), (seen.late, "late")) if n]
    text = f"{seen.found} found: {seen.new} new" + (f" ({', '.join(of_new)})" if of_new else "")
    text += f", {seen.retried} tried again" if seen.retried else ""
    text += f", {seen.known} known"
    text += (
        f"; {seen.coming} still arriving (written to within --settle; left for the next look)" if seen.coming else ""
    )
    return text + (f"; {seen.undated} left out, as nothing says when they were taken" if seen.undated else "")


def show_seen(seen: Seen, lines: Lines, *, event: str) -> None:
    """One line, and one more for each thing that went wrong.

    Args:
        event: event of the last line, for machines.
    """
    for bad in seen.bad[:_ROWS]:
        again = f"tried again after {bad.again}" if bad.again else "not tried again until it changes"
        reason = with_flags(bad.reason.removeprefix(f"{bad.id}: "))
        lines.say(
            "bad",
            plain(f"bad {bad.id}: {reason} ({again})"),
            scene=bad.id,
            kind=bad.kind,
            error=reason,
            again=bad.again,
        )
    if len(seen.bad) > _ROWS:
        more = len(seen.bad) - _ROWS
        lines.say("bad", f"bad: {more} more; they lie below watches/ with their reasons", more=more)
    for error in seen.errors:
        lines.say("failed", plain(f"failed: {error}"), error=with_flags(error))
    text = f"{found_text(seen)}; {len(seen.published)} published, {len(seen.bad)} bad"
    text += f", {seen.unfinished} unfinished" if seen.unfinished else ""
    if seen.latencies_s:
        text += f"; from acquisition to map {duration(statistics.median(seen.latencies_s))} (median)"
    if seen.lag_s is not None:
        text += f"; newest scene is {duration(seen.lag_s)} old"
    lines.say(event, text, exit_code=seen.exit_code, **_counts(seen), **_outcome(seen))


def seen_json(seen: Seen) -> dict[str, Any]:
    """One look as plain data."""
    return {
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "exit_code": seen.exit_code, **_counts(seen),
        **_outcome(seen), "published": seen.published,
        "bad": [
            {"id": bad.id, "reference": bad.reference, "kind": bad.kind, "reason": with_flags(bad.reason),
             "tries": bad.tries, "again": bad.again} for bad in seen.bad
        ],
        "errors": [with_flags(error) for error in seen.errors],
        "monitor": monitor_json(seen.monitor) if seen.monitor else None,
    }  # fmt: skip


def _counts(seen: Seen) -> dict[str, int]:
    """What was found."""
    names = ("found", "new", "changed", "late", "retried", "known", "coming", "undated")
    return {name: getattr(seen, name) for name in names}


def _outcome(seen: Seen) -> dict[str, Any]:
    """What became of it; numbers of scenes where `seen_json` lists them."""
    return {
        "published": len(seen.published), "bad": len(seen.bad), "unfinished": seen.unfinished,
        "newest": seen.newest.isoformat() if seen.newest else None, "lag_s": seen.lag_s,
        "latency_to_map_s": statistics.median(seen.latencies_s) if seen.latencies_s else None,
    }  # fmt: skip
