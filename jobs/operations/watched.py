"""What is watched: read from the TOML file of a run, or from an AOI file. Opens no scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from earthloom.jobs.config import RunConfig, check, read_toml
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.monitoring.aoi_file import Area, read_area
from earthloom.jobs.monitoring.options import MonitorConfig, run_config
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef

_NOT_WATCHED = {
    "out", "engine", "report", "max_runtime", "max_failures", "profile", "price_per_hour", "allow_failures", "batch",
}  # fmt: skip
"""Options of a run that change no pixel: other ones do not make another watch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """Scenes from somewhere, and how they are mapped."""

    name: str
    """Name of the product, if the file has several."""
    references: tuple[str, ...]
    scene: SceneOptions
    about: Mapping[str, Any]
    """What is watched and mapped, as plain data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a file says of a watch."""

    out: str
    feeds: tuple[Feed, ...]
    run: RunConfig | None = None
    """Configuration, if it is a file of `earthloom run`."""
    area: Area | None = None
    monitor: MonitorConfig | None = None
    """Configuration, if it is an AOI file, with `area`."""


def read_watched(file: str, out: str | None, engine: Mapping[str, Any]) -> Watched:
    """What a file of `earthloom run`, or an AOI file, asks to watch.

    Args:
        out: in the place of the file's; an AOI file has none.
        engine: options of EngineOptions, in the place of the file's.

    Raises:
        ConfigError: if it is neither, or an option is wrong.
        StorageError: if it cannot be read.
    """
    ref = ObjectRef.parse(file)
    values = read_toml(ref.path) if ref.scheme == "file" else {"product": ()}
    if "product" not in values:
        given = {"out": out, **engine}
        config = check(RunConfig, values | {name: value for name, value in given.items() if value is not None})
        return Watched(out=config.out, run=config, feeds=(_feed("", config.scenes, config),))
    if out is None:
        raise ConfigError(f"{ref.url} is an AOI file, which does not say where results go; give `out`")
    monitor = check(MonitorConfig, {"files": (file,), "out": out, **engine})
    area = read_area(file)
    feeds = tuple(_feed(f"{n}", table.scenes, run_config(table, monitor)) for n, table in enumerate(area.products))
    if not any(feed.references for feed in feeds):
        raise ConfigError(f"{ref.url}: no product says where its scenes come from; give one the key 'scenes'")
    return Watched(out=out, area=area, monitor=monitor, feeds=feeds)


def _feed(name: str, references: tuple[str, ...], config: RunConfig) -> Feed:
    about = config.model_dump(mode="json", exclude=_NOT_WATCHED)
    return Feed(name=name, references=references, scene=config.scene, about=about | {"scenes": list(references)})
