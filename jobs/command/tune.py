"""`earthloom tune`, beside what it prints. Heavy modules are imported inside the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from earthloom.jobs.command.sigterm import exit_on_sigterm
from earthloom.jobs.command.terminal import in_a_file, make_console, with_flags

if TYPE_CHECKING:
    from earthloom.jobs.learning.fitting import Progress
    from earthloom.jobs.learning.tune import Study

_ROWS = 20


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="total number of trials, including earlier ones",
)
@click.option("--out", "-o", help="folder or s3:// prefix for the study, instead of the file's `out`")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="number of simultaneous trials, on Ray; without it, one by one in this process",
)
@click.option("--address", help="address of a Ray cluster, with --workers; without it, Ray starts inside this command")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on stdout, logs on stderr")
def tune(file: Path, trials: int, out: str | None, workers: int | None, address: str | None, as_json: bool) -> None:
    """Tune a training by its validation score. FILE has a table [tune.space].

    The study is stored in OUT. Repeat the command to resume, or with more --trials to extend it. The best file is
    OUT/best.toml, for `earthloom train`; the test part is not used.
    """
    from earthloom.jobs.learning.config import keys_in_file, load_training
    from earthloom.jobs.learning.tune import tune as do_tune

    config = load_training(file, out=out)
    exit_on_sigterm()
    with in_a_file(keys_in_file()):
        study = do_tune(
            config, trials, workers=workers, address=address, on_trial=_tell, on_begin=_begin, on_look=_look
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps({"trials": study.trials, "best": study.best, "file": study.file}, indent=2))
    else:
        show_study(study)
    sys.exit(0 if study.best is not None else 1)


def _begin(number: int, parameters: dict[str, Any]) -> None:
    print(f"trial {number} begins: {_values(parameters)}", file=sys.stderr, flush=True)


def _look(number: int, progress: Progress) -> None:
    assert progress.look is not None
    told = f"step {progress.step} of {progress.steps}, loss {progress.loss:.4f}, validation {progress.look.score:.4f}"
    print(f"trial {number}: {told}", file=sys.stderr, flush=True)


def _tell(result: dict[str, Any]) -> None:
    why = f": {with_flags(result['error'])}" if result.get("error") else ""
    print(f"trial {result['number']}: {_ended(result)}, {_values(result['parameters'])}{why}", file=sys.stderr)


def show_study(study: Study) -> None:
    """The trials, the best first, and the file to train."""
    console = make_console()
    table = Table(title="trials by their score on the validation part", title_justify="left")
    for name in ("trial", "score", "steps", "ended", "values"):
        table.add_column(name, justify="right" if name in ("trial", "score", "steps") else "left")
    ranked = sorted(study.trials, key=lambda result: (result["score"] is None, -(result["score"] or 0.0)))
    for result in ranked[:_ROWS]:
        score = f"{result['score']:.4f}" if result["score"] is not None else ""
        table.add_row(
            str(result["number"]), score, str(result["steps"]), result["state"], _values(result["parameters"])
        )
    console.print(table)
    if len(ranked) > _ROWS:
        console.print(f"… and {len(ranked) - _ROWS} more")
    if study.file:
        click.echo(study.file)


def _ended(result: dict[str, Any]) -> str:
    score = f" with {result['score']:.4f}" if result["score"] is not None else ""
    return f"{result['state']}{score} after {result['steps']} steps"


def _values(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {value:.4g}" if isinstance(value, float) else f"{key} = {value}"
                     for key, value in parameters.items())  # fmt: skip
