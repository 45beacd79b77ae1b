"""JSON with one spelling, its digest, and reading a document of this format. The ground that all records stand on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from earthloom.tiling.errors import PublishError

FORMAT = 1
"""Version of the documents below `scenes/` and `runs/`; readers refuse one that they do not know."""


def canonical(value: Any) -> bytes:
    """JSON with one spelling per value. Floats are written by repr; NaN (a legal nodata) as `NaN`."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def digest(value: Any) -> str:
    """sha256 of the canonical JSON, hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def digest_of_parts(parts: Iterable[bytes]) -> str:
    """sha256 of bytes that come in pieces, hex."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def read_document(data: bytes, where: str) -> dict[str, Any]:
    """A JSON document of our own, refused when its version is unknown."""
    try:
        return of_this_format(json.loads(data), where)
    except ValueError as error:
        raise PublishError(f"{where} is not JSON ({error}); it was not written by Earthloom, or is damaged") from error


def of_this_format(document: Any, where: str) -> dict[str, Any]:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise PublishError(f"{where} has format {found!r}, this version reads {FORMAT}; use the version that wrote it")
    return document
