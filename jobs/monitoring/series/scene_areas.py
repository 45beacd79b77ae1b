"""Class areas of committed scenes, each scene once: from the table of a product, without what a later one supersedes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from earthloom.jobs.products.item_table import latest_items
from earthloom.tiling.errors import ConfigError, MissingObjectError
from earthloom.tiling.storage.store import Store
from earthloom.tiling.suggest import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

_NAMED = 10  # scenes in an error
COLUMNS = ("scene", "datetime", "value", "class", "area_m2", "percent", "px", "confidence", "key")


def current_results(store: Store, product: str, scene: str | None = None) -> list[Mapping[str, Any]]:
    """The STAC items of a product's results, one of each scene, in the order of their dates, then scenes.

    Of several results of a scene the one that was committed last counts, as the column `superseded` of the table has it.

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
        items = latest_items(store.get(key))
    except MissingObjectError:
        products = sorted({name for head in store.list("collections") if (name := _product_of(head.key))})
        there = f"; it has {', '.join(products)}" if products else "; it has none: name the OUT of a run"
        raise ConfigError(
            f"{store.ref.url} has no product {product!r}{did_you_mean(product, products)}{there}"
        ) from None
    found = [item for item in items if scene in (None, item["properties"]["earthloom:scene"])]
    if not found:
        scenes = sorted({item["properties"]["earthloom:scene"] for item in items})
        there = f"{', '.join(scenes[:_NAMED])}{' and more' if len(scenes) > _NAMED else ''}"
        near = did_you_mean(scene or "", scenes)
        raise ConfigError(f"{store.ref.url} has no scene {scene!r} of {product}{near}; it has {there}")
    return sorted(
        found, key=lambda item: (item["properties"].get("datetime") or "", item["properties"]["earthloom:scene"])
    )


def _product_of(key: str) -> str:
    """Whose table lies under a key; empty where it is no table."""
    _, _, rest = key.partition("collections/")
    product, _, file = rest.rpartition("/")
    return product if file == "items.parquet" else ""


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
            if "earthloom:objects" in said:
                raise ConfigError(
                    f"{item['id']} holds objects, which have no class areas; its tables (.parquet, .fgb) have the area of each"
                )
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
