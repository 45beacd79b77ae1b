"""The GeoPackage of a sample: its points, and beside them the strata that they stand for, so that it needs nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from earthloom.jobs.analysis.sample import POINTS, STRATA, Sample
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.vectors import pyogrio

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd


def write_sample(drawn: Sample, file: Path) -> None:
    """
    Raises:
        ConfigError: if the file is no `.gpkg`, is there already (people may have filled it in), or cannot be written.
    """
    if file.suffix.lower() != ".gpkg":
        raise ConfigError(f"`output={file}`: a sample is a GeoPackage; give a name that ends with .gpkg")
    if file.exists():
        raise ConfigError(f"`output={file}` is there already, and somebody may have filled it in; give another name")
    module = pyogrio()
    try:
        module.write_dataframe(drawn.points, file, layer=POINTS, driver="GPKG")
        module.write_dataframe(drawn.strata, file, layer=STRATA, driver="GPKG", append=True)
    except (OSError, module.errors.DataSourceError) as error:
        raise ConfigError(f"`output={file}` cannot be written: {error}") from error


def read_sample(file: Path) -> tuple[gpd.GeoDataFrame, pd.DataFrame]:
    """Points and strata of a sample.

    Raises:
        ConfigError: if it is not a file of `earthloom sample`.
    """
    module = pyogrio()
    try:
        return module.read_dataframe(file, layer=POINTS), module.read_dataframe(file, layer=STRATA)
    except (OSError, module.errors.DataSourceError, module.errors.DataLayerError) as error:
        raise ConfigError(
            f"{file} is no sample ({error}); give the GeoPackage that `earthloom sample` wrote, with its layers {POINTS} and "
            f"{STRATA}"
        ) from error
