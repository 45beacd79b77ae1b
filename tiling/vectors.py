"""Files of polygons by pyogrio, which brings a GDAL of its own: with the drivers of plain vector files, and no others.

The environment switches nearly all of GDAL's drivers off (`tiling.storage.gdal_drivers`), for every copy of GDAL in this
process. Here those that only read the file that they are given come back: none that opens other files or addresses that a
file names.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import ModuleType

DRIVERS = (
    "GeoJSON", "GeoJSONSeq", "GPKG", "FlatGeobuf", "ESRI Shapefile", "OpenFileGDB", "MapInfo File", "KML", "TopoJSON",
    "PMTiles", "MVT", "MEM",
)  # fmt: skip

_SCRATCH = "SQLite"
"""Vector tiles are collected in a database beside them. Its driver can be made to open other files by a file that it reads,
so it is there while tiles are written and only then."""

_SKIP = "GDAL_SKIP"
_once = threading.Lock()


def pyogrio() -> ModuleType:
    """The module pyogrio, ready for `DRIVERS`; geopandas' own reading and writing goes through it afterwards."""
    with _once:
        return _with_drivers(DRIVERS)


@contextmanager
def writing_tiles() -> Iterator[ModuleType]:
    """The module pyogrio, ready to write vector tiles too. One thread at a time."""
    with _once:
        try:
            yield _with_drivers((*DRIVERS, _SCRATCH))
        finally:
            _with_drivers(DRIVERS)


def _with_drivers(wanted: Collection[str]) -> ModuleType:
    skipped = None if "pyogrio" in sys.modules else os.environ.pop(_SKIP, None)
    try:  # with the variable, its GDAL would tell on stderr of each name in it that it does not know
        import pyogrio as module
        from pyogrio import _ogr
    finally:
        if skipped is not None:
            os.environ[_SKIP] = skipped
    if set(module.list_drivers()) != set(wanted):
        module.set_gdal_config_options({_SKIP: ""})  # not None, which leaves it to the environment
        _ogr._register_drivers()
        others = sorted(set(module.list_drivers()) - set(wanted))
        module.set_gdal_config_options({_SKIP: ",".join(others)})
        _ogr._register_drivers()  # drivers that are there stay; those that are skipped go
    found: ModuleType = module
    return found
