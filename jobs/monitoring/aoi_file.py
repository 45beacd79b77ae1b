"""The AOI file: an area, its grid, and what is watched there, as a user writes it in TOML. Opens no scene.

Each table is a pydantic model; the rules of composites, alerts and monitors are models of the modules that obey them.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from earthloom.jobs.config import describe_problem, keys_at, parse_names
from earthloom.jobs.intake.grids import read_aoi
from earthloom.jobs.monitoring.alerts.rule import AlertTable
from earthloom.jobs.monitoring.change.table import ChangeTable
from earthloom.jobs.monitoring.composites.periods import Cadence
from earthloom.jobs.monitoring.composites.rules import CompositeTable, RuleText
from earthloom.jobs.monitoring.cube.members import Mask
from earthloom.jobs.monitoring.trends.rules import MonitorTable
from earthloom.tiling.aoi import Aoi, aoi_of_geojson, outline_of_bbox
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.geojson import feature_of
from earthloom.tiling.grid import Grid
from earthloom.tiling.scene import SCENE_ID
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from earthloom.tiling.suggest import did_you_mean

_MAX_BYTES = 8 * 2**20
_OURS = ("scenes", "model", "out")
"""Options of a run that the file says in words of its own."""

Overlap = Literal["confident", "latest"] | tuple[str, ...]


class BeforeTable(BaseModel):
    """`before` of a product in an AOI file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    product: str
    """Product of the same area: `bands`, or `cloudmask-bands`."""
    every: Cadence = "year"
    rule: RuleText = "best"


class ProductTable(BaseModel):
    """One product that is watched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[tuple[str, ...], BeforeValidator(parse_names), Field(min_length=1)]
    """A model's name, or the stages of a chain, as in `earthloom run --model`."""
    scenes: Annotated[tuple[str, ...], BeforeValidator(parse_names)] = ()
    """Scenes as `earthloom run` takes them; none: what OUT already has."""
    options: dict[str, Any] = {}
    """Options of `earthloom run`, by its own names with underscores."""
    overlap: Overlap | None = None
    """The scene of a day from which a pixel is taken; None: the most confident class, and the latest image."""
    mask: Mask | None = None
    before: BeforeTable | None = None
    """Each scene is compared with the composite of another product of the period before it."""
    composites: tuple[CompositeTable, ...] = ()
    change: tuple[ChangeTable, ...] = ()
    alert: tuple[AlertTable, ...] = ()
    monitor: tuple[MonitorTable, ...] = ()


class AoiTable(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    geometry: str | None = None
    """A GeoJSON file beside this one, or anywhere."""
    bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north in degrees."""
    onto: str | None = None
    """The grid as `earthloom run --onto` takes it: EPSG:32633,10m,x0,y0,x1,y1."""
    crs: str | None = None
    gsd: float | str | None = None
    shard: Annotated[int, Field(gt=0, multiple_of=512)] = 2048
    product: Annotated[tuple[ProductTable, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """An area, and what is watched there."""

    name: str
    where: str
    """The file that says so."""
    grid: Grid
    """The area's grid, made of whole shards."""
    shard_px: int
    outline: str | None
    """The area itself as a GeoJSON geometry in longitude and latitude; None where only a grid was given."""
    products: tuple[ProductTable, ...]
    notes: tuple[str, ...] = ()


def read_area(text: str) -> Area:
    """The AOI file at a path, or in any storage.

    Raises:
        ConfigError: if it is none, naming each wrong key, its value and what is expected.
        StorageError: if it, or the geometry that it names, cannot be read.
    """
    ref = ObjectRef.parse(text)
    try:
        values = tomllib.loads(_read(ref, "an AOI file").decode())
    except RecursionError:
        raise ConfigError(f"{ref.url} is nested too deeply for an AOI file") from None
    except ValueError as error:
        raise ConfigError(f"{ref.url} is not TOML: {error}") from None
    return make_area(values, ref)


def make_area(values: Mapping[str, Any], where: ObjectRef) -> Area:
    """The area that the values of an AOI file describe.

    Args:
        values: values of the file.
        where: the file, which a relative `geometry` lies beside.

    Raises:
        ConfigError, StorageError: see `read_area`.
    """
    try:
        table = AoiTable.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_describe(problem) for problem in error.errors())
        raise ConfigError(f"{where.url}: {problems}") from None
    try:
        _check(table)
        aoi, outline = _aoi(table, where)
        grid = aoi.grid(table.shard)
    except ConfigError as error:
        raise ConfigError(f"{where.url}: {error}") from None
    return Area(
        name=table.name, where=where.url, grid=grid, shard_px=table.shard,
        outline=json.dumps(outline, sort_keys=True) if outline else None, products=table.product,
        notes=aoi.notes(table.shard),
    )  # fmt: skip


