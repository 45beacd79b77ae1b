"""Earthloom turns satellite scenes into maps. This is its public face for Python; `earthloom --help` is the other one.

Importing it imports nothing heavy: each function brings in what it needs when it is called.

In a checkout, and in the working directory of a Ray job, the packages `jobs`, `models`, `tiling` and `cluster` lie beside
this folder; in an installation they lie inside it. Both are imported as `earthloom.jobs` and so on, so nothing of ours
owns a common name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from earthloom.jobs.execution.driver import RunResult
    from earthloom.jobs.monitoring.monitor import MonitorResult
    from earthloom.jobs.planning.plan import RunPlan

__all__ = ["monitor", "open", "plan", "run"]

_BESIDE = Path(__file__).resolve().parent.parent
if all((_BESIDE / name / "__init__.py").is_file() for name in ("jobs", "models", "tiling", "cluster")):
    __path__.append(str(_BESIDE))


def plan(
    scenes: str | Path | Sequence[str | Path], *, model: str | Sequence[str], out: str | Path, **options: Any
) -> RunPlan:
    """Check scenes and decide how each would be mapped, as `earthloom plan` does. Writes nothing.

    Args:
        scenes: a path, URL, glob, prefix or STAC item, or several.
        model: name or folder of a model; several are the stages of a chain.
        out: folder or `s3://` prefix that the run would write to.
        options: those of `earthloom run --help`, with underscores: `sensor="sentinel2-l2a"`, `memory_per_worker="4GiB"`.

    Returns:
        The plan. Scenes that cannot be used are in its `refused`, each with the reason.

    Raises:
        earthloom.tiling.errors.EarthloomError: an option or a model is wrong, or no scene was found.
    """
    from earthloom.jobs.planning.plan import plan as make_plan

    return make_plan(_config(scenes, model, out, options))


def run(
    scenes: str | Path | Sequence[str | Path], *, model: str | Sequence[str], out: str | Path, **options: Any
) -> RunResult:
    """Map scenes and publish the results below `out`, as `earthloom run` does.

    Called again, it computes only what is missing. Scenes that are refused or fail do not raise: the result names them.

    Args:
        scenes: a path, URL, glob, prefix or STAC item, or several.
        model: name or folder of a model; several are the stages of a chain.
        out: folder or `s3://` prefix for all outputs.
        options: those of `earthloom run --help`, with underscores: `sensor="sentinel2-l2a"`, `executor="local"`.

    Returns:
        How the run ended: `exit_code`, `scenes` by id with status and error, `results` by id with files and class areas.

    Raises:
        earthloom.tiling.errors.EarthloomError: an option or a model is wrong, no scene was found, or the engine or the
            storage is not as asked for.
    """
    from earthloom.jobs.execution.driver import run as do_run

    return do_run(_config(scenes, model, out, options))


def monitor(files: str | Path | Sequence[str | Path], *, out: str | Path, **options: Any) -> MonitorResult:
    """Bring areas up to date, as `earthloom monitor` does: their cubes, and what is derived from them.

    Called again, it does only what is new. A product that fails does not raise: the result names it.

    Args:
        files: an AOI file, or several.
        out: folder or `s3://` prefix of all outputs.
        options: those of `earthloom monitor --help`, with underscores: `until="2020-12-31"`, `executor="local"`.

    Returns:
        How it ended: `exit_code`, and `products` with what became of each.

    Raises:
        earthloom.tiling.errors.EarthloomError: an option is wrong, or the storage is not as asked for.
    """
    from earthloom.jobs.config import check
    from earthloom.jobs.monitoring.monitor import monitor as do_monitor
    from earthloom.jobs.monitoring.options import MonitorConfig

    several = [files] if isinstance(files, str | Path) else files
    named = {"files": tuple(str(file) for file in several), "out": str(out)}
    return do_monitor(check(MonitorConfig, options | named))


def open(
    out: str | Path, product: str, *, scene: str | None = None, key: str | None = None, level: int = 0,
    aoi: str | None = None,
) -> xr.Dataset:  # fmt: skip
    """A committed result as a lazy xarray Dataset on the scene's grid; with `aoi`, all dates of an area on its grid.

    Stored integers stay as they are: `classes` is uint8 with nodata 255, its names in the attributes `flag_values` and
    `flag_meanings`; `confidence` and the bands of images have `scale_factor`, `add_offset` and `_FillValue` in theirs
    (`xarray.decode_cf` applies them). The CRS is set (`.rio.crs`), a dask chunk is a shard, and the attributes
    `EARTHLOOM_SCENE` and `EARTHLOOM_KEY` say which result it is.

    Args:
        out: folder or `s3://` prefix that runs wrote to; `AWS_*` names in the environment say how to reach the bucket.
        product: what `collections/` calls it: the model's name, or the one that `earthloom plan` shows for a chain.
        scene: id of the scene; needed if several have this product.
        key: beginning of the result's key; without it, of several results of the scene the one committed last.
        level: overview level; 0 is the full resolution, each next level has half the rows and columns.
        aoi: name of an area that is monitored: the Dataset then has the dimensions (time, y, x), ascending by date, as it
            is committed now. `key` is then that of the cube, at least 16 hex digits; without it, the cube that the area's
            file asked for last. `scene` and `level` do not go with it.

    Raises:
        earthloom.tiling.errors.EarthloomError: there is no such committed result, or several scenes have one: the
            message lists them; or the storage does not answer.
    """
    if aoi is not None:
        from earthloom.jobs.monitoring.dataset import open_cube_dataset
        from earthloom.tiling.errors import ConfigError

        if scene is not None or level:
            raise ConfigError("a cube has all scenes of an area at full resolution; leave out scene= and level=")
        return open_cube_dataset(out, product, aoi, key=key)
    from earthloom.jobs.products.dataset import open_dataset

    return open_dataset(out, product, scene=scene, key=key, level=level)


def _config(
    scenes: str | Path | Sequence[str | Path], model: str | Sequence[str], out: str | Path, options: Any
) -> Any:
    from earthloom.jobs.config import load

    several = [scenes] if isinstance(scenes, str | Path) else scenes
    named = {"scenes": tuple(str(scene) for scene in several), "out": str(out)}
    return load(options | named | {"model": model if isinstance(model, str) else tuple(model)})
