"""Versions of what a result's bytes may depend on. Earthloom's own has its home here: sent code has no metadata."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version

VERSION = "0.1.0"
ABSENT = "not installed"


@cache
def software() -> Mapping[str, str]:
    """Versions of Earthloom and of what reads, computes and writes in this process, by name."""
    import rasterio

    return {
        "earthloom": VERSION,
        "gdal": str(rasterio.__gdal_version__),
        **{name: _version(name) for name in ("rasterio", "torch", "zarr")},
    }


@cache
def environment() -> Mapping[str, str]:
    """Those, and of Python and Ray: what has to be alike on all machines of a cluster."""
    return {**software(), "python": platform.python_version(), "ray": _version("ray")}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ABSENT
