"""Questions of analysts to monitored areas and committed maps: changes, areas of classes in zones, areas of scenes.

Each answer is a value; the command prints it. A change is published below OUT, the others write nothing.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from earthloom.jobs.config import EngineOptions
from earthloom.jobs.monitoring.change.map import TRANSITIONS
from earthloom.jobs.monitoring.change.stage import make_change
from earthloom.jobs.monitoring.change.tasks import plan_change
from earthloom.jobs.monitoring.composites.maps import ClassMap, map_of_result, map_of_step
from earthloom.jobs.monitoring.cube.dataset import finished_cube
from earthloom.jobs.monitoring.pool import Pool
from earthloom.jobs.monitoring.series.scene_areas import current_results, scene_areas
from earthloom.jobs.monitoring.series.series import series_table
from earthloom.jobs.monitoring.series.stage import read_steps
from earthloom.jobs.monitoring.series.zonal import read_zones, zonal
from earthloom.jobs.products.stac_item import OPEN_INTERVAL, interval_of
from earthloom.jobs.publish.files import committed_document
from earthloom.jobs.records.canonical import read_document
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.probe import probe_conditional_writes
from earthloom.tiling.storage.store import Store, open_store

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd


_NO_SCENE = "`scene` goes with scenes and not with `aoi`, whose dates may be of several scenes"


class ChangeConfig(BaseModel):
    """The request of `earthloom change`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: str
    product: Annotated[
        str, Field(description="name of the product, as in OUT/collections: landwater, cloudmask-landwater")
    ]
    aoi: Annotated[str, Field(description="name of a monitored area")]
    before: str
    after: str
    min_area_m2: Annotated[
        float | None,
        Field(ge=0, allow_inf_nan=False, description="area of the smallest polygon, in m²; default: nine pixels"),
    ] = None
    key: Annotated[
        str | None, Field(description="key of the cube; default: the cube that the AOI file requested last")
    ] = None
    engine: Annotated[EngineOptions, Field(description="Where to compute")] = EngineOptions(executor="local")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeResult:
    """A published change."""

    out: str
    prefix: str
    """Prefix below OUT."""
    note: str
    """The maps that were taken for the two sides, in words."""
    document: Mapping[str, Any]
    """`transitions.json`."""
    files: tuple[str, ...]
    """Files below the prefix, without shards."""


def change(config: ChangeConfig, on_task: Callable[[int, int], None] = lambda _done, _all: None) -> ChangeResult:
    """Compare two dates or periods of a monitored product, and publish the result unless it is there already.

    Args:
        on_task: called with the tasks that are done, and all of this round.

    Raises:
        ConfigError: if there is no such area, product, date or period, or two that cannot be compared.
        StorageError: if OUT cannot be read or written.
    """
    out = ObjectRef.parse(config.out)
    store = open_store(out)
    base, cube = finished_cube(store, config.product, config.aoi, config.key)
    comparison, note = make_change(
        store, base, cube, config.before, config.after, aoi=config.aoi, product=config.product,
        least_m2=config.min_area_m2,
    )  # fmt: skip
    with Pool(config.engine, out) as pool:
        if tasks := plan_change(store, comparison):
            probe_conditional_writes(store)
        while tasks:
            pool.complete(tasks, on_task)
            tasks = plan_change(store, comparison)
    key = f"{comparison.prefix}/{TRANSITIONS}"
    document = committed_document(store, comparison.prefix)
    assert document is not None, "nothing was left to do"
    files = tuple(name for name in document["files"] if "/" not in name)
    return ChangeResult(
        out=out.url, prefix=comparison.prefix, note=note, document=read_document(store.get(key), key), files=files
    )


