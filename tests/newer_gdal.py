"""What GDAL 3.12 reads of a TIFF, by the copy of it that pyogrio carries: rasterio's own is older and knows less."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import pyogrio


@cache
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


def attribute_table(path: Path) -> list[dict[str, str]]:
    """The raster attribute table of a file's first band, a dictionary for each row; empty where it has none."""
    gdal = _gdal()
    dataset = gdal.GDALOpen(str(path).encode(), 0)
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
