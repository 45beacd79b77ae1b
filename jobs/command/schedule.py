"""`earthloom schedule`. Decides nothing; heavy modules are imported inside the command."""

from __future__ import annotations

from typing import Any

import click


@click.command()
@click.argument("file")
@click.option(
    "--for",
    "kind",
    type=click.Choice(["cron", "systemd", "kubernetes"]),
    required=True,
    help="scheduler to print the configuration for",
)
@click.option("--at", metavar="HH:MM", help="run once a day, at this time in UTC: 02:30")
@click.option("--every", metavar="TIME", help="run at this interval instead: 15m, 1h, 6h")
@click.option("--out", "-o", help="folder or s3:// prefix for all outputs, if the file does not say")
@click.option("--name", help="name of the units or manifests; default: the file's")
@click.option("--address", help="address of a Ray cluster, for cron and systemd")
@click.option("--image", help="container image, for Kubernetes")
@click.option("--secret", help="Kubernetes Secret with the AWS_* variables")
@click.option("--gpus", type=int, help="GPUs per worker on Kubernetes; 0: workers compute on CPUs")
@click.option("--max-workers", type=int, help="most workers that Kubernetes may start")
def schedule(file: str, kind: str, **options: Any) -> None:
    """Print what to install to run `earthloom watch` regularly.

    A crontab line, systemd units or Kubernetes manifests run `earthloom watch FILE --once`.
    """
    from earthloom.jobs.config import check
    from earthloom.jobs.operations.schedule import ScheduleConfig, render
    from earthloom.jobs.operations.watched import read_watched

    config = check(ScheduleConfig, {"file": file, "kind": kind, **options})
    click.echo(render(config, read_watched(file, config.out, {})), nl=False)
