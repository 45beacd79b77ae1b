"""Earthloom turns satellite scenes into maps. This module is its public Python API; `earthloom --help` is the command line.

Importing it imports nothing heavy: each function imports what it needs when it is called.

In a checkout, and in the working directory of a Ray job, the packages `jobs`, `models`, `tiling` and `cluster` lie beside
this folder; in an installation they lie inside it. Both are imported as `earthloom.jobs` and so on, so Earthloom takes no
common top-level name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    import xarray as xr

    from earthloom.jobs.analysis.sample import Sample
    from earthloom.jobs.execution.driver import RunResult
    from earthloom.jobs.learning.distil import Distilled
    from earthloom.jobs.learning.evaluate import Evaluation
    from earthloom.jobs.learning.explain import Explanation
    from earthloom.jobs.learning.train import Trained
    from earthloom.jobs.monitoring.monitor import MonitorResult
    from earthloom.jobs.monitoring.questions import ChangeResult
    from earthloom.jobs.planning.plan import RunPlan

__all__ = [
    "accuracy", "change", "distil", "evaluate", "explain", "export", "monitor", "open", "plan", "run", "sample", "train",
    "zonal",
]  # fmt: skip

_BESIDE = Path(__file__).resolve().parent.parent
if all((_BESIDE / name / "__init__.py").is_file() for name in ("jobs", "models", "tiling", "cluster")):
    __path__.append(str(_BESIDE))


def plan(
    scenes: str | Path | Sequence[str | Path], *, model: str | Path | Sequence[str], out: str | Path, **options: Any
) -> RunPlan:
    """Check scenes and decide how to map each of them, as `earthloom plan` does. Writes nothing.

    Args:
        scenes: a path, URL, glob, prefix or STAC item, or several of them.
        model: name or folder of a model; several are the stages of a chain.
        out: folder or `s3://` prefix that the run would write to.
        options: those of `earthloom run --help`, with underscores: `sensor="sentinel2-l2a"`, `memory_per_worker="4GiB"`.

    Returns:
        The plan. Its `refused` lists scenes that cannot be used, each with the reason.

    Raises:
        earthloom.tiling.errors.EarthloomError: an option or a model is wrong, or no scene was found.
    """
    from earthloom.jobs.execution.engine import with_namesakes
    from earthloom.jobs.planning.plan import plan as make_plan

    return with_namesakes(make_plan(_config(scenes, model, out, options)))


def run(
    scenes: str | Path | Sequence[str | Path], *, model: str | Path | Sequence[str], out: str | Path, **options: Any
) -> RunResult:
    """Map scenes and publish the results below `out`, as `earthloom run` does.

    Call it again to compute only what is missing. Refused and failed scenes do not raise: the result names them.

    Args:
        scenes: a path, URL, glob, prefix or STAC item, or several of them.
        model: name or folder of a model; several are the stages of a chain.
        out: folder or `s3://` prefix for all outputs.
        options: those of `earthloom run --help`, with underscores: `sensor="sentinel2-l2a"`, `executor="local"`.

    Returns:
        The outcome: `exit_code`, `scenes` by id with status and error, `results` by id with files and class areas.

    Raises:
        earthloom.tiling.errors.EarthloomError: an option or a model is wrong, no scene was found, or the executor or the
            storage is not as requested.
    """
    from earthloom.jobs.execution.driver import run as do_run

    return do_run(_config(scenes, model, out, options))


def monitor(files: str | Path | Sequence[str | Path], *, out: str | Path, **options: Any) -> MonitorResult:
    """Bring areas up to date, as `earthloom monitor` does: their cubes, and everything derived from them.

    Call it again to do only what is new. A failed product does not raise: the result names it.

    Args:
        files: an AOI file, or several of them.
        out: folder or `s3://` prefix for all outputs.
        options: those of `earthloom monitor --help`, with underscores: `until="2020-12-31"`, `executor="local"`.

    Returns:
        The outcome: `exit_code`, and `products` with the outcome of each.

    Raises:
        earthloom.tiling.errors.EarthloomError: an option is wrong, or the storage is not as requested.
    """
    from earthloom.jobs.config import check
    from earthloom.jobs.monitoring.monitor import monitor as do_monitor
    from earthloom.jobs.monitoring.options import MonitorConfig

    return do_monitor(check(MonitorConfig, options | {"files": _texts(files), "out": str(out)}))


def change(out: str | Path, product: str, *, aoi: str, before: str, after: str, **options: Any) -> ChangeResult:
    """Compare two dates or periods of a monitored area, as `earthloom change` does.

    Publishes a change map, the transition matrix and the changed ground as polygons, unless they exist already.

    Args:
        out: folder or `s3://` prefix of the outputs.
        product: name of the product, as in `OUT/collections`: `landwater`.
        aoi: name of a monitored area.
        before, after: a date or a period: `2020-07-01`, `2020-07`, `2020-DJF` or `2020`. A period stands for its composite
            if there is one, otherwise for the date within it that is nearest to its middle.
        options: those of `earthloom change --help`, with underscores: `min_area_m2=10_000`, `executor="ray"`.

    Returns:
        `document` (the matrix, as in `transitions.json`), `prefix` and `files` of the published result, and `note`, which
        says what was used for the two sides.

    Raises:
        earthloom.tiling.errors.EarthloomError: the area, product, date or period does not exist, or the storage fails.
    """
    from earthloom.jobs.config import check
    from earthloom.jobs.monitoring.questions import ChangeConfig
    from earthloom.jobs.monitoring.questions import change as compare

    named = {"out": str(out), "product": product, "aoi": aoi, "before": before, "after": after}
    return compare(check(ChangeConfig, {"executor": "local", **options, **named}))


def zonal(polygons: str | Path | gpd.GeoDataFrame, out: str | Path, product: str, **options: Any) -> pd.DataFrame:
    """Compute class areas per polygon, for each date of an area or each scene, as `earthloom zonal` does.

    Args:
        polygons: a file of polygons (GeoJSON, GeoPackage, Shapefile, FlatGeobuf, GeoParquet) or a GeoDataFrame, in any CRS.
        out: folder or `s3://` prefix of the outputs.
        product: name of the product, as in `OUT/collections`: `landwater`.
        options: `aoi`, name of a monitored area (without it, all committed scenes are used); `scene`, id of a single scene;
            `name`, column with the names of the polygons; `since` and `until`, dates.

    Returns:
        One row for each class, polygon and date: `area_m2` (true area, with partly covered pixels), `percent` of the part
        with data, `confidence`, `nodata_m2`, and `covered_percent`, the share of the polygon that lies on the map.

    Raises:
        earthloom.tiling.errors.EarthloomError: polygons, area or product are missing or unusable, or the storage fails.
    """
    from earthloom.jobs.monitoring.questions import zones_of

    return zones_of(str(polygons) if isinstance(polygons, Path) else polygons, str(out), product, **options)


def sample(
    out: str | Path, product: str, *, points: int = 500, least: int = 50, seed: int = 0, file: str | Path | None = None,
    **which: Any,
) -> Sample:  # fmt: skip
    """Draw a stratified random sample of points from published maps for interpretation, as `earthloom sample` does.

    Args:
        out: folder or `s3://` prefix of the outputs.
        product: name of the product, as in `OUT/collections`.
        points: total number of points: at least `least` per class, the rest in proportion to area.
        seed: seed of the random draw; the same maps and seed give the same points.
        file: `.gpkg` to write the points to.
        which: `aoi`, name of a monitored area; `scene`, id of a single scene; `since` and `until`, dates. By default, the
            latest result of every scene.

    Returns:
        `points`, a GeoDataFrame with an empty column `reference`, and `strata`, the classes that they represent.

    Raises:
        earthloom.tiling.errors.EarthloomError: there are no such maps, too few points are requested, or the file exists.
    """
    from earthloom.jobs.analysis.files import write_sample
    from earthloom.jobs.analysis.sample import draw_sample
    from earthloom.jobs.monitoring.questions import chosen_maps
    from earthloom.tiling.storage.objects import ObjectRef
    from earthloom.tiling.storage.store import open_store

    store = open_store(ObjectRef.parse(str(out)))
    drawn = draw_sample(store, chosen_maps(store, product, **which), points=points, least=least, seed=seed)
    if file is not None:
        write_sample(drawn, Path(file))
    return drawn


def accuracy(points: str | Path, *, reference: str = "reference") -> dict[str, Any]:
    """Estimate accuracy and class areas with 95 % intervals from interpreted points, as `earthloom accuracy` does.

    Args:
        points: the GeoPackage of a sample, with names or values of classes in the column `reference`.
        reference: name of that column.

    Returns:
        `overall` and, by class, `users`, `producers` and `area_m2`, each as a value and half of its interval; `confusion`.

    Raises:
        earthloom.tiling.errors.EarthloomError: the file is not a sample, an interpretation is not a class, or a class has too
            few points.
    """
    from earthloom.jobs.analysis.accuracy import accuracy as judge
    from earthloom.jobs.analysis.files import read_sample

    return judge(*read_sample(Path(points)), reference=reference)


def export(
    out: str | Path, product: str, file: str | Path, *, clip: gpd.GeoDataFrame | None = None, crs: str | None = None,
    min_area_m2: float = 0.0, title: str | None = None, **which: Any,
) -> list[Path]:  # fmt: skip
    """Export the latest of the chosen maps for other programs, as `earthloom export` does.

    Args:
        out: folder or `s3://` prefix of the outputs.
        product: name of the product, as in `OUT/collections`.
        file: `.tif`, `.gpkg`, `.shp`, `.fgb`, `.geojson` (polygons) or `.png` (a map to print).
        clip: polygons in any CRS; outside them is nodata.
        crs: `EPSG:32612`; None keeps the map's own.
        min_area_m2: area of the smallest polygon, in m².
        title: title of a picture.
        which: `aoi` or `scene`, `since` and `until`, as for `sample`.

    Returns:
        The written files.

    Raises:
        earthloom.tiling.errors.EarthloomError: there is no such map, nothing of it lies inside `clip`, or the file
            cannot be written.
    """
    from earthloom.jobs.analysis.export import write_extract
    from earthloom.jobs.analysis.extract import extract
    from earthloom.jobs.monitoring.questions import chosen_maps
    from earthloom.tiling.storage.objects import ObjectRef
    from earthloom.tiling.storage.store import open_store

    store = open_store(ObjectRef.parse(str(out)))
    found = extract(store, chosen_maps(store, product, **which)[-1], clip=clip, crs=crs)
    return write_extract(found, Path(file), title=title, min_area_m2=min_area_m2)


def train(
    source: str | Path | Mapping[str, Any], *, out: str | Path | None = None, workers: int | None = None,
    address: str | None = None, replace: bool = False,
) -> Trained:  # fmt: skip
    """Train a model on labelled scenes, as `earthloom train` does.

    Call it again to resume; a finished training is left as it is.

    Args:
        source: a TOML file (docs/training.md), or a mapping with the same keys.
        out: folder or `s3://` prefix of the card folder that `model` of `run` takes, instead of the file's `out`.
        workers: number of processes on Ray that share each batch; None trains in this process.
        address: address of a Ray cluster, with `workers`; None starts Ray on this machine.
        replace: overwrite the model of another training that `out` holds.

    Returns:
        `card`, `out`, and `record`: data, split, seeds, scores and tiling as plain data.

    Raises:
        earthloom.tiling.errors.EarthloomError: the file, its data or its network cannot be used, the storage fails, or the
            loss is no longer a number.
    """
    from earthloom.jobs.learning.config import load_training
    from earthloom.jobs.learning.train import train as do_train

    config = load_training(source, out=None if out is None else str(out))
    return do_train(config, replaces=replace, workers=workers, address=address)


def distil(scenes: str | Path | Sequence[str | Path], *, model: str, out: str | Path, **options: Any) -> Distilled:
    """Train a small network to imitate a large one on unlabelled scenes, as `earthloom distil` does.

    Args:
        scenes: a path, URL, glob, prefix or STAC item, or several of them.
        model: name or folder of the teacher, a segmentation model.
        out: folder or `s3://` prefix of the student's card folder and its provenance.
        options: those of `earthloom distil --help`, with underscores: `student="unet"`, `encoder="resnet18"`.

    Returns:
        The student, and how it compares with its teacher (`to_dict`).

    Raises:
        earthloom.tiling.errors.EarthloomError: a scene cannot be mapped, or the student cannot be trained.
    """
    from earthloom.jobs.config import check
    from earthloom.jobs.learning.distil import distil as do_distil
    from earthloom.jobs.learning.options import DistilConfig

    return do_distil(check(DistilConfig, options | {"scenes": _texts(scenes), "model": model, "out": str(out)}))


def evaluate(
    scenes: str | Path | Sequence[str | Path], *, model: str | Path | Sequence[str],
    labels: str | Path | Sequence[str | Path], out: str | Path, **options: Any,
) -> Evaluation:  # fmt: skip
    """Map scenes and compare the maps with labels, as `earthloom evaluate` does.

    Maps already published below `out` are not computed again.

    Args:
        scenes: a path, URL, glob, prefix or STAC item, or several of them.
        model: name or folder of a model; several are the stages of a chain.
        labels: GeoTIFF or vectors: one file for all scenes, one per scene in their order, or a name with `{id}`.
        out: folder or `s3://` prefix for maps and reports.
        options: those of `earthloom evaluate --help`, with underscores: `label_classes={0: "land", 1: "water"}`.

    Returns:
        `report`, the scores as plain data; `text`, the same as a table; `files`, the paths of reports and error maps.

    Raises:
        earthloom.tiling.errors.EarthloomError: labels, classes and scenes do not match, labels cannot be read, or what
            `run` raises.
    """
    from earthloom.jobs.config import check
    from earthloom.jobs.learning.evaluate import evaluate as do_evaluate
    from earthloom.jobs.learning.options import EvaluateConfig

    named = {"scenes": _texts(scenes), "model": model, "labels": _texts(labels), "out": str(out)}
    return do_evaluate(check(EvaluateConfig, options | named))


def explain(
    scenes: str | Path | Sequence[str | Path], *, model: str, out: str | Path, **options: Any
) -> list[Explanation]:
    """Publish images of a model's certainty and of each band's contribution, as `earthloom explain` does.

    Args:
        scenes: a path, URL, glob, prefix or STAC item, or several of them.
        model: name or folder of a segmentation model.
        out: folder or `s3://` prefix for all outputs.
        options: those of `earthloom explain --help`, with underscores: `what=["entropy", "gradients"]`, `of_class="water"`.

    Returns:
        One explanation for each entry of `what`, with the run that published its images and how much each band matters.

    Raises:
        earthloom.tiling.errors.EarthloomError: this model cannot be explained, no scene can be used, or what `run` raises.
    """
    from earthloom.jobs.config import check
    from earthloom.jobs.learning.explain import explain as do_explain
    from earthloom.jobs.learning.options import ExplainConfig

    return do_explain(check(ExplainConfig, options | {"scenes": _texts(scenes), "model": model, "out": str(out)}))


def open(
    out: str | Path, product: str, *, scene: str | None = None, key: str | None = None, level: int = 0, aoi: str | None = None
) -> xr.Dataset:  # fmt: skip
    """Open a committed result as a lazy xarray Dataset on the scene's grid; with `aoi`, all dates of an area on its grid.

    Values are the stored integers: `classes` is uint8 with nodata 255 and its names in the attributes `flag_values` and
    `flag_meanings`; `confidence` and the bands of images have the attributes `scale_factor`, `add_offset` and
    `_FillValue` (`xarray.decode_cf` applies them). The CRS is set (`.rio.crs`), one dask chunk is one shard, and the
    attributes `EARTHLOOM_SCENE` and `EARTHLOOM_KEY` identify the result.

    Args:
        out: folder or `s3://` prefix that runs wrote to; `AWS_*` variables in the environment give access to the bucket.
        product: name of the product, as in `OUT/collections`: the model's name, or what `earthloom plan` calls a chain.
        scene: id of the scene; required if several scenes have this product.
        key: first characters of the result's key; None opens the result of the scene that was committed last.
        level: overview level; 0 is the full resolution, each next level has half the rows and columns.
        aoi: name of a monitored area: the Dataset then has the dimensions (time, y, x), ascending by date, as currently
            committed. `key` is then that of the cube, at least 16 hex digits; None opens the cube that the AOI file
            requested last. It cannot be combined with `scene` and `level`.

    Raises:
        earthloom.tiling.errors.EarthloomError: there is no such result, several scenes have one, or the storage fails.
    """
    if aoi is not None:
        from earthloom.jobs.monitoring.cube.dataset import open_cube_dataset
        from earthloom.tiling.errors import ConfigError

        if scene is not None or level:
            raise ConfigError("a cube has all scenes of an area at full resolution; leave out scene= and level=")
        return open_cube_dataset(out, product, aoi, key=key)
    from earthloom.jobs.products.dataset import open_dataset

    return open_dataset(out, product, scene=scene, key=key, level=level)


def _config(
    scenes: str | Path | Sequence[str | Path], model: str | Path | Sequence[str], out: str | Path, options: Any
) -> Any:
    from earthloom.jobs.config import load

    return load(options | {"scenes": _texts(scenes), "out": str(out), "model": _texts(model)})


def _texts(given: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    return tuple(str(part) for part in ([given] if isinstance(given, str | Path) else given))