def _check(table: AoiTable) -> None:
    if not SCENE_ID.match(table.name):
        raise ConfigError(f"name: {table.name[:80]!r} cannot be a folder name; use letters, digits, . _ and -")
    for number, product in enumerate(table.product):
        if wrong := sorted(product.options.keys() & set(_OURS)):
            raise ConfigError(f"product[{number}].options.{wrong[0]}: this is a key of [[product]] or of the command")
        if product.before and "before" in product.options:
            raise ConfigError(f"product[{number}].options.before: the key before of [[product]] says it already")
        if product.model in [other.model for other in table.product[:number]]:
            raise ConfigError(
                f"product[{number}].model: {'-'.join(product.model)} is watched already; an area has one cube of a product"
            )


def _aoi(table: AoiTable, where: ObjectRef) -> tuple[Aoi, dict[str, Any] | None]:
    given = [name for name in ("geometry", "bbox", "onto") if getattr(table, name) is not None]
    if len(given) != 1:
        raise ConfigError(
            f"an area has one of geometry, bbox and onto, and this one has {' and '.join(given) or 'none'}"
        )
    if table.onto is not None:
        if extra := [name for name in ("crs", "gsd") if getattr(table, name) is not None]:
            raise ConfigError(f"{extra[0]}: onto says it already; leave one of them out")
        return read_aoi(table.onto), None
    if table.bbox is not None:
        if missing := [name for name in ("crs", "gsd") if getattr(table, name) is None]:
            raise ConfigError(f'{missing[0]} is missing; a grid needs both, as in crs = "EPSG:32633" and gsd = 10')
        outline = outline_of_bbox(table.bbox)
        data = json.dumps({"type": "Feature", "properties": {}, "geometry": outline}).encode()
        return aoi_of_geojson(data, "bbox", crs=table.crs, gsd=table.gsd), outline
    ref = _beside(where, str(table.geometry))
    data = _read(ref, "a geometry")
    aoi = aoi_of_geojson(data, ref.url, crs=table.crs, gsd=table.gsd)
    return aoi, dict(feature_of(data, ref.url).get("geometry") or {})


def _beside(where: ObjectRef, text: str) -> ObjectRef:
    """The file that a text names, seen from the folder of another one."""
    if "://" in text or text.startswith(("/", "~")):
        return ObjectRef.parse(text)
    return ObjectRef(where.scheme, where.bucket, where.key.rpartition("/")[0]) / text


def _read(ref: ObjectRef, what: str) -> bytes:
    store = open_store(ref)
    head = store.head()
    if head is None:
        raise ConfigError(f"{ref.url}: there is no such file; check the spelling")
    if head.size > _MAX_BYTES:
        raise ConfigError(f"{ref.url} has {head.size} bytes; {what} of at most {_MAX_BYTES} bytes is read")
    return store.get()


def _describe(problem: Mapping[str, Any]) -> str:
    place: Sequence[str | int] = problem["loc"]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:40]}" for part in place).lstrip(".")

    def unknown() -> str:
        known = keys_at(AoiTable, place[:-1])
        return f"{where}: there is no such key{did_you_mean(str(place[-1]), known)}; here are {', '.join(known)}"

    return describe_problem(problem, where, unknown=unknown, missing=f"{where} is missing")
