"""Command-line options made from a pydantic model: the model is the single list of names, types and help texts."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

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
