"""Messages name options as Python does; the command line spells them as its flags."""

from __future__ import annotations

import ast
import logging
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from earthloom.jobs.command import cli
from earthloom.jobs.command.terminal import FlagFormatter, with_flags

ROOT = Path(__file__).parents[3]
_NAMED = re.compile(r"`([a-z][a-z0-9_]*)(?:=[^`]*)?`")
_OTHER_PROGRAM = re.compile(
    r"`ray [^`]*`|python -m infra[^`]*|\bgdal\w+ [^`;]*|\baws configure [^`;)]*|^--[a-z-]+(=\S*)?\Z"
)
"""A flag alone is no message: it is handed to a process of its own."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`core=512` would fit", "--core 512 would fit"),
        ("more than `memory_per_worker` 0.5 GiB", "more than --memory-per-worker 0.5 GiB"),
        ("give `sensor=<preset>`, or `bands=red=<number>,…`", "give --sensor <preset>, or --bands red=<number>,…"),
        ('`arguments={"arch":"unet"}`', """--arguments '{"arch":"unet"}'"""),
        ("run without `compile`", "run without --compile"),
    ],
)
def test_options_are_shown_as_flags(text: str, shown: str) -> None:
    assert with_flags(text) == shown


def test_a_quoted_value_is_one_word_of_a_shell() -> None:
    assert shlex.split(with_flags('`arguments={"arch": "unet"}`')) == ["--arguments", '{"arch": "unet"}']


def test_log_records_are_shown_with_flags() -> None:
    record = logging.LogRecord("x", logging.WARNING, "x.py", 1, "give it more (%s)", ("`memory_per_worker`",), None)
    assert FlagFormatter("%(message)s").format(record) == "give it more (--memory-per-worker)"


def test_logs_tell_time_as_other_lines_do_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "said", None, None)
    record.created, record.msecs = 0.0, 0.0
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        said = FlagFormatter("%(asctime)s %(message)s").format(record)
    time.tzset()
    assert said == "1970-01-01T00:00:00Z said"


def test_every_option_that_a_message_names_is_an_option_of_a_command() -> None:
    options = {"help"} | {
        parameter.name
        for command in _commands(cli)
        for parameter in command.params
        if isinstance(parameter, click.Option)
    }
    named = {(name, path) for path in _modules() for text in _messages(path) for name in _NAMED.findall(text)}
    assert len(named) > 40, "the messages are found"
    assert not {(name, str(path)) for name, path in named if name not in options}


def test_lower_layers_name_no_flag_of_the_command_line() -> None:
    options = {
        flag
        for command in _commands(cli)
        for parameter in command.params
        for flag in parameter.opts
        if flag.startswith("--")
    }
    found = {
        (flag, str(path))
        for path in _modules()
        for text in _messages(path)
        for flag in re.findall(r"--[a-z][a-z-]*", _OTHER_PROGRAM.sub("", text))
        if flag in options
    }
    assert not found


def _commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from _commands(child)


def _modules() -> list[Path]:
    return [
        path
        for folder in ("jobs", "models", "tiling", "cluster")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "command" not in path.parts
    ]


def _messages(path: Path) -> Iterator[str]:
    """Every string of a module but its docstrings; what an f-string fills in is `…`."""
    tree = ast.parse(path.read_text())
    silent = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            silent |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.value


def test_status_shows_causes_of_failure_with_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scenes = {
        "bad": {"status": "failed", "blocks": 1, "blocks_done": 0, "error": "bad: give `sensor=<preset>`"},
        "good": {"status": "done", "blocks": 1, "blocks_done": 1, "error": None},
    }
    run = {
        "run_id": "1",
        "model": "m",
        "state": "failed",
        "attempts": 1,
        "updated": None,
        "scenes": scenes,
        "telemetry": {},
        "clock": None,
    }
    monkeypatch.setattr("earthloom.jobs.upkeep.status.status", lambda out, _: {"out": out.url, "runs": [run]})
    for form in ([], ["--json"]):
        assert "give --sensor <preset>" in CliRunner().invoke(cli, ["status", str(tmp_path), *form]).stdout
