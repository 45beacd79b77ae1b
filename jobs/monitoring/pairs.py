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

from collections.abc import Mapping, Sequence

from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.intake.earlier import NoEarlierSceneError
from earthloom.jobs.monitoring.aoi_file import BeforeTable
from earthloom.jobs.monitoring.composites.rules import parse_rule
from earthloom.jobs.monitoring.composites.stage import read_composites
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.records.names import ITEM
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.store import Store

_DONE = ("published", "already published", "corrected")
_NAMED = 5


def earlier_items(store: Store, table: BeforeTable, cubes: Mapping[str, tuple[str, Cube]]) -> tuple[str, ...]:
    """References of the composites that scenes may be compared with, in order of time; none if there is none yet.

    Args:
        store: on OUT.
        cubes: `monitors/<aoi>/<product>/<key>` and the cube of each product of the area that has one.

    Raises:
        ConfigError: if the area has no such product, or a period of its cube has no composite of the scenes that it has
            now: scenes would be compared with an outdated one, or with that of a period further back.
    """
    if table.product not in cubes:
        known = ", ".join(sorted(cubes)) or "no other product yet"
        raise ConfigError(f"before: the area has no cube of {table.product!r}; it has {known}")
    base, cube = cubes[table.product]
    found = read_composites(store, base, cube, parse_rule(table.rule), table.every)
    if found is None:
        return ()
    if found.behind:
        raise ConfigError(
            f"before: {_some(found.behind)}: {table.product} has no composite ({table.rule}, {table.every}) of the scenes "
            f'that its cube has now; `composites = [{{ every = "{table.every}", rule = "{table.rule}" }}]` of that product '
            "makes them"
        )
    return tuple(f"{store.ref.url.rstrip('/')}/{entry['prefix']}/{ITEM}" for entry in found.current.values())


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def without_earlier(run: RunResult) -> list[str]:
    """Scenes that lie before the end of the first composite: there is nothing to compare them with, which is no failure."""
    return sorted(name for name, scene in run.scenes.items() if scene.kind == NoEarlierSceneError.__name__)


def has_failures(run: RunResult) -> bool:
    """True if a scene that could have been mapped was not."""
    excused = without_earlier(run)
    return bool(run.stopped) or any(
        scene.status not in _DONE and not (scene.known and run.allows_known)
        for name, scene in run.scenes.items() if name not in excused
    )  # fmt: skip


def describe_without(names: list[str], table: BeforeTable) -> str:
    """A sentence for people on the scenes that `without_earlier` names."""
    return (
        f"{_some(names)}: no composite of {table.product} ({table.rule}, {table.every}) ends before, so "
        "there is nothing to compare with"
    )
