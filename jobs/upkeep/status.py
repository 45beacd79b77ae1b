"""What runs below one OUT have done, read from storage alone: no cluster, no memory of anything."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from earthloom.jobs.records.attempt import REFRESH_S
from earthloom.jobs.records.canonical import read_document
from earthloom.tiling.errors import ConfigError, PublishError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store


def status(out: ObjectRef) -> dict[str, Any]:
    """Every run with its state and scenes.

    Returns:
        `{"out": url, "runs": [{"run_id", "state", "model", "attempts", "started", "updated", "scenes": {id: {...}}}]}`,
        oldest first. States: `committed`, `running`, `interrupted` (its last attempt stopped refreshing), `failed`,
        `stopped`.

    Raises:
        ConfigError: if nothing has ever been run there.
    """
    store = open_store(out)
    attempts: dict[str, list[dict[str, Any]]] = {}
    committed: set[str] = set()
    plans: dict[str, dict[str, Any]] = {}
    for head in store.list("runs"):
        parts = head.key.split("/")
        if len(parts) == 4 and parts[2] == "attempts" and head.key.endswith(".json"):
            attempts.setdefault(parts[1], []).append(_read(store, head.key, ("attempt", "started")))
        elif parts[-1] == "commit.json":
            committed.add(parts[1])
        elif parts[-1] == "plan.json":
            plans[parts[1]] = _read(store, head.key, ("model",))
    if not plans:
        raise ConfigError(f"{out.url}: no run has been started there; is this the `out` of a run?")
    runs = []
    for run_id, plan in plans.items():
        tried = sorted(attempts.get(run_id, []), key=lambda one: int(one["attempt"]))
        last = tried[-1] if tried else {}
        runs.append(
            {
                "run_id": run_id, "model": plan["model"], "state": _state(last, run_id in committed),
                "attempts": len(tried), "started": tried[0]["started"] if tried else None,
                "updated": last.get("updated"), "scenes": last.get("scenes", {}),
                "telemetry": last.get("telemetry", {}),
            }
        )  # fmt: skip
    return {"out": out.url, "runs": sorted(runs, key=lambda run: (run["started"] or "", run["run_id"]))}


def is_living(attempt: Mapping[str, Any], silent_s: float = 6 * REFRESH_S) -> bool:
    """Whether an attempt says that it runs, and has said so within `silent_s`."""
    if attempt.get("state") != "running":
        return False
    return (datetime.now(UTC) - datetime.fromisoformat(attempt["updated"])).total_seconds() < silent_s


def _read(store: Store, key: str, fields: tuple[str, ...]) -> dict[str, Any]:
    document = read_document(store.get(key), key)
    if missing := [name for name in fields if name not in document]:
        raise PublishError(f"{key} is damaged, it lacks {', '.join(missing)}; remove it")
    return document


def _state(last: dict[str, Any], committed: bool) -> str:
    if committed:
        return "committed"
    if last.get("state") != "running":
        return str(last.get("state", "interrupted"))
    return "running" if is_living(last) else "interrupted"
