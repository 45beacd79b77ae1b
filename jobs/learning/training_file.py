"""Reading and writing of training files: makes their local paths absolute, and writes plain values as TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_BAND = re.compile(r"[A-Za-z][A-Za-z0-9_]*=(?!=)\s*")
"""The name of a band before its file, as `jobs.intake.references` has it."""


def relative_to(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The values of a file with its local paths made absolute."""

    def placed(table: Any, *keys: str, place: Callable[[Path, str], str] = _placed) -> Any:
        if not isinstance(table, dict):
            return table
        return table | {key: place(folder, table[key]) for key in keys if isinstance(table.get(key), str)}

    values = placed(values, "out")
    if isinstance(values.get("scenes"), list):
        values["scenes"] = [
            placed(placed(table, "labels"), "scene", "before", place=_placed_scene) for table in values["scenes"]
        ]
    if isinstance(values.get("folders"), list):
        values["folders"] = [placed(table, "folder") for table in values["folders"]]
    if "split" in values:
        values["split"] = placed(values["split"], "regions")
    if isinstance(values.get("model"), dict) and "/" in str(values["model"].get("start", "")):
        values["model"] = placed(values["model"], "start")
    if isinstance(values.get("teacher"), dict) and "/" in str(values["teacher"].get("model", "")):
        values["teacher"] = placed(values["teacher"], "model")
    return values


def to_toml(values: Mapping[str, Any]) -> str:
    """Plain values as a file that `load_training` reads back: single values first, then tables, none with None in it."""

    def inline(value: Any) -> str:
        if isinstance(value, Mapping):
            return "{ " + ", ".join(f"{_key(name)} = {inline(each)}" for name, each in value.items()) + " }"
        if isinstance(value, list | tuple):
            return "[" + ", ".join(inline(each) for each in value) + "]"
        return json.dumps(value, ensure_ascii=False)  # JSON's texts, numbers and truths are TOML's too

    given = {name: value for name, value in values.items() if value is not None}
    tables = {name: value for name, value in given.items() if isinstance(value, Mapping)}
    lines = [f"{_key(name)} = {inline(value)}" for name, value in given.items() if name not in tables]
    for name, table in tables.items():
        lines += ["", f"[{_key(name)}]"]
        lines += [f"{_key(inner)} = {inline(value)}" for inner, value in table.items() if value is not None]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _placed(folder: Path, text: str) -> str:
    """A local path below a folder; a reference of another kind stays as it is."""
    return text if "://" in text or text.startswith(("/", "~")) else str(folder / text)


def _placed_scene(folder: Path, text: str) -> str:
    """The same of a scene, which may be several files, with the names of their bands as in `red=B04.tif,nir=B08.tif`."""
    if "://" in text or _is_there(folder / text):
        return _placed(folder, text)
    return ",".join(_placed_file(folder, piece.strip()) for piece in text.split(","))


def _placed_file(folder: Path, text: str) -> str:
    band = _BAND.match(text)
    if band is None or _is_there(folder / text.partition("/")[0]):  # a folder may be called year=2020
        return _placed(folder, text)
    return f"{band[0]}{_placed(folder, text[band.end() :])}"


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long a name for a file
        return False
