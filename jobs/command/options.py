"""Command-line options made from a pydantic model: the model is the single list of names, types and help texts."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import click
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from earthloom.jobs.command.terminal import with_flags
from earthloom.jobs.config import RunConfig, inner_models, parse_bytes, parse_names, parse_seconds

_Command = Callable[..., Any]


class SectionedCommand(click.Command):
    """A command whose help lists options under headings: those that it names itself, and of each inner model."""

    headings: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Options by heading, as they are typed; the first heading stands on top, the others below all that they leave."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        heading_of = {option: heading for heading, options in self.headings.items() for option in options}
        first, *last = self.headings or [""]
        sections: dict[str, dict[str, tuple[str, str]]] = {first: {}}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)):
                name = max(parameter.opts, key=len)
                heading = heading_of.get(name, getattr(parameter, "section", "Options"))
                sections.setdefault(heading, {})[name] = record
        sections |= {heading: sections.pop(heading) for heading in last if heading in sections}  # to the end
        for heading, records in sections.items():
            if records:
                order = list(self.headings.get(heading, records))
                with formatter.section(heading):
                    formatter.write_dl([records[name] for name in order if name in records])


class RunCommand(SectionedCommand):
    """`plan` and `run`: the five options that most runs need stand first."""

    headings: ClassVar[Mapping[str, Sequence[str]]] = {
        "What most runs need": ("--model", "--out", "--sensor", "--executor", "--address"),
        "How blocks and chips are cut": ("--block", "--shard", "--core", "--overlap"),
        "How models compute": ("--precision", "--device", "--batch", "--flips", "--compile"),
        "When to stop, and what to report": (
            "--dry-run", "--max-runtime", "--max-failures", "--allow-failures", "--profile", "--price-per-hour", "--config",
            "--json", "--log-json", "--help",
        ),
    }  # fmt: skip


class _SectionOption(click.Option):
    """An option that knows the section of the help it belongs to."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


def options_of(
    model: type[BaseModel], *, but: Sequence[str] = (), short: Mapping[str, str] | None = None, section: str = "Options"
) -> Callable[[_Command], _Command]:
    """A decorator that adds one option per field of a model, and of each model inside of it.

    The command receives what was given, by the names of the fields; `jobs.config.check` makes the model of it.

    Args:
        but: fields that are no options.
        short: one-letter flags by field, with their dash.
        section: heading in the help; the fields of an inner model stand under its field's description.
    """
    inner = inner_models(model)

    def decorate(command: _Command) -> _Command:
        for name, field in reversed(model.model_fields.items()):
            if name in inner:
                command = options_of(inner[name], section=field.description or name)(command)
            elif name not in but:
                flags = [f"--{name.replace('_', '-')}", *([short[name]] if short and name in short else [])]
                command = click.option(*flags, cls=_SectionOption, section=section, **_settings(field))(command)
        return command

    return decorate


def run_options(command: _Command) -> _Command:
    """The options of RunConfig, the file that may hold them, and the form of the answer."""
    command = options_of(RunConfig, but=("scenes",), short={"model": "-m", "out": "-o"}, section="Scenes and models")(
        command
    )
    command = click.option(
        "--config",
        type=click.Path(path_type=Path),
        help="TOML file with options as keys (underscores for dashes)",
    )(command)
    command = click.option(
        "--json", "as_json", is_flag=True, help="print the result as JSON on stdout, logs on stderr"
    )(command)
    return click.argument("scenes", nargs=-1)(command)


def _settings(field: FieldInfo) -> dict[str, Any]:
    """What click needs to know. Numbers stay numbers; sizes, times and lists are text that the model parses."""
    parsers = [part.func for part in field.metadata if isinstance(part, BeforeValidator)]
    annotation: Any = field.annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    text = with_flags(field.description or "")
    if annotation is bool:
        return {"is_flag": True, "default": None, "help": text}
    if not field.is_required() and field.default not in (None, ()):
        text += f"  [default: {_shown(field.default, parsers)}]"
    if typing.get_origin(annotation) is typing.Literal:
        return {"type": click.Choice(typing.get_args(annotation)), "help": text}
    kind = annotation if annotation in (int, float) and not parsers else str
    return {"type": kind, "multiple": parse_names in parsers, "help": text}


def _shown(default: Any, parsers: Sequence[Any]) -> str:
    if parse_bytes in parsers:
        return f"{default / 2**30:g}GiB"
    if parse_seconds in parsers:
        size, unit = next(
            (size, unit) for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")) if default % size == 0
        )
        return f"{default / size:g}{unit}"
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
