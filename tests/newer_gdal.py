"""What GDAL 3.12 reads of a TIFF, by the copy of it that pyogrio carries: rasterio's own is older and knows less."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyogrio


def attribute_table(path: Path) -> list[dict[str, str]]:
    """The raster attribute table of a file's first band, a dictionary for each row; empty where it has none.

    In a process of its own: this one has switched most of GDAL's drivers off.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("GDAL_")}
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=120)
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def _gdal() -> ctypes.CDLL:
    """
    Raises:
        FileNotFoundError: pyogrio brings no GDAL of its own here.
    """
    folder = Path(pyogrio.__file__).parent.parent / "pyogrio.libs"
    library = next(folder.glob("libgdal*"), None)
    if library is None:
        raise FileNotFoundError(f"{folder} holds no GDAL")
    gdal = ctypes.CDLL(str(library))
    for name in ("GDALOpen", "GDALGetRasterBand", "GDALGetDefaultRAT"):
        getattr(gdal, name).restype = ctypes.c_void_p
    for name in ("GDALRATGetNameOfCol", "GDALRATGetValueAsString"):
        getattr(gdal, name).restype = ctypes.c_char_p
    gdal.GDALOpen.argtypes = [ctypes.c_char_p, ctypes.c_int]
    gdal.GDALGetRasterBand.argtypes = [ctypes.c_void_p, ctypes.c_int]
    for name in ("GDALGetDefaultRAT", "GDALRATGetColumnCount", "GDALRATGetRowCount", "GDALClose"):
        getattr(gdal, name).argtypes = [ctypes.c_void_p]
    gdal.GDALRATGetNameOfCol.argtypes = [ctypes.c_void_p, ctypes.c_int]
    gdal.GDALRATGetValueAsString.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    gdal.GDALAllRegister()
    return gdal


def _read(path: str) -> list[dict[str, Any]]:
    gdal = _gdal()
    dataset = gdal.GDALOpen(path.encode(), 0)
    assert dataset, f"GDAL cannot open {path}"
    try:
        table = gdal.GDALGetDefaultRAT(gdal.GDALGetRasterBand(dataset, 1))
        if not table:
            return []
        names = [gdal.GDALRATGetNameOfCol(table, col).decode() for col in range(gdal.GDALRATGetColumnCount(table))]
        return [
            {name: gdal.GDALRATGetValueAsString(table, row, col).decode() for col, name in enumerate(names)}
            for row in range(gdal.GDALRATGetRowCount(table))
        ]
    finally:
        gdal.GDALClose(dataset)


if __name__ == "__main__":
    print(json.dumps(_read(sys.argv[1])))
