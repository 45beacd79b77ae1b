"""Which vector files can be read and written in a process that has GDAL's drivers switched off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]  # nothing is installed where `make test-pythons` runs this
_PROGRAM = """
import os
import warnings
warnings.simplefilter("error")
from earthloom.tiling.storage.settings import apply
apply()
{before}
from earthloom.tiling.vectors import DRIVERS, pyogrio
assert set(DRIVERS) == set(pyogrio().list_drivers()), set(pyogrio().list_drivers()) ^ set(DRIVERS)
assert "VRT" in os.environ["GDAL_SKIP"]
import geopandas as gpd, shapely
one = gpd.GeoDataFrame({{"what": ["a"]}}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:4326")
for name in ("z.gpkg", "z.geojson", "z.fgb", "z.shp"):
    one.to_file(name)
    assert gpd.read_file(name)["what"].tolist() == ["a"]
from earthloom.tiling.vectors import writing_tiles
with writing_tiles() as module:
    module.write_dataframe(one, "z.pmtiles", driver="PMTiles", layer="z", MINZOOM=0, MAXZOOM=3)
assert set(DRIVERS) == set(module.list_drivers()), set(module.list_drivers()) ^ set(DRIVERS)
assert gpd.read_file("z.pmtiles")["what"].tolist() == ["a"]
import rasterio
from rasterio.io import MemoryFile
try:
    with MemoryFile(b"<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>") as memory, memory.open():
        raise SystemExit("rasterio opened a VRT")
except rasterio.errors.RasterioIOError:
    pass
"""


@pytest.mark.parametrize("before", ["", "import rasterio; rasterio.Env().__enter__()"])
def test_plain_vector_files_are_read_and_written_and_rasters_stay_locked(tmp_path: Path, before: str) -> None:
    program = [sys.executable, "-c", _PROGRAM.format(before=before)]
    env = os.environ | {"PYTHONPATH": str(_ROOT)}
    answer = subprocess.run(program, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "GDAL_SKIP" not in answer.stderr


def test_a_file_that_names_other_files_is_not_opened(tmp_path: Path) -> None:
    from earthloom.tiling.vectors import pyogrio

    (tmp_path / "secret.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "z.geojson").write_text(
        "<OGRVRTDataSource><OGRVRTLayer name='secret'><SrcDataSource relativeToVRT='1'>secret.geojson</SrcDataSource>"
        "</OGRVRTLayer></OGRVRTDataSource>"
    )
    module = pyogrio()
    with pytest.raises(module.errors.DataSourceError, match="not recognized"):
        module.read_info(tmp_path / "z.geojson")
