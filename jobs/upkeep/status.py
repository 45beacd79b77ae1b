"""What runs below one OUT have done, read from storage alone: no cluster, no memory of anything."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from earthloom.jobs.records.attempt import REFRESH_S, is_recent
from earthloom.jobs.records.canonical import read_document
from earthloom.tiling.errors import ConfigError, MissingObjectError, PublishError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store

_ODD_S = 300.0
"""Difference of a host's clock from the store's that needs no word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmapped:
    """A scene that the latest run which asked for it did not publish."""

    scene: str
    product: str
    run_id: str
    status: str
    """`refused`, `failed` or `unfinished`."""
    kind: str | None
    error: str | None
    known: bool
    """Whether an earlier run had named it already, with the same bytes and reason."""
    when: str
    """When that run was last heard of, RFC 3339 in UTC."""


def status(out: ObjectRef, since_s: float | None = None) -> dict[str, Any]:
    """Every run with its state and scenes.

    Args:
        since_s: only runs that were heard of within this time; None for all.

    Returns:
        `{"out": url, "runs": [{"run_id", "state", "model", "attempts", "started", "updated", "clock", "scenes": {id: {…}}}]}`,
        oldest first. `clock` says of a host at work how wrong its clock is, or is None. States: `committed`, `running`,
        `interrupted` (its last attempt stopped refreshing), `failed`, `stopped`.

    Raises:
        ConfigError: if nothing has ever been run there.
    """
    store = open_store(out)
    attempts: dict[str, list[tuple[dict[str, Any], float]]] = {}
    committed: set[str] = set()
    plans: dict[str, dict[str, Any]] = {}
    for head in store.list("runs"):
        parts = head.key.split("/")
        with suppress(MissingObjectError):  # `earthloom gc` has removed it since it was listed
            if len(parts) == 4 and parts[2] == "attempts" and head.key.endswith(".json"):
                attempts.setdefault(parts[1], []).append(
                    (_read(store, head.key, ("attempt", "started")), head.modified_s)
                )
            elif parts[-1] == "commit.json":
                committed.add(parts[1])
            elif parts[-1] == "plan.json":
                plans[parts[1]] = _read(store, head.key, ("model",))
    if not plans:
        raise ConfigError(f"{out.url}: no run has been started there; is this the `out` of a run?")
    runs = []
    first = datetime.now(UTC) - timedelta(seconds=since_s) if since_s is not None else None
    for run_id, plan in plans.items():
        tried = sorted(attempts.get(run_id, []), key=lambda record: int(record[0]["attempt"]))
        last, modified_s = tried[-1] if tried else ({}, 0.0)
        if first and not (last.get("updated") and datetime.fromisoformat(last["updated"]) >= first):
            continue
        runs.append(
            {
                "run_id": run_id, "model": plan["model"], "state": _state(last, modified_s, run_id in committed),
                "attempts": len(tried), "started": tried[0][0]["started"] if tried else None,
                "updated": last.get("updated"), "scenes": last.get("scenes", {}),
                "telemetry": last.get("telemetry", {}), "clock": _clock(last, modified_s),
            }
        )  # fmt: skip
    return {"out": out.url, "runs": sorted(runs, key=lambda run: (run["started"] or "", run["run_id"]))}


def unmapped(found: Mapping[str, Any]) -> list[Unmapped]:
    """Scenes without a result, by what the latest run says that asked for them; those of runs at work are not among them.

    Args:
        found: what `status` returned.
    """
    latest: dict[tuple[str, str], Unmapped | None] = {}
    for run in sorted(found["runs"], key=lambda run: str(run["updated"])):
        if run["state"] == "running":
            continue
        for name, scene in run["scenes"].items():
            bad = scene["status"] not in ("published", "already published", "corrected")
            latest[run["model"], name] = Unmapped(
                scene=name, product=run["model"], run_id=run["run_id"], status=_ended(scene["status"]),
                kind=scene.get("kind"), error=scene.get("error"), known=bool(scene.get("known")), when=run["updated"],
            ) if bad else None  # fmt: skip
    return [scene for scene in latest.values() if scene]


def _ended(state: str) -> str:
    return "unfinished" if state in ("waiting", "running") else state  # of a run that was interrupted


def is_living(
    attempt: Mapping[str, Any], modified_s: float, silent_s: float = 6 * REFRESH_S, now_s: float | None = None
) -> bool:
    """Whether an attempt says that it runs, and has said so within `silent_s`, by its host's clock or by the store's.

    Args:
        modified_s: when its record was last written, by the store's clock.
        now_s: POSIX time; default: by this machine's clock.
    """
    return attempt.get("state") == "running" and is_recent(attempt["updated"], modified_s, silent_s, now_s)


def _read(store: Store, key: str, fields: tuple[str, ...]) -> dict[str, Any]:
    document = read_document(store.get(key), key)
    if missing := [name for name in fields if name not in document]:
        raise PublishError(f"{key} is damaged, it lacks {', '.join(missing)}; remove it")
    return document


def _state(last: dict[str, Any], modified_s: float, committed: bool) -> str:
    if committed:
        return "committed"
    if last.get("state") != "running":
        return str(last.get("state", "interrupted"))
    return "running" if is_living(last, modified_s) else "interrupted"


def _clock(last: dict[str, Any], modified_s: float) -> str | None:
    """What is odd about the clock of a host at work, whose record is stamped by it and by the store."""
    if not last or not is_living(last, modified_s):
        return None
    ahead_s = datetime.fromisoformat(last["updated"]).timestamp() - modified_s
    if abs(ahead_s) < _ODD_S:
        return None
    way = "ahead of" if ahead_s > 0 else "behind"
    return (
        f"the clock of {last.get('host')} is {abs(ahead_s) / 60:.0f} min {way} the storage's: one of the two is wrong; set it "
        "by a time server"
    )
