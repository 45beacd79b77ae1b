"""Marks vouch for a cube's pixels: a mark per shard and step, written after its objects, and the sum of each step.

`steps/<t>/<row>_<col>.json` and `steps/<t>.json`, below a generation. Both are deterministic. A shard that no scene of
the date reaches has no mark: it is nodata, and counts as such in the sum.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from earthloom.jobs.monitoring.cube.cube import Step
from earthloom.jobs.products.statistics import Counted, add_up
from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.canonical import FORMAT, canonical, of_this_format, read_document
from earthloom.tiling.counting import BandSum, Tally
from earthloom.tiling.errors import PublishError
from earthloom.tiling.storage.store import Store
from earthloom.tiling.writing.zarr_cube import CubeLayout

_AT_ONCE = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardMark:
    """One finished shard of one step."""

    row: int
    col: int
    objects: Mapping[str, StoredObject | None]
    """Objects by layer; None for a layer of which all is nodata."""
    counted: Counted

    def write(self, store: Store, generation: str, step: int) -> None:
        """Vouch for the shard."""
        document = {
            "format": FORMAT,
            "objects": {layer: stored and asdict(stored) for layer, stored in self.objects.items()},
            **counted_json(self.counted),
        }
        store.put(f"{step_prefix(generation, step)}/{self.row}_{self.col}.json", canonical(document))


def step_prefix(generation: str, step: int) -> str:
    """Prefix under which the marks of a step lie; with `.json`, the key of its sum."""
    return f"{generation}/steps/{step}"


def counted_json(counted: Counted) -> dict[str, Any]:
    """Plain values of what was counted."""
    return {
        "tally": counted.tally.to_json() if counted.tally else None,
        "sums": {layer: total.to_json() for layer, total in counted.sums.items()},
    }


def counted_of(document: Mapping[str, Any]) -> Counted:
    """Inverse of `counted_json`.

    Raises:
        PublishError, KeyError, TypeError: if it is damaged.
    """
    return Counted(
        tally=Tally.from_json(document["tally"]) if document["tally"] is not None else None,
        sums={layer: BandSum.from_json(total) for layer, total in document["sums"].items()},
    )


def vouched(store: Store, generation: str, layout: CubeLayout, step: int) -> dict[tuple[int, int], ShardMark]:
    """Every shard of a step that a mark vouches for and storage holds, by (row, col).

    Costs a listing per layer and one of marks, and one GET per mark. A damaged mark costs its shard, which is made again.
    """
    prefix = step_prefix(generation, step)
    keys = [head.key for head in store.list(prefix) if head.key.endswith(".json")]
    if not keys:
        return {}
    sizes = {
        (layer.name, head.key.rpartition(f"/c/{step}/")[2]): head.size
        for layer in layout.layers
        for head in store.list(f"{generation}/cube.zarr/{layer.name}/c/{step}")
    }
    done: dict[tuple[int, int], ShardMark] = {}
    with ThreadPoolExecutor(_AT_ONCE, "marks") as pool:
        for key, data in zip(keys, pool.map(store.get, keys), strict=True):
            if (mark := parse_mark(data, key)) is None:
                continue
            place = f"{mark.row}/{mark.col}"
            held = {layer.name: sizes.get((layer.name, place)) for layer in layout.layers}
            said = {layer: stored.size if stored else None for layer, stored in mark.objects.items()}
            if held == said:
                done[mark.row, mark.col] = mark
            else:
                log.warning("%s vouches for %s bytes and storage holds %s; the shard is made again", key, said, held)
    return done


def parse_mark(data: bytes, key: str) -> ShardMark | None:
    """Read a mark; None if it is damaged.

    Raises:
        PublishError: if it is of another format.
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        log.warning("%s is damaged (%s); its shard is made again", key, error)
        return None
    document = of_this_format(document, key)
    try:
        row, _, col = key.rpartition("/")[2].removesuffix(".json").partition("_")
        objects = {layer: stored and StoredObject.from_dict(stored) for layer, stored in document["objects"].items()}
        return ShardMark(row=int(row), col=int(col), objects=objects, counted=counted_of(document))
    except (KeyError, TypeError, ValueError, AttributeError, PublishError) as error:
        log.warning("%s is damaged (%s: %s); its shard is made again", key, type(error).__name__, error)
        return None


def sum_document(step: Step, total: Counted) -> bytes:
    """`steps/<t>.json`: a step, and what all of its shards hold together."""
    return canonical({"format": FORMAT, **step.to_json(), **counted_json(total)})


def sum_up(
    layout: CubeLayout, marks: Iterable[ShardMark], n_classes: int, empty: Collection[tuple[int, int]]
) -> Counted:
    """Add up the contents of a step.

    Args:
        marks: of every shard that a scene reaches.
        n_classes: 0 for an image.
        empty: the other shards.
    """
    nothing_px = sum(layout.shard_window(row, col).size_px for row, col in empty)
    none = BandSum(valid=0, nodata=nothing_px, minimum=0.0, maximum=0.0, total=0.0, squares=0.0)
    zeros = Tally(pixels=(0,) * n_classes, areas_m2=(0.0,) * n_classes, confidence_sums=(0,) * n_classes,
                  nodata=nothing_px)  # fmt: skip
    names = [layer.name for layer in layout.layers if not (n_classes and layer is layout.layers[0])]
    rest = Counted(tally=zeros if n_classes else None, sums=dict.fromkeys(names, none))
    return add_up([*(mark.counted for mark in marks), rest])


def read_sum(store: Store, cube_prefix: str, step: int) -> Counted:
    """The content of a committed step of a cube over the whole grid: tally of its classes, or sums of its bands.

    Args:
        store: on OUT.
        cube_prefix: of `cube.zarr`.
        step: its position in the cube.

    Raises:
        MissingObjectError: if there is no such step.
        PublishError: if it is damaged.
    """
    key = f"{step_prefix(cube_prefix.rpartition('/')[0], step)}.json"
    document = read_document(store.get(key), f"{store.ref.url}/{key}")
    try:
        return counted_of(document)
    except (KeyError, TypeError, AttributeError) as error:
        raise PublishError(
            f"{store.ref.url}/{key} is damaged ({type(error).__name__}: {error}); remove its folder"
        ) from error
