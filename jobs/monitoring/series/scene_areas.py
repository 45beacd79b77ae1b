"""Class areas of committed scenes, each scene once: from the table of a product, without what a newer result supersedes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from earthloom.jobs.products.stac_collection import read_items
from earthloom.jobs.records.names import RESULT
from earthloom.jobs.records.result import SceneResult
from earthloom.jobs.upkeep.gc import made_of
from earthloom.tiling.errors import ConfigError, MissingObjectError
from earthloom.tiling.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("scene", "datetime", "value", "class", "area_m2", "percent", "px", "confidence", "key")


def current_results(store: Store, product: str, scene: str | None = None) -> list[Mapping[str, Any]]:
    """The STAC items of a product's results, in the order of their dates, then scenes.

    Of several results of the same files, on the same grid, by the same models and options, the one that was committed last
    counts: the others are superseded. Results that differ in any of these are all there.

    Args:
        store: on OUT.
        product: as `collections/` has it.
        scene: id of the scene; None for all.

    Raises:
        ConfigError: if there is no such product or scene.
        PublishError: if the table cannot be read.
    """
    key = f"collections/{product}/items.parquet"
    try:
        items = read_items(store.get(key))
    except MissingObjectError:
        raise ConfigError(f"{store.ref.url} has no product {product!r}: there is no {key}") from None
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for item in items:
        if scene in (None, item["properties"]["earthloom:scene"]):
            groups.setdefault((item["properties"]["earthloom:scene"], made_of(item)), []).append(item)
    if not groups:
        raise ConfigError(f"{store.ref.url} has no scene {scene!r} of {product}")
    found = [
        group[0] if len(group) == 1 else max(group, key=lambda item: _committed_s(store, item))
        for group in groups.values()
    ]

    def order(item: Mapping[str, Any]) -> tuple[str, str, str]:
        said = item["properties"]
        return said.get("datetime") or "", said["earthloom:scene"], said["earthloom:key"]

    return sorted(found, key=order)


def _committed_s(store: Store, item: Mapping[str, Any]) -> float:
    said = item["properties"]
    key = f"scenes/{said['earthloom:scene']}/{said['earthloom:key']}/{RESULT}"
    if (head := store.head(key)) is None:
        return -math.inf
    return SceneResult.from_json(store.get(key), key).committed_s or head.modified_s


def scene_areas(items: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per class of each result, with the columns of `COLUMNS`; `datetime` is text in UTC, empty where unknown.

    Raises:
        ConfigError: if they are images.
    """
    import pandas as pd

    rows = []
    for item in items:
        said = item["properties"]
        if "earthloom:class_areas" not in said:
            raise ConfigError(f"{item['id']} is an image and has no classes")
        for area in said["earthloom:class_areas"]:
            rows.append(
                (
                    said["earthloom:scene"], said.get("datetime") or "", int(area["value"]), area["name"],
                    area["area_m2"], area["percent"], int(area["pixels"]), area.get("mean_confidence"),
                    said["earthloom:key"],
                )
            )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"confidence": "float64"})
