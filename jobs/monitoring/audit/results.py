"""Checks of results that are derived from a cube and published: composites, changes, trends; and of the series."""

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


def check_results(findings: Findings) -> None:
    """Every committed result against its `result.json`, and every head against what it leads to."""
    committed = {
        key.removesuffix(f"/{RESULT}")
        for key in findings.sizes
        if key.endswith(f"/{RESULT}") and key.removeprefix(f"{findings.base}/").split("/")[0] in _KINDS
    }
    for prefix in sorted(committed):
        _check_result(findings, prefix)
    for key in sorted(findings.sizes):
        if key.endswith("/head.json") and key.removeprefix(f"{findings.base}/").split("/")[0] in _KINDS:
            _check_head(findings, key, committed)
    _check_series(findings)


def _check_result(findings: Findings, prefix: str) -> None:
    remedy = f"Remove {prefix} and run `earthloom monitor` again, or the command that made it"
    try:
        files = _stored(read_document(findings.store.get(f"{prefix}/{RESULT}"), RESULT)["files"])
    except (EarthloomError, KeyError, TypeError, ValueError, AttributeError) as error:
        findings.wrong(f"{prefix}/{RESULT}", f"cannot be read ({error}), so nothing vouches for this result. {remedy}")
        return
    findings.check({f"{prefix}/{name}": stored for name, stored in files.items()}, remedy)
    for key in sorted(findings.sizes):
        name = key.removeprefix(f"{prefix}/")
        if name != key and name not in files and name != RESULT and not name.startswith(_WORK):
            findings.wrong(key, f"is not listed in {RESULT}; readers may take it for part of the result. Remove {key}")


def _check_head(findings: Findings, key: str, committed: set[str]) -> None:
    try:
        prefixes = list(named_results(read_document(findings.store.get(key), key)))
    except (EarthloomError, KeyError, TypeError, ValueError, AttributeError) as error:
        findings.wrong(key, f"cannot be read ({error}). Remove {key} and run `earthloom monitor` again")
        return
    for prefix in prefixes:
        if prefix not in committed and findings.store.head(f"{prefix}/{RESULT}") is None:
            findings.wrong(key, f"leads to {prefix}, which is not committed. Run `earthloom monitor` again")


def named_results(head: dict[str, Any]) -> Iterator[str]:
    """Prefixes of the results that a `head.json` of composites, changes or a trend leads to."""
    if "prefix" in head:
        yield str(head["prefix"])
    for entry in (head.get("periods") or head.get("changes") or {}).values():
        yield str(entry["prefix"])


def _check_series(findings: Findings) -> None:
    key = f"{findings.base}/{SERIES}.json"
    if key not in findings.sizes:
        return
    remedy = f"Remove {key} and run `earthloom monitor` again"
    try:
        files = _stored(read_document(findings.store.get(key), key)["files"])
    except (EarthloomError, KeyError, TypeError, ValueError, AttributeError) as error:
        findings.wrong(key, f"cannot be read ({error}). {remedy}")
        return
    findings.check({f"{findings.base}/{SERIES}.{kind}": stored for kind, stored in files.items()}, remedy)


def _stored(files: dict[str, Any]) -> dict[str, StoredObject]:
    return {name: StoredObject.from_dict(entry) for name, entry in files.items()}
