"""Learned change over time: each scene of a product is compared with the composite of the period before it.

```toml
[[product]]
model = "bands"                          # the imagery itself; its composites are the earlier sides
scenes = ["s3://bucket/prefix/"]
composites = [{ every = "year", rule = "best" }]

[[product]]
model = "flood"
scenes = ["s3://bucket/prefix/"]
before = { product = "bands", every = "year", rule = "best" }
```

A composite is an ordinary earlier scene, by its STAC item: the pair's key holds the digest of its file, and the pair's item
names it. When a composite changes, what was compared with it is mapped again, under another key.
"""

from __future__ import annotations

from collections.abc import Mapping

from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.intake.earlier import NoEarlierSceneError
from earthloom.jobs.monitoring.before_table import BeforeTable
from earthloom.jobs.monitoring.composites.composite import shelf
from earthloom.jobs.monitoring.composites.rules import parse_rule
from earthloom.jobs.monitoring.composites.stage import read_head
from earthloom.jobs.records.names import ITEM
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.store import Store

_DONE = ("published", "already published", "corrected")
_NAMED = 5


def earlier_items(store: Store, table: BeforeTable, bases: Mapping[str, str]) -> tuple[str, ...]:
    """References of the composites that scenes may be compared with, in order of time; none if there is none yet.

    Args:
        store: on OUT.
        bases: `monitors/<aoi>/<product>/<key>` of each product of the area whose cube there is.

    Raises:
        ConfigError: if the area has no such product.
    """
    if (base := bases.get(table.product)) is None:
        known = ", ".join(sorted(bases)) or "no other product yet"
        raise ConfigError(f"before: the area has no cube of {table.product!r}; it has {known}")
    head = read_head(store, shelf(base, parse_rule(table.rule), table.every))
    periods = sorted((head or {}).get("periods", {}).values(), key=lambda entry: str(entry["start"]))
    return tuple(f"{store.ref.url.rstrip('/')}/{entry['prefix']}/{ITEM}" for entry in periods)


def without_earlier(run: RunResult) -> list[str]:
    """Scenes that lie before the end of the first composite: there is nothing to compare them with, which is no failure."""
    return sorted(name for name, scene in run.scenes.items() if scene.kind == NoEarlierSceneError.__name__)


def has_failures(run: RunResult) -> bool:
    """Whether a scene that could have been mapped was not."""
    excused = without_earlier(run)
    return bool(run.stopped) or any(
        scene.status not in _DONE and not (scene.known and run.allows_known)
        for name, scene in run.scenes.items() if name not in excused
    )  # fmt: skip


def describe_without(names: list[str], table: BeforeTable) -> str:
    """The same for people."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"{', '.join(names[:_NAMED])}{more}: no composite of {table.product} ({table.rule}, {table.every}) ends before, so "
        "there is nothing to compare with"
    )
