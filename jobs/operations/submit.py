"""Makes a job of a command: what it needs from this machine goes with it, and its words say where that lies there.

Small files (TOML, GeoJSON, the outline that an AOI file names) travel in the job's folder; weights go to OUT, by sha256,
where the command and its workers find them; the code is a package that the cluster keeps. Pixels travel never. Sends nothing
itself.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earthloom.jobs.config import RunConfig, check, inner_models, load_as
from earthloom.jobs.execution.carrying import carry
from earthloom.jobs.learning.config import load_training
from earthloom.jobs.learning.options import DistilConfig, EvaluateConfig, ExplainConfig
from earthloom.jobs.learning.start import NOTHING
from earthloom.jobs.monitoring.aoi_file import ProductTable, read_area
from earthloom.jobs.monitoring.options import MonitorConfig, run_config
from earthloom.jobs.operations.watched import read_watched
from earthloom.jobs.planning.words import words_of
from earthloom.models.zoo import ZOO, variants
from earthloom.models.zoo.indices import PREFIX as INDEX_PREFIX
from earthloom.tiling.errors import CardError, ConfigError
from earthloom.tiling.storage.objects import ObjectRef

PROGRAM = ("python", "-m", "earthloom")
_GIVEN = "given"
_MODELS_OF_TOML = re.compile(r"""\b(?:model|start)\s*=\s*(?:\[[^]]*\]|"[^"\n]*"|'[^'\n]*')""")
"""Where a TOML file names models: of a run, an area, a watcher, and what a training starts from or is taught by."""
_GEOMETRY_OF_TOML = re.compile(r"""^[ \t]*geometry[ \t]*=[ \t]*(["'])(?P<path>[^\n]*?)\1""", re.MULTILINE)
"""Place in an AOI file that names the GeoJSON of its outline."""
_RUNS: dict[str, type[RunConfig]] = {
    "run": RunConfig, "plan": RunConfig, "evaluate": EvaluateConfig, "explain": ExplainConfig, "distil": DistilConfig
}  # fmt: skip
"""Commands whose options are those of a run and more."""
_CARRIED = (".toml", ".geojson", ".json", ".gpkg", ".parquet", ".csv")
_MOST_BYTES = 4 * 2**20
_OF_THIS_MACHINE = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
                    "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CA_BUNDLE")  # fmt: skip
"""Names whose values are files of this machine, or parts of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A command, ready to be sent."""

    job_id: str
    words: tuple[str, ...]
    """Words of the command line there, the program's name included."""
    env: Mapping[str, str]
    notes: tuple[str, ...]


def models_named(command: str, given: Mapping[str, Any]) -> tuple[tuple[str, ...], str | None]:
    """The models that a command computes with, as it names them, and where it writes.

    Args:
        command: `run`, `monitor` and so on; one that computes with no model names none.
        given: its options by name.

    Raises:
        ConfigError: if an option, or a file that the command reads, is wrong.
        StorageError: if such a file cannot be read.
    """
    if command in _RUNS:
        known = _RUNS[command]
        names = set(known.model_fields).union(*(inner.model_fields for inner in inner_models(known).values()))
        config = load_as(known, {name: value for name, value in given.items() if name in names}, given.get("config"))
        start = (config.start,) if isinstance(config, DistilConfig) else ()
        return (*words_of(config), *_trained(*start)), config.out
    if not all(_is_here(str(file)) for file in (*given.get("files", ()), *filter(None, [given.get("file")]))):
        return (), given.get("out")  # it may be a file of the cluster's own
    if command == "monitor":
        areas = [read_area(file) for file in given["files"]]
        runs = [table for area in areas for table in area.products]
        return tuple(word for table in runs for word in _words_of(table, given["out"])), given["out"]
    if command == "watch":
        watched = read_watched(given["file"], given["out"], {})
        if watched.run:
            return tuple(words_of(watched.run)), watched.out
        products = watched.area.products if watched.area else ()
        return tuple(word for table in products for word in _words_of(table, watched.out)), watched.out
    if command in ("train", "tune"):
        training = load_training(given["file"], out=given["out"])
        teacher = (training.teacher.model,) if training.teacher else ()
        return (*_trained(training.model.start), *teacher), training.out
    return (), given.get("out")


def _is_here(file: str) -> bool:
    ref = ObjectRef.parse(file)
    return ref.scheme != "file" or ref.path.is_file()


def _words_of(table: ProductTable, out: str | None) -> list[str]:
    return words_of(run_config(table, check(MonitorConfig, {"files": ("",), "out": out})))


def _trained(start: str = NOTHING) -> tuple[str, ...]:
    """First weights that are a model's, and no file of somebody else's."""
    return () if start == NOTHING or Path(start).is_file() else (start,)


