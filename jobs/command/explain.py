"""`earthloom explain`, beside what it prints. Heavy modules are imported inside the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from earthloom.jobs.command.lines import Lines, Progress
from earthloom.jobs.command.options import SectionedCommand, options_of
from earthloom.jobs.command.run import result_json, show_plan, show_result
from earthloom.jobs.command.sigterm import exit_on_sigterm
from earthloom.jobs.command.terminal import make_console
from earthloom.jobs.learning.options import ExplainConfig

if TYPE_CHECKING:
    from earthloom.jobs.learning.explain import Explanation


@click.command(cls=SectionedCommand)
@click.argument("model", metavar="NAME", nargs=1)
@click.argument("scenes", metavar="SCENE...", nargs=-1)
@options_of(ExplainConfig, but=("model", "scenes"), short={"out": "-o"})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="TOML file with options as keys (underscores for dashes)",
)
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on stdout, logs on stderr")
def explain(model: str, scenes: tuple[str, ...], config: Path | None, as_json: bool, **options: Any) -> None:
    """Publish images of certainty and of each band's contribution.

    NAME is a model of the zoo or a card folder. The images are made like maps: tiled whole scenes that can be resumed.
    """
    from earthloom.jobs.config import load_as
    from earthloom.jobs.learning.explain import explain as do_explain

    settings = load_as(ExplainConfig, {"model": model, "scenes": scenes, **options}, config)
    exit_on_sigterm()
    lines = Lines()
    with Progress(lines) as progress:
        made = do_explain(settings, on_plan=None if as_json else show_plan, on_event=progress)
    if as_json:
        found = {each.what: {"bands": each.bands, **result_json(each.run)} for each in made}
        click.echo(json.dumps(found, indent=2))
    else:
        for each in made:
            show_result(each.run, lines, all_of_them=True)
        show_importance(made)
    sys.exit(max(each.run.exit_code for each in made))


def show_importance(made: list[Explanation]) -> None:
    """How much each band matters, by each way of asking that."""
    from rich.table import Table

    asked = [each for each in made if each.bands]
    if not asked:
        return
    table = Table(title="root mean square over all pixels", title_justify="left")
    table.add_column("band")
    for each in asked:
        table.add_column(each.what, justify="right")
    for band in asked[0].bands:
        table.add_row(band, *(f"{each.bands[band]:.4f}" for each in asked))
    make_console(stderr=False).print(table)
