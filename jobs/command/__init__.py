"""The command line. Parses, calls the Python API, prints; knows nothing of how anything is done.

Heavy modules are imported inside the commands, so that `earthloom --help` answers at once.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from earthloom.tiling.errors import EarthloomError
from earthloom.tiling.heap import share_one_arena
from earthloom.tiling.redact import guard_logs

_EXIT_SIGTERM = 128 + signal.SIGTERM
_HIDDEN = ("scenes",)
_GROUPS = {"model": "-m", "out": "-o"}


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One option per field of RunConfig: the model is the single list of names, types and help texts."""
    from earthloom.jobs.config import RunConfig

    for name, field in reversed(RunConfig.model_fields.items()):
        if name in _HIDDEN:
            continue
        kind, choices = _option_type(field)
        repeated = typing.get_origin(field.annotation) is tuple
        default = (
            ""
            if field.is_required() or field.default in (None, False, ())
            else f"  [default: {_shown(name, field.default)}]"
        )
        flags = [f"--{name.replace('_', '-')}", *([_GROUPS[name]] if name in _GROUPS else [])]
        option = (
            click.option(*flags, is_flag=True, default=None, help=field.description)
            if kind is bool
            else click.option(
                *flags,
                type=click.Choice(choices) if choices else kind,
                help=f"{field.description}{default}",
                multiple=repeated,
            )
        )
        command = option(command)
    command = click.option("--config", type=click.Path(path_type=Path), help="TOML file with the same names as keys")(
        command
    )
    command = click.option("--json", "as_json", is_flag=True, help="machine-readable result on stdout, logs on stderr")(
        command
    )
    return click.argument("scenes", nargs=-1)(command)


def _option_type(field: FieldInfo) -> tuple[Any, Sequence[str] | None]:
    """The click type of a field: numbers stay numbers; sizes, times and lists are text that the model parses."""
    annotation: Any = field.annotation
    if any(isinstance(one, BeforeValidator) for one in field.metadata):
        return str, None
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    if typing.get_origin(annotation) is typing.Literal:
        return str, typing.get_args(annotation)
    return (annotation if annotation in (float, bool) else str), None


def _shown(name: str, default: Any) -> str:
    return f"{default / 2**30:g}GiB" if name == "memory_per_worker" else str(default)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="earthloom")
@click.option("-v", "--verbose", is_flag=True, help="log what happens")
def cli(verbose: bool) -> None:
    """Turn satellite scenes into maps: tiled, stitched without seams, published as COG, Zarr and STAC."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    guard_logs()
    from earthloom.tiling.storage.settings import apply

    apply()


@cli.command()
@run_options
def plan(scenes: tuple[str, ...], config: Path | None, as_json: bool, **options: Any) -> None:
    """Check scenes and show what a run would do: verdicts, blocks, memory, time. Touches nothing."""
    from earthloom.jobs.command.show import plan_json, show_plan
    from earthloom.jobs.config import load
    from earthloom.jobs.planning.plan import plan as make_plan

    made = make_plan(load({"scenes": scenes, **options}, config))
    if as_json:
        click.echo(json.dumps(plan_json(made), indent=2))
    else:
        show_plan(made)
    sys.exit(0 if not made.refused else 3 if made.scenes else 2)


@cli.command()
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
    from earthloom.jobs.command.show import Progress, result_json, show_plan, show_result
    from earthloom.jobs.config import load
    from earthloom.jobs.execution.driver import run as do_run

    settings = load({"scenes": scenes, **options}, config)
    _exit_on_sigterm()
    with Progress() as progress:
        result = do_run(settings, on_plan=None if as_json else show_plan, on_event=progress)
    if as_json:
        click.echo(json.dumps(result_json(result), indent=2))
    else:
        show_result(result)
    sys.exit(result.exit_code)


@cli.command()
@click.argument("out")
@click.option("--json", "as_json", is_flag=True, help="machine-readable result on stdout")
def status(out: str, as_json: bool) -> None:
    """Tell what is running, done and failed, and why, from storage alone."""
    from earthloom.jobs.command.show import show_status
    from earthloom.jobs.upkeep.status import status as read_status
    from earthloom.tiling.storage.objects import ObjectRef

    found = read_status(ObjectRef.parse(out))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show_status(found)


@cli.command()
@click.argument("place", metavar="OUT_OR_RUN")
@click.option("--json", "as_json", is_flag=True, help="machine-readable result on stdout")
def verify(place: str, as_json: bool) -> None:
    """Re-check every published byte, catalogue and commit below OUT, or of one run: OUT/runs/<run id>."""
    from earthloom.jobs.command.show import show_report
    from earthloom.jobs.upkeep.verify import verify as check
    from earthloom.tiling.storage.objects import ObjectRef

    report = check(ObjectRef.parse(place), on_scene=None if as_json else lambda prefix: click.echo(prefix, err=True))
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
    else:
        show_report(report)
    sys.exit(report.exit_code)


@cli.command()
@click.argument("out")
@click.option("--older-than", default="7d", show_default=True, help="only what nobody has written to for so long")
@click.option(
    "--superseded", is_flag=True, help="also results of which a newer one of the same scene and model is published"
)
@click.option("--delete", is_flag=True, help="remove what was found; without it nothing is touched")
@click.option("--json", "as_json", is_flag=True, help="machine-readable result on stdout")
def gc(out: str, older_than: str, superseded: bool, delete: bool, as_json: bool) -> None:
    """List abandoned scenes, runs and leftovers below OUT, and remove them with --delete."""
    from earthloom.jobs.command.show import show_sweep
    from earthloom.jobs.config import parse_seconds
    from earthloom.jobs.upkeep.gc import sweep
    from earthloom.tiling.errors import ConfigError
    from earthloom.tiling.storage.objects import ObjectRef

    try:
        older_than_s = float(str(parse_seconds(older_than)))
    except ValueError as error:
        raise ConfigError(f"--older-than: {error}") from None
    done = sweep(ObjectRef.parse(out), older_than_s=older_than_s, superseded=superseded, delete=delete)
    if as_json:
        click.echo(json.dumps(asdict(done) | {"dry_run": not delete}, indent=2))
    else:
        show_sweep(done, dry_run=not delete)


@cli.command()
@click.option("--out", "-o", help="also test this output prefix: writable, conditional writes work")
def doctor(out: str | None) -> None:
    """Check versions, cores, GPU, Ray and object storage; say how to mend what is wrong."""
    from earthloom.jobs.command.show import show_diagnosis
    from earthloom.jobs.upkeep.doctor import diagnose

    findings = diagnose(out)
    show_diagnosis(findings)
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


@cli.group()
def models() -> None:
    """List, show, fetch and measure models."""


@models.command("list")
def models_list() -> None:
    """Name every model of the zoo and say whether it is ready."""
    from earthloom.jobs.command.show import show_models
    from earthloom.models.zoo import catalogue

    show_models(catalogue())


@models.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="the card as STAC MLM JSON")
def models_show(name: str, as_json: bool) -> None:
    """Print what a model needs and gives. NAME is a model of the zoo or a card's folder."""
    from earthloom.jobs.command.show import show_card
    from earthloom.jobs.products.layout import card_document
    from earthloom.models.zoo import variants

    for card, folder in variants(name):
        if as_json:
            click.echo(json.dumps(card_document(card, folder), indent=2))
        else:
            show_card(card)


