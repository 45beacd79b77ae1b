"""What is derived from a cube and published as a result of its own: composites, changes, trends; and the series."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from earthloom.jobs.monitoring.audit.findings import Findings
from earthloom.jobs.monitoring.series.stage import SERIES
from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.canonical import read_document
from earthloom.jobs.records.names import RESULT
from earthloom.tiling.errors import EarthloomError

_KINDS = ("composites", "change", "trends")
_WORK = ("blocks/", "parts/")
"""Folders of what workers leave, which no reader follows."""


def check_results(found: Findings) -> None:
    """Every committed result against its `result.json`, and every head against what it leads to."""
    committed = {
        key.removesuffix(f"/{RESULT}")
        for key in found.sizes
        if key.endswith(f"/{RESULT}") and key.removeprefix(f"{found.base}/").split("/")[0] in _KINDS
    }
    for prefix in sorted(committed):
        _check_result(found, prefix)
    for key in sorted(found.sizes):
        if key.endswith("/head.json") and key.removeprefix(f"{found.base}/").split("/")[0] in _KINDS:
            _check_head(found, key, committed)
    _check_series(found)


def _check_result(found: Findings, prefix: str) -> None:
    remedy = f"Remove {prefix} and run `earthloom monitor` again, or the command that made it"
    try:
        files = _stored(read_document(found.store.get(f"{prefix}/{RESULT}"), RESULT)["files"])
    except (EarthloomError, KeyError, TypeError, ValueError, AttributeError) as error:
        found.wrong(f"{prefix}/{RESULT}", f"cannot be read ({error}), so nothing vouches for this result. {remedy}")
        return
    found.check({f"{prefix}/{name}": stored for name, stored in files.items()}, remedy)
    for key in sorted(found.sizes):
        name = key.removeprefix(f"{prefix}/")
        if name != key and name not in files and name != RESULT and not name.startswith(_WORK):
            found.wrong(key, f"is not listed in {RESULT}; readers may take it for part of the result. Remove {key}")


def _check_head(found: Findings, key: str, committed: set[str]) -> None:
    try:
        prefixes = list(named_results(read_document(found.store.get(key), key)))
    except (EarthloomError, KeyError, TypeError, ValueError, AttributeError) as error:
        found.wrong(key, f"cannot be read ({error}). Remove {key} and run `earthloom monitor` again")
        return
    for prefix in prefixes:
        if prefix not in committed and found.store.head(f"{prefix}/{RESULT}") is None:
            found.wrong(key, f"leads to {prefix}, which is not committed. Run `earthloom monitor` again")


def named_results(head: dict[str, Any]) -> Iterator[str]:
    """Prefixes of the results that a `head.json` of composites, changes or a trend leads to."""
    if "prefix" in head:
        yield str(head["prefix"])
    for entry in (head.get("periods") or head.get("changes") or {}).values():
        yield str(entry["prefix"])


def _check_series(found: Findings) -> None:
    key = f"{found.base}/{SERIES}.json"
    if key not in found.sizes:
        return
    remedy = f"Remove {key} and run `earthloom monitor` again"
    try:
        files = _stored(read_document(found.store.get(key), key)["files"])
    except (EarthloomError, KeyError, TypeError, ValueError, AttributeError) as error:
        found.wrong(key, f"cannot be read ({error}). {remedy}")
        return
    found.check({f"{found.base}/{SERIES}.{kind}": stored for kind, stored in files.items()}, remedy)


def _stored(files: dict[str, Any]) -> dict[str, StoredObject]:
    return {name: StoredObject.from_dict(entry) for name, entry in files.items()}
