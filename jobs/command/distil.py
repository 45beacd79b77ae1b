"""`earthloom distil`, beside what it prints. Heavy modules are imported inside the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from earthloom.jobs.command.lines import Lines, Progress
from earthloom.jobs.command.options import SectionedCommand, options_of
from earthloom.jobs.command.run import show_plan
from earthloom.jobs.command.sigterm import exit_on_sigterm
from earthloom.jobs.command.terminal import make_console
from earthloom.jobs.command.train import CHECKPOINT_WITHIN_S, TrainingProgress, show_trained
from earthloom.jobs.learning.options import DistilConfig

if TYPE_CHECKING:
    from earthloom.jobs.learning.distil import Distilled
    from earthloom.models.cards.card import ModelCard


@click.command(cls=SectionedCommand)
@click.argument("model", metavar="NAME", nargs=1)
@options_of(DistilConfig, but=("model",), short={"out": "-o"})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="TOML file with options as keys (underscores for dashes)",
)
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on stdout, logs on stderr")
def distil(model: str, config: Path | None, as_json: bool, **options: Any) -> None:
    """Train a small network to imitate a large one.

    NAME is the large model; the scenes need no labels. The result is a card folder for `run --model`. Repeat the
    command to resume.
    """
    from earthloom.jobs.config import load_as
    from earthloom.jobs.learning.distil import distil as do_distil

    settings = load_as(DistilConfig, {"model": model, **options}, config)
    exit_on_sigterm(CHECKPOINT_WITHIN_S)
    lines = Lines()
    with Progress(lines) as progress, TrainingProgress() as training:

        def stage(sentence: str) -> None:
            progress.stop()  # the maps are made: a terminal shows one live bar at a time
            training.stage(sentence)

        made = do_distil(
            settings, on_plan=None if as_json else show_plan, on_event=progress, on_progress=training,
            on_stage=stage,
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(made.to_dict(), indent=2))
    else:
        show_trained(made.trained)
        show_comparison(made)


def show_comparison(made: Distilled) -> None:
    """What the student costs beside its teacher."""
    from rich.table import Table

    same = made.to_dict()["same_pixels"]
    told = "" if same is None else f": they are of one class on {same:.2%} of its pixels"
    table = Table(title=f"the scores above are agreement with the teacher{told}", title_justify="left")
    for name in ("", made.student.label, made.teacher.label):
        table.add_column(name, justify="right")
    costs: tuple[tuple[str, float | None, float | None], ...] = (
        ("operations per pixel", made.student.flop_per_px, made.teacher.flop_per_px),
        ("bytes per chip pixel", _bytes(made.student), _bytes(made.teacher)),
        ("halo, px", made.student.halo_px, made.teacher.halo_px),
    )  # fmt: skip
    for name, *values in costs:
        table.add_row(name, *("-" if value is None else f"{value:,.0f}" for value in values))
    make_console(stderr=False).print(table)


def _bytes(card: ModelCard) -> float | None:
    return max((size for _, size in card.memory), default=None)
