"""The command line. Parses, calls the Python API, prints; knows nothing of how anything is done.

Heavy modules are imported inside the commands, so that `earthloom --help` answers at once.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from earthloom.jobs.command.analysis import accuracy, export, items, report, sample
from earthloom.jobs.command.change import areas, change, zonal
from earthloom.jobs.command.demo import demo
from earthloom.jobs.command.distil import distil
from earthloom.jobs.command.evaluate import evaluate
from earthloom.jobs.command.explain import explain
from earthloom.jobs.command.lines import AS_JSON, Lines, plain
from earthloom.jobs.command.models import models
from earthloom.jobs.command.monitoring import monitor
from earthloom.jobs.command.run import STARTED_ALONE, plan, run
from earthloom.jobs.command.schedule import schedule
from earthloom.jobs.command.sensors import sensors
from earthloom.jobs.command.sigterm import EXIT_SIGTERM
from earthloom.jobs.command.submit import jobs, logs, stop, submit
from earthloom.jobs.command.terminal import FlagFormatter, with_flags
from earthloom.jobs.command.train import train
from earthloom.jobs.command.tune import tune
from earthloom.jobs.command.unforeseen import Unforeseen, command_words
from earthloom.jobs.command.upkeep import doctor, gc, status, verify
from earthloom.jobs.command.view import view
from earthloom.jobs.command.watch import watch
from earthloom.tiling.errors import EarthloomError
from earthloom.tiling.heap import share_one_arena
from earthloom.tiling.redact import guard_logs
from earthloom.tiling.software import VERSION

log = logging.getLogger(__name__)

_STOPPED = "stopped; run the same command again: it continues"
_STOPPED_BY_SIGTERM = "stopped by SIGTERM; run the same command again: it continues"

_SECTIONS = {
    "Make maps": ("demo", "plan", "run", "sensors", "models"),
    "Watch areas": ("monitor", "change"),
    "Use maps": ("view", "areas", "zonal", "sample", "accuracy", "export", "report", "items"),
    "Train and evaluate models": ("train", "tune", "evaluate", "explain", "distil"),
    "Clusters and automation": ("submit", "logs", "stop", "jobs", "watch", "schedule"),
    "Maintain an output folder": ("status", "verify", "gc", "doctor"),
}


class _Commands(click.Group):
    """Commands under headings, in the order in which people come to need them."""

    def invoke(self, ctx: click.Context) -> Any:
        asked = "--log-json" in ctx.args
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):  # click knows what they mean
            raise
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            command = self.commands.get(ctx.invoked_subcommand or "")
            knows = command is not None and any(one.name == "log_json" for one in command.params)
            if not ctx.meta.get(AS_JSON) and not (asked and knows):  # the words may not have been read to their end
                raise
            if isinstance(error, KeyboardInterrupt):
                _end(_STOPPED, 130)
            elif isinstance(error, SystemExit):
                if error.code == EXIT_SIGTERM:
                    _end(_STOPPED_BY_SIGTERM, EXIT_SIGTERM)
                raise
            kind = type(error).__name__
            if isinstance(error, EarthloomError):
                _end(f"error: {error}", error.exit_code, error=with_flags(str(error)), kind=kind)
            elif isinstance(error, click.ClickException):
                _end(f"error: {error.format_message()}", 2, error=error.format_message(), kind=kind)
            found = Unforeseen.of(error)
            _end(f"error: {found}", 1, error=str(found), kind=kind, line=found.line, traceback=found.traceback)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        known = [name for names in _SECTIONS.values() for name in names]
        others = {"More": tuple(name for name in self.list_commands(ctx) if name not in known)}
        width = max(map(len, self.commands))
        for section, names in (_SECTIONS | others).items():
            there = [(name, self.commands[name]) for name in names if name in self.commands]
            if there:
                limit = formatter.width - width - 6
                with formatter.section(section):
                    formatter.write_dl([(name.ljust(width), each.get_short_help_str(limit)) for name, each in there])


class _EndedError(SystemExit):
    """The command has ended, and a line has said so."""


def _end(text: str, exit_code: int, **facts: Any) -> NoReturn:
    """Say as JSON how a command ended that did not come to its last line."""
    Lines(as_json=True).say("end", plain(text), exit_code=exit_code, **facts)
    raise _EndedError(exit_code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(VERSION, prog_name="earthloom")
@click.option("-v", "--verbose", is_flag=True, help="print log messages")
def cli(verbose: bool) -> None:
    """Turn satellite scenes into seamless maps, published as COG, Zarr and STAC."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FlagFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO if verbose else logging.WARNING)
    if not verbose:
        handler.addFilter(_is_of_interest)
    guard_logs()
    from earthloom.tiling.storage.settings import apply

    apply()


def _is_of_interest(record: logging.LogRecord) -> bool:
    """Not GDAL's remarks on tags, again at every opening of a file. They are made all the same: one of them may say why
    a read failed (`tiling.reading.gdal_faults`)."""
    return record.levelno >= logging.ERROR or record.name.partition(".")[0] != "rasterio"


for command in (
    *(demo, plan, run, monitor, watch, schedule, change, zonal, areas),
    *(sample, accuracy, export, report, items),
    *(train, tune, evaluate, explain, distil),
    *(submit, logs, stop, jobs),
    *(status, view, verify, gc, doctor, models, sensors),
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors become one sentence and an exit code, never a traceback.

    Args:
        arguments: those of a program that calls the command; None where the process is the command's own.
    """
    share_one_arena()  # before there are threads
    if arguments is not None:
        _main(arguments, None)
        return
    code = 1  # of whatever is not foreseen
    atexit.register(lambda: _leave(code))  # before what commands import, and so called after that
    try:
        _main(None, STARTED_ALONE)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        raise


def _leave(code: int) -> None:
    """End the process at once: native threads of libraries would abort one exit in ten, when all was done and said."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _main(arguments: Sequence[str] | None, obj: object) -> None:
    try:
        cli.main(args=None if arguments is None else list(arguments), standalone_mode=False, obj=obj)
    except SystemExit as stop:
        if stop.code == EXIT_SIGTERM:  # everything is put away; threads inside native code would abort a normal exit
            if not isinstance(stop, _EndedError):
                log.warning(_STOPPED_BY_SIGTERM)
            logging.shutdown()
            os._exit(EXIT_SIGTERM)
        raise
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        log.warning(_STOPPED)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except EarthloomError as error:
        click.echo(f"error: {with_flags(str(error))}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        found = Unforeseen.of(error)
        click.echo(f"error: {found}\n{found.advice(command_words(arguments))}", err=True)
        sys.exit(1)
