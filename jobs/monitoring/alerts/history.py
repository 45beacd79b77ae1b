"""The alerts of one rule over one cube: their key, the names of all that is stored of them, and where an update begins.

What is stored after a date is named by that date and a digest of all steps up to it, so a name stands for one content in
whatever order scenes came in: a cube whose past has changed has other names from there on, and finds what it shares with
the old one. Reads and writes nothing.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from earthloom.jobs.monitoring.alerts.components import Shard
from earthloom.jobs.monitoring.alerts.evidence import Evidence
from earthloom.jobs.monitoring.alerts.lives import Naming
from earthloom.jobs.monitoring.alerts.pieces import area_unit_m2
from earthloom.jobs.monitoring.alerts.rule import Rule
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.records.canonical import digest
from earthloom.tiling.errors import PublishError

ALERT_VERSION = 4
"""Raised when the same steps may give other alerts than before."""

CHECKPOINT_STEPS = 32
"""Working state is kept after every so many dates: what an update replays at most when a date comes late."""

EPOCH = datetime.date(1970, 1, 1)
_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSet:
    """The alerts of one rule over one cube.

    Args:
        cube: as it was committed when it was opened.
        prefix: `monitors/<aoi>/<product>/<key>`, below which everything derived from the cube lies.
        product: its name.
        rule: what is looked for.
        evidence: how it is seen.
    """

    cube: Cube
    prefix: str
    product: str
    rule: Rule
    evidence: Evidence

    @property
    def key(self) -> str:
        """Digest of all that can change an alert but the dates. 64 hex digits."""
        grid = self.cube.grid
        return digest(
            {
                "version": ALERT_VERSION, **self._identity(), "transform": list(grid.transform), "width": grid.width,
                "height": grid.height, "shard_px": self.cube.shard_px,
            }
        )  # fmt: skip

    @property
    def aoi(self) -> str:
        """Name of the area."""
        return self.prefix.split("/")[1]

    @property
    def generation(self) -> int:
        """Generation of the cube: it grows when the past of the cube changes.

        Raises:
            PublishError: if the cube does not lie in a generation's folder.
        """
        folder, _, number = self.cube.prefix.rpartition("/")[0].rpartition("/")
        if not (folder.endswith("generations") and number.isdecimal()):
            raise PublishError(
                f"the cube {self.cube.prefix} does not lie in generations/<n>/, so nobody knows how new it is"
            )
        return int(number)

    @property
    def naming(self) -> Naming:
        """The making of ids: areas on pixels of one CRS and size share them, wherever their grids begin."""
        a, _, c, _, e, f = self.cube.grid.transform
        return Naming(identity=self._identity(), row=round(f / e), col=round(c / a))

    @property
    def min_area(self) -> float:
        """Least area with which an alert begins, in units of `pieces.area_unit_m2`."""
        return self.rule.min_area_m2 / area_unit_m2(self.cube.grid)

    def day(self, step: int) -> int:
        """A date in days since 1970-01-01."""
        return (self.cube.steps[step].date - EPOCH).days

    def places(self) -> Places:
        """The places of all that is kept."""
        key, names = self.key, list[str]()
        before = key
        for step in self.cube.steps:
            before = digest({"before": before, "step": step.to_json()})
            names.append(f"{step.date.isoformat()}-{before[:_DIGITS]}")
        return Places(
            folder=f"{self.prefix}/alerts/{self.rule.name}-{key[:_DIGITS]}",
            generation=self.generation,
            names=tuple(names),
        )

    def _identity(self) -> dict[str, object]:
        a, _, _, _, e, _ = self.cube.grid.transform
        return {
            "product": self.product, "rule": dict(self.rule.identity()), "evidence": dict(self.evidence.identity()),
            "crs": self.cube.grid.crs, "pixel": [a, e],
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Keys below OUT of all that is stored of a set of alerts; n counts dates from 1, and 0 is before the first."""

    folder: str
    generation: int
    names: tuple[str, ...]
    """`<date>-<digest of the steps up to it>` for each date of the cube."""

    @property
    def head(self) -> str:
        return f"{self.folder}/head.json"

    def state(self, n: int, name: str) -> str:
        """Working state after the first n dates."""
        return f"{self.folder}/state/{self.names[n - 1]}/{name}"

    def pixels(self, n: int, shard: Shard) -> str:
        """A shard's pixels after the first n dates."""
        return self.state(n, f"{shard[0]}_{shard[1]}.pixels")

    def pieces(self, n: int, shard: Shard) -> str:
        """A shard's pieces after the first n dates."""
        return self.state(n, f"{shard[0]}_{shard[1]}.pieces")

    def need(self, n: int, shard: Shard) -> str:
        """A sentence for a shard whose pieces take more memory than was planned: what they need up to the n-th date."""
        return self.state(n, f"{shard[0]}_{shard[1]}.need")

    def ledger(self, n: int) -> str:
        """The ledger after the first n dates."""
        return self.state(n, "ledger")

    def update(self, n: int) -> str:
        """The partition of the n-th date."""
        return f"{self.folder}/updates/{self.generation}/{self.names[n - 1]}.parquet"

    @property
    def view(self) -> str:
        """Folder of the alerts as they are after the last date."""
        return f"{self.folder}/views/{self.names[-1]}"


def is_kept(n: int, total: int) -> bool:
    """True if pixels and ledger are stored after the first n dates, when `total` are taken into account."""
    return n == total or n % CHECKPOINT_STEPS == 0


def base_of(places: Places, shards: Iterable[Shard], present: Collection[str]) -> int:
    """The number of dates that are done for good: the state after them is there, and so are the partitions up to them.

    Args:
        present: keys of everything below the folder.
    """
    known = {key.rpartition("/")[2] for key in present if key.startswith(f"{places.folder}/updates/")}
    whole = next((n for n, name in enumerate(places.names) if f"{name}.parquet" not in known), len(places.names))
    every = tuple(shards)
    for n in range(whole, 0, -1):
        if places.ledger(n) in present and all(places.pixels(n, shard) in present for shard in every):
            return n
    return 0


def start_of(places: Places, shard: Shard, base: int, present: Collection[str]) -> int:
    """After how many dates a shard has to go on: its pixels after them are there, and its pieces since the base.

    That is all of the cube's dates where the shard is done.
    """
    n, start = base, base
    while n < len(places.names) and places.pieces(n + 1, shard) in present:
        n += 1
        if places.pixels(n, shard) in present:
            start = n
    return start