def pack(
    words: Sequence[str], folder: Path, *, models: Sequence[str] = (), out: str | None = None, credentials: bool = True
) -> Parcel:
    """Put what a command needs into a folder and into OUT, and say how it is called there.

    Args:
        words: words of a command line, without the program's name: `run s3://… --model landwater --out s3://maps`.
        folder: empty; will hold the small files.
        models: those that the command computes with, as it names them.
        out: where it writes, if it does.
        credentials: whether AWS_* variables that are set here go with it.

    Raises:
        ConfigError: if a file that has to go with it is too large.
        CardError: if a model is neither here nor in the cluster's own code.
        StorageError: if OUT cannot be written.
    """
    place = {word: carried for word in models if out and (carried := _carry_model(word, ObjectRef.parse(out)))}
    (folder / _GIVEN).mkdir()
    notes: list[str] = []
    told = tuple(_there(word, folder, place, notes) for word in words)
    env = {name: value for name, value in os.environ.items() if name.startswith("AWS_") and value}
    held_back = sorted(env.keys() & set(_OF_THIS_MACHINE))
    env = {name: value for name, value in env.items() if name not in _OF_THIS_MACHINE} if credentials else {}
    if held_back and credentials:
        notes.append(
            f"{', '.join(held_back)} name files of this machine and were not sent: the nodes use their own credentials, or "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY here"
        )
    if env:
        notes.append(
            f"sent with the job: {', '.join(sorted(env))}; who may open the cluster's dashboard can read them there. Nodes "
            "with a role of their own need none of it (`own_credentials`)"
        )
    return Parcel(job_id=_new_id(words, models), words=(*PROGRAM, *told), env=env, notes=tuple(notes))


def _carry_model(word: str, out: ObjectRef) -> str | None:
    """Put the weights of what one `model` names into OUT; the word to use instead, where it is no name but a folder."""
    if word.startswith(INDEX_PREFIX):
        return None
    if Path(word).is_dir():
        found = _carry_one(word, out)
        return found if found != word else None
    head, only, classes = word.rpartition("@")
    if only and "/" not in classes:  # a mask `name@class`
        found = _carry_one(head, out)
        return f"{found}@{classes}" if found != head else None
    parts = word.split("+")
    there = [_carry_one(part, out) for part in parts]
    return "+".join(there) if there != parts else None


def _carry_one(name: str, out: ObjectRef) -> str:
    try:
        found = variants(name)
    except CardError:
        if name not in ZOO:
            raise
        return name  # not fetched here: the nodes may have it, or the job says what to do
    for card, folder in found:
        if card.weights is None or folder.scheme != "file":
            continue
        target = carry(out, card, folder)
        if name not in ZOO:
            return target.url
    return name


def _there(word: str, folder: Path, place: Mapping[str, str], notes: list[str]) -> str:
    """A word as it must read on the cluster."""
    option, separator, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if value in place:
        return f"{option}{separator}{place[value]}"
    path = Path(value).expanduser()
    try:
        exists = bool(value) and path.exists()
    except OSError:  # longer than a file name can be
        exists = False
    if not exists:
        return word
    if path.is_file() and path.suffix.lower() in _CARRIED:
        sent = _send(path, folder)
        if path.suffix.lower() == ".toml":
            _rename_models(sent, place)
            _send_geometry(sent, path.parent, folder)
        return f"{option}{separator}{_GIVEN}/{sent.name}"
    notes.append(f"{value} is a path of this machine; the nodes look for {path.absolute()} on theirs")
    return f"{option}{separator}{path.absolute()}"


def _send(path: Path, folder: Path) -> Path:
    """Copy a small file into the job's folder, under a name that no other one has there."""
    if path.stat().st_size > _MOST_BYTES:
        raise ConfigError(
            f"{path} has {path.stat().st_size} bytes, more than the {_MOST_BYTES} that travel with a job; put it into "
            "object storage and give its s3:// address"
        )
    given = folder / _GIVEN
    return Path(shutil.copyfile(path, given / f"{len(list(given.iterdir()))}-{path.name}"))


def _send_geometry(sent: Path, beside: Path, folder: Path) -> None:
    """Let the outline that an AOI file names travel with it, and the copy name the copy."""
    text = sent.read_text()
    named = _GEOMETRY_OF_TOML.search(text)
    if not named or "://" in named["path"]:
        return
    outline = beside / Path(named["path"]).expanduser()
    if outline.is_file():
        there = _send(outline, folder).name
        sent.write_text(f"{text[: named.start()]}geometry = {json.dumps(there)}{text[named.end() :]}")


def _rename_models(file: Path, place: Mapping[str, str]) -> None:
    """Let a TOML file name models where they lie now; classes, areas and bands may be called as a folder is."""

    def renamed(named: re.Match[str]) -> str:
        return re.sub(r"""(["'])(.*?)\1""", lambda word: f'"{place.get(word[2], word[2])}"', named[0])

    file.write_text(_MODELS_OF_TOML.sub(renamed, file.read_text()))


def _new_id(words: Sequence[str], models: Sequence[str]) -> str:
    about = re.sub(r"[^A-Za-z0-9]+", "-", "-".join([words[0], *models[-1:]])).strip("-")[:40]
    return f"{about}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