@models.command("add")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def models_add(names: tuple[str, ...]) -> None:
    """Fetch the weights of models by sha256, convert them, and keep them in the cache."""
    from earthloom.models.zoo import add

    for name in names:
        for folder in add(name):
            click.echo(folder)


@models.command("import")
@click.argument("source", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), help="folder to write, new or empty  [default: in the cache]")
@click.option("--name", help="name of the model  [default: the file's]")
@click.option("--bands", required=True, help="common names in the order of the network's channels: blue,green,red,nir")
@click.option("--quantity", required=True, help="what the values mean, the best first: boa_reflectance,reflectance")
@click.option("--classes", required=True, help="names of the classes from 0: land,water")
@click.option("--mean", help="of each band in that quantity, as in training  [default: 0]")
@click.option("--std", help="see --mean  [default: 1]")
@click.option("--gsd", help="metres per pixel at which it works: 10 or 8,60  [default: any]")
@click.option("--stride", type=click.IntRange(1, 1024), help="total stride: 32 for five halvings, 1 for none")
@click.option("--halo", type=click.IntRange(0, 4096), help="context per side that makes tiles exact, in pixels")
@click.option(
    "--activation",
    type=click.Choice(["softmax", "none"]),
    default="softmax",
    show_default=True,
    help="none: the network ends in probabilities",
)
@click.option(
    "--layout",
    type=click.Choice(["nchw", "nhwc"]),
    default="nchw",
    show_default=True,
    help="order of the axes of an ONNX graph",
)
@click.option("--architecture", help="network that a state dict belongs to: smp")
@click.option("--arguments", default="{}", help="its arguments as JSON")
@click.option(
    "--trust-code", metavar="SHA256", help="run this program (TorchScript, .pt2): you know where it comes from"
)
def models_import(source: Path, to: Path | None, **options: Any) -> None:
    """Turn a network of your own into a card folder: smp folder, state dict, ONNX graph, or a program you vouch for."""
    from earthloom.jobs.command.show import show_card
    from earthloom.models.importing.importing import import_model, told_by

    card, folder = import_model(source, told_by(options), to)
    show_card(card)
    click.echo(folder)
    if card.halo_px is None:
        click.echo(f"its halo is not known yet: earthloom models measure {folder} SCENE", err=True)


@models.command("measure")
@click.argument("name")
@click.argument("scene")
@click.option(
    "--window", default=2048, show_default=True, help="side of the part of the scene to measure on, in pixels"
)
@click.option("--sensor", help="sensor preset of the scene")
@click.option("--bands", help="band names by number: red=3,nir=4")
@click.option("--scale", type=float, help="physical value = stored * scale + offset")
@click.option("--offset", type=float, help="see --scale")
@click.option("--quantity", help="what the scaled values are")
@click.option("--sun-elevation", type=float, help="degrees; for presets that need it")
def models_measure(name: str, scene: str, window: int, **options: Any) -> None:
    """Measure support, halo and memory of a model on real input, and write them to its card."""
    from earthloom.jobs.command.show import show_card
    from earthloom.jobs.learning.measure import measure_model

    for card in measure_model(name, scene, window_px=window, options=options):
        show_card(card)


def _exit_on_sigterm() -> None:
    """Preemption and `ray job stop` send SIGTERM and kill soon after: leave at once, the next run continues.

    What is in flight is abandoned. Native code may hold the interpreter up, so a timer has the last word.
    """

    def stop(_signal: int, _frame: object) -> None:
        last_word = threading.Timer(1.5, os._exit, [_EXIT_SIGTERM])
        last_word.daemon = True
        last_word.start()
        sys.exit(_EXIT_SIGTERM)

    signal.signal(signal.SIGTERM, stop)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors become one sentence and an exit code, never a traceback."""
    share_one_arena()  # before there are threads
    try:
        cli.main(args=None if arguments is None else list(arguments), standalone_mode=False)
    except SystemExit as stop:
        if stop.code == _EXIT_SIGTERM:  # everything is put away; threads inside native code would abort a normal exit
            logging.shutdown()
            os._exit(_EXIT_SIGTERM)
        raise
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except EarthloomError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
