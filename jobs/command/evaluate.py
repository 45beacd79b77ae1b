"""`earthloom evaluate`, beside what it prints. Heavy modules are imported inside the command.

Its options are made from `EvaluateConfig`, which is imported when the command is asked for.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from earthloom.jobs.command.lines import Lines, Progress
from earthloom.jobs.command.options import SectionedCommand, options_of
from earthloom.jobs.command.run import show_plan, show_result
from earthloom.jobs.command.sigterm import exit_on_sigterm
from earthloom.jobs.learning.options import EvaluateConfig


@click.command(cls=SectionedCommand)
@click.argument("model", metavar="NAME...", nargs=-1)
@options_of(EvaluateConfig, but=("model",), short={"out": "-o"})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="TOML file with options as keys (underscores for dashes)",
)
@click.option("--json", "as_json", is_flag=True, help="print the report as JSON on stdout, logs on stderr")
def evaluate(model: tuple[str, ...], config: Path | None, as_json: bool, **options: Any) -> None:
    """Map scenes and compare the maps with labels.

    Reports scores, calibration and areas, and publishes error maps. NAME is a model of the zoo or a card folder;
    several are the stages of a chain. Maps already published in --out are not computed again.
    """
    from earthloom.jobs.config import load_as
    from earthloom.jobs.learning.evaluate import evaluate as do_evaluate

    settings = load_as(EvaluateConfig, {"model": model, **options}, config)
    exit_on_sigterm()
    lines = Lines()
    with Progress(lines) as progress:
        done = do_evaluate(settings, on_plan=None if as_json else show_plan, on_event=progress)
    if not done.report:
        show_result(done.run, lines)
    elif as_json:
        click.echo(json.dumps(done.report | {"files": done.files}, indent=1))
    else:
        click.echo(done.text)
        for path in done.files:
            click.echo(path)
    sys.exit(done.exit_code)
