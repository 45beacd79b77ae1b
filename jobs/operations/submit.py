"""Makes a job of a command: what it needs from this machine goes with it, and its words say where that lies there.

Small files (TOML, GeoJSON) travel in the job's folder; weights go to OUT, by sha256, where the command and its workers
find them; the code is a package that the cluster keeps. Pixels travel never. Sends nothing itself.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from earthloom.jobs.execution.carrying import carry
from earthloom.models.zoo import ZOO, variants
from earthloom.models.zoo.entry import shipped_weights
from earthloom.models.zoo.indices import PREFIX as INDEX_PREFIX
from earthloom.tiling.errors import CardError, ConfigError
from earthloom.tiling.storage.objects import ObjectRef

PROGRAM = ("python", "-m", "earthloom")
_GIVEN = "given"
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
    """Of the command line there, the program's name included."""
    env: Mapping[str, str]
    notes: tuple[str, ...]


def pack(
    words: Sequence[str], folder: Path, *, models: Sequence[str] = (), out: str | None = None, credentials: bool = True
) -> Parcel:
    """Put what a command needs into a folder and into OUT, and say how it is called there.

    Args:
        words: of a command line, without the program's name: `run s3://… --model landwater --out s3://maps`.
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
        if card.weights is None or folder.scheme != "file" or (name in ZOO and shipped_weights(card)):
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
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(
                f"{path} has {path.stat().st_size} bytes, more than the {_MOST_BYTES} that travel with a job; put it into "
                "object storage and give its s3:// address"
            )
        name = f"{_GIVEN}/{len(list((folder / _GIVEN).iterdir()))}-{path.name}"
        shutil.copyfile(path, folder / name)
        return f"{option}{separator}{name}"
    notes.append(f"{value} is a path of this machine; the nodes look for {path.absolute()} on theirs")
    return f"{option}{separator}{path.absolute()}"


def _new_id(words: Sequence[str], models: Sequence[str]) -> str:
    about = re.sub(r"[^A-Za-z0-9]+", "-", "-".join([words[0], *models[-1:]])).strip("-")[:40]
    return f"{about}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
