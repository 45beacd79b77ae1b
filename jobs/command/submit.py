"""`earthloom submit`, `logs`, `stop`, `jobs`: commands that run on a cluster, by way of its dashboard."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from earthloom.jobs.command.lines import plain
from earthloom.jobs.command.terminal import duration, make_console

if TYPE_CHECKING:
    from earthloom.cluster.submission import Job, JobServer

_address = click.option(
    "--address", help="of the dashboard, http://head:8265; default: RAY_API_SERVER_ADDRESS or RAY_ADDRESS"
)
_INTERRUPTED = 130


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, required=True)
@_address
@click.option("--follow", is_flag=True, help="show what it prints, and end as it ends")
@click.option("--own-credentials", is_flag=True, help="send no AWS_* variables: the nodes have a role of their own")
@click.pass_context
def submit(
    context: click.Context, words: tuple[str, ...], address: str | None, follow: bool, own_credentials: bool
) -> None:
    """Run a command on a cluster: `submit run s3://… --model … --out s3://…`, or `submit night.toml` for a run's file."""
    from earthloom.cluster.package import sent_package
    from earthloom.cluster.submission import JobServer
    from earthloom.jobs.operations.submit import pack

    if len(words) == 1 and words[0].endswith(".toml"):
        words = ("run", "--config", words[0])
    models, out = _checked(context, words)
    server = JobServer(address)
    console = make_console()
    if server.is_open:
        said = f"{server.url} lets in anybody: start the cluster with RAY_AUTH_MODE=token"
        console.print(f"[yellow]note[/] {said}", soft_wrap=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="earthloom-job-")))
        parcel = pack(words, folder, models=models, out=out, credentials=not own_credentials)
        for note in parcel.notes:
            console.print(f"[yellow]note[/] {plain(note)}", soft_wrap=True)
        package = stack.enter_context(sent_package())
        job = server.submit(
            parcel.words, job_id=parcel.job_id, packages=[package], folder=folder, env=parcel.env
        )  # fmt: skip
    click.echo(job.id)
    if follow:
        sys.exit(_follow(server, job.id))
    console.print(f"submitted; earthloom logs {job.id} --follow --address {server.url}", soft_wrap=True)


@click.command()
@click.argument("job")
@_address
@click.option("--follow", is_flag=True, help="go on as it prints, and end as it ends")
def logs(job: str, address: str | None, follow: bool) -> None:
    """Show what a submitted job prints."""
    from earthloom.cluster.submission import JobServer

    server = JobServer(address)
    if follow:
        sys.exit(_follow(server, job))
    click.echo(server.logs(job), nl=False)


@click.command()
@click.argument("job")
@_address
def stop(job: str, address: str | None) -> None:
    """Stop a submitted job; the same command continues it another time."""
    from earthloom.cluster.submission import JobServer

    server = JobServer(address)
    stopped = server.stop(job)
    click.echo(f"{job} is stopped" if stopped else f"{job} had ended: {server.job(job).status}")


@click.command()
@_address
@click.option("--json", "as_json", is_flag=True, help="machine-readable result on stdout")
def jobs(address: str | None, as_json: bool) -> None:
    """List the submitted jobs that the cluster remembers."""
    from earthloom.cluster.submission import JobServer

    found = JobServer(address).jobs()
    if as_json:
        click.echo(
            json.dumps([asdict(job) | {"exit_code": job.exit_code if job.ended else None} for job in found], indent=2)
        )
        return
    table = Table()
    for name in ("job", "status", "exit code", "started", "took", "command"):
        table.add_column(name, overflow="fold")
    for job in found:
        table.add_row(*_row(job))
    make_console(stderr=False).print(table)


def _row(job: Job) -> list[str]:
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(job.started_s)) if job.started_s else ""
    took = duration((job.ended_s or time.time()) - job.started_s) if job.started_s else ""
    command = escape(job.command.removeprefix("python -m "))
    return [job.id, job.status, str(job.exit_code) if job.ended else "", started, took, command]


def _checked(context: click.Context, words: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
    """The models that a command names and where it writes, having read its options as it would itself."""
    group: Any = context.parent.command if context.parent else None
    command = group.commands.get(words[0]) if group else None
    if command is None or command.name in ("submit", "logs", "stop", "jobs"):
        raise click.UsageError(f"{words[0]} is no command that can be submitted: `earthloom submit run …`", context)
    with command.make_context(words[0], list(words[1:]), parent=context.parent) as parsed:
        given = parsed.params
    from earthloom.jobs.operations.submit import models_named

    return models_named(command.name, given)


def _follow(server: JobServer, job_id: str) -> int:
    """Show a job's output to its end; its exit code."""
    try:
        for text in server.follow(job_id):
            click.echo(text, nl=False)
        job = server.ended(job_id)
    except KeyboardInterrupt:
        click.echo(f"\n{job_id} goes on; earthloom stop {job_id} --address {server.url} ends it", err=True)
        return _INTERRUPTED
    if job.driver_code is None and job.status != "SUCCEEDED":
        click.echo(f"{job_id} {job.status}: {job.message}", err=True)
    return job.exit_code
