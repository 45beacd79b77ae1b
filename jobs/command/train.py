"""`earthloom train`, beside what it prints. Heavy modules are imported inside the command."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from earthloom.jobs.command.run import show_notes
from earthloom.jobs.command.sigterm import exit_on_sigterm
from earthloom.jobs.command.terminal import in_a_file, make_console, with_flags

if TYPE_CHECKING:
    from earthloom.jobs.learning.fitting import Progress
    from earthloom.jobs.learning.train import Trained

_PLAIN_EVERY_S = 10.0
CHECKPOINT_WITHIN_S = 28.0
"""Time after SIGTERM for what is not to be broken off (`jobs.learning.unbroken`) and then for the last checkpoint: less than
the 30 s that Kubernetes gives a pod before it kills it."""
_SHOWN = {"iou": "IoU", "precision": "precision", "recall": "recall", "f1": "F1"}
_SHOWN_OF_OBJECTS = {"ap50": "AP50", "ap50_95": "AP50-95", "precision": "precision", "recall": "recall", "f1": "F1"}


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", "-o", help="folder or s3:// prefix, instead of the file's `out`")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="number of processes on Ray that share each batch; without it, this process",
)
@click.option("--address", help="address of a Ray cluster, with --workers; without it, Ray starts inside this command")
@click.option("--replace", is_flag=True, help="overwrite the model of another training in OUT")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on stdout, logs on stderr")
def train(file: Path, out: str | None, workers: int | None, address: str | None, replace: bool, as_json: bool) -> None:
    """Train a model on labelled scenes. FILE is TOML: data, split, network, schedule (docs/training.md).

    The result is a card folder for `run --model`. Repeat the command to resume; a finished training is left as it is.
    """
    from earthloom.jobs.learning.config import keys_in_file, load_training
    from earthloom.jobs.learning.train import train as do_train

    config = load_training(file, out=out)
    exit_on_sigterm(CHECKPOINT_WITHIN_S)
    with in_a_file(keys_in_file()):
        with TrainingProgress() as progress:
            trained = do_train(
                config, replaces=replace, workers=workers, address=address, on_progress=progress,
                on_stage=progress.stage,
            )  # fmt: skip
        if as_json:
            click.echo(json.dumps(trained_json(trained), indent=2))
        else:
            show_trained(trained)


def trained_json(trained: Trained) -> dict[str, Any]:
    """How the training ended, as plain data."""
    return {
        "out": trained.out, "model": trained.card.label, "weights": trained.card.weights, "was_there": trained.was_there,
        "record": trained.record, "notes": [f"{scene}: {with_flags(text)}" for scene, text in trained.notes],
    }  # fmt: skip


def show_trained(trained: Trained) -> None:
    """Print where the model is, how it is tiled and what it scored."""
    console = make_console()
    record, card = trained.record, trained.card
    show_notes(console, trained.notes)
    console.print(f"{card.label}: {'trained already' if trained.was_there else 'trained'}")
    if table := score_table(trained):
        console.print(table)
    tiling, proof = record["tiling"], record["tiling"]["tiled_is_whole"]
    if card.labels:
        same = "the same labels as" if proof["identical"] else "other labels, for some of them, than"
        told = (
            f"chips of {card.core_px} px are labelled one by one, with {card.halo_px} px around each: by themselves they get "
            f"{same} all at once"
        )
    elif proof is None:
        told = f"it looks at the whole chip, so chips are cross-faded over {2 * tiling['halo_px']} px"
    else:
        flips = f"differs from it in {proof['flips']:.4%} of the pixels" if proof["flips"] else "has the same classes"
        same = "is identical to it" if proof["identical"] else flips
        told = (
            f"compared with one pass over the whole scene, the tiled map with a halo of {tiling['halo_px']} px {same}"
        )
    console.print(told, soft_wrap=True)
    for seed in record["seeds"]:
        console.print(_judged(seed, "chips" if card.labels else "pixels"), soft_wrap=True)
    click.echo(trained.out)


def score_table(trained: Trained) -> Table | None:
    """Scores of each class on the test part, with their spread over seeds; None where nothing was judged.

    A class that the test part does not show has none.
    """
    scores = trained.record["test"]
    if not scores:
        return None
    table = Table(title="on the test part", title_justify="left")
    shown = _SHOWN if trained.card.objects is None else _SHOWN_OF_OBJECTS
    for name in ("class", *shown.values()):
        table.add_column(name, justify="left" if name == "class" else "right")
    judged = [seed["test"].get("confusion", ()) for seed in trained.record["seeds"] if seed["test"]]
    absent = {number for counts in judged[:1] for number, row in enumerate(counts) if not any(row)}
    for each in trained.card.classes:
        if each.value in absent:
            table.add_row(each.name, *("" for _ in shown))
            continue
        values = [scores.get(f"{name}_{each.name}") for name in shown]
        table.add_row(each.name, *("" if value is None else _spread(value) for value in values))
    table.add_row("mean", *(_spread(scores[name]) if name in scores else "" for name in shown))
    return table


def _spread(score: dict[str, float]) -> str:
    return f"{score['mean']:.4f}" + (f" ± {score['ci95']:.4f}" if "ci95" in score else "")


def _judged(seed: dict[str, Any], unit: str) -> str:
    test, validation = seed["test"], seed["validation"]["score"]
    chosen = f"kept step {seed['kept_step']} of {seed['steps']}" + (
        f", {validation:.4f} on the validation part" if validation is not None else ""
    )
    if test is None:
        return f"seed {seed['seed']}: {chosen}; there is no test part"
    if not test["pixels"]:
        return (
            f"seed {seed['seed']}: {chosen}; nothing was tested: all {test['left_out_px']:,} pixels of the test part lie "
            "within the halo of training pixels. Split by scene, or into larger squares"
        )
    near = f"{'more than' if test['is_farther'] else 'at least'} {test['least_distance_px']} px"
    return f"seed {seed['seed']}: {chosen}; tested on {test['pixels']:,} {unit}, {near} from any training pixel"


class TrainingProgress:
    """Shows how a training goes: a live bar on a terminal, else a plain line now and then. Use as a context manager."""

    def __init__(self) -> None:
        self.console = make_console()
        self._live = self.console.is_terminal
        self._last = time.monotonic()
        self._bars: dict[int, TaskID] = {}
        self._progress = RichProgress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} steps"),
            TextColumn("{task.fields[told]}"), TimeRemainingColumn(), console=self.console, transient=False,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, sentence: str) -> None:
        """Say what begins."""
        sentence = with_flags(sentence)
        if self._live:
            self.console.print(sentence)
        else:
            print(sentence, file=sys.stderr)

    def __call__(self, progress: Progress) -> None:
        told = f"loss {progress.loss:.4f}"
        if progress.look is not None:
            told += f", validation {progress.look.score:.4f}{' (best)' * progress.is_best}"
        told += f", waited for data {progress.waited_s / max(progress.elapsed_s, 1e-9):.0%} of the time"
        if self._live:
            self._progress.start()
            if progress.seed not in self._bars:
                self._bars[progress.seed] = self._progress.add_task(
                    f"seed {progress.seed}", total=progress.steps, told=""
                )
            self._progress.update(self._bars[progress.seed], completed=progress.step, told=told)
            return
        if progress.look is not None or time.monotonic() - self._last >= _PLAIN_EVERY_S:
            self._last = time.monotonic()
            print(f"seed {progress.seed}: step {progress.step} of {progress.steps}, {told}", file=sys.stderr)