def zones_of(
    polygons: str | gpd.GeoDataFrame, out: str, product: str, *, aoi: str | None = None, name: str | None = None,
    since: datetime.date | None = None, until: datetime.date | None = None, scene: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Areas of classes in polygons, on every date of a monitored area, or in every committed scene.

    Args:
        polygons: a file of polygons that GDAL or GeoPandas reads, or a table of them, in any CRS.
        out: folder or `s3://` prefix of all outputs.
        name: column of the polygons that names them.
        product, aoi, since, until, scene: see `chosen_maps`.

    Returns:
        `jobs.monitoring.series.zonal.zonal`: a row for each class, polygon and date.

    Raises:
        ConfigError: if polygons, area or product are not there or not usable, or no date is left.
        StorageError: if something cannot be read.
    """
    store = open_store(ObjectRef.parse(out))
    zones = read_zones(polygons) if isinstance(polygons, str) else polygons
    return zonal(store, chosen_maps(store, product, aoi=aoi, scene=scene, since=since, until=until), zones, name)


def chosen_maps(
    store: Store, product: str, *, aoi: str | None = None, scene: str | None = None, since: datetime.date | None = None,
    until: datetime.date | None = None,
) -> list[ClassMap]:  # fmt: skip
    """The class maps that an analyst means: the dates of an area's cube, or the latest result of each scene.

    Args:
        store: on OUT.
        product: as `collections/` has it.
        aoi: name of a monitored area; None: committed scenes, each on its own grid.
        scene: id of one scene, where `aoi` is None.
        since, until: first and last day; scenes of unknown date are left out where one is given.

    Raises:
        ConfigError: if there is no such area, product or scene, it holds images, or no date is left.
        StorageError: if something cannot be read.
    """
    if aoi is not None:
        if scene is not None:
            raise ConfigError(_NO_SCENE)
        _, cube = finished_cube(store, product, aoi, None)
        maps = [map_of_step(cube, n) for n, step in enumerate(cube.steps) if _within(step.date, since, until)]
    else:
        items = [item for item in current_results(store, product, scene) if _within(_day_of(item), since, until)]
        maps = [_map_of_scene(store, item) for item in items]
    if not maps:
        raise ConfigError(f"no {'date' if aoi else 'scene'} of {product} lies between {since} and {until}")
    return maps


def areas_of(out: str, product: str, *, aoi: str | None = None, scene: str | None = None) -> pd.DataFrame:
    """Areas of classes: on every date of a monitored area, or of every committed scene.

    Args:
        out: folder or `s3://` prefix of all outputs.
        product: as `collections/` has it.
        aoi: name of a monitored area; None: committed scenes, each once, without superseded results.
        scene: id of one scene, where `aoi` is None.

    Returns:
        `jobs.monitoring.series.series.series_table` of dates, or `jobs.monitoring.series.scene_areas.scene_areas`.

    Raises:
        ConfigError: if area, product or scene are not there, or it is a product without classes.
        StorageError: if something cannot be read.
    """
    store = open_store(ObjectRef.parse(out))
    if aoi is None:
        return scene_areas(current_results(store, product, scene))
    if scene is not None:
        raise ConfigError(_NO_SCENE)
    _, cube = finished_cube(store, product, aoi, None)
    if not cube.classes:
        raise ConfigError(f"{product} of {aoi} is an image and has no classes")
    return series_table(read_steps(store, cube))


def _map_of_scene(store: Store, item: Mapping[str, Any]) -> ClassMap:
    said, interval = item["properties"], interval_of(item)
    prefix = f"scenes/{said['earthloom:scene']}/{said['earthloom:key']}"
    start, end = (None, None) if interval == OPEN_INTERVAL else map(_day, interval)
    document = json.loads(store.get(f"{prefix}/result.json"))
    return map_of_result(store, prefix, document, name=said["earthloom:scene"], start=start, end=end)


def _day_of(item: Mapping[str, Any]) -> datetime.date | None:
    """The day that stands for a scene, also where only its year or month is known; None where nothing is."""
    moment = item["properties"].get("datetime")
    return _day(moment) if moment else None


def _day(moment: str) -> datetime.date:
    return datetime.datetime.fromisoformat(moment).date()


def _within(day: datetime.date | None, since: datetime.date | None, until: datetime.date | None) -> bool:
    if since is None and until is None:
        return True
    return day is not None and (since or day) <= day <= (until or day)
