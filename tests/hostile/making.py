"""What hostile scenes are made with, and the list that they enter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil
from affine import Affine

from tests.scenes import landscape, write_scene

SENTINEL = 99
BANDS = ("green", "swir16")
NOT_TIFF = r"is not a GeoTIFF(; convert it|: it is )"
DAMAGED = r"(cannot decode .*(damaged|cut short)|is cut short|could not be checked|is not a GeoTIFF|is compressed by the codec)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """What must not be touched: a web server, and a file."""

    url: str
    path: Path


@dataclass(frozen=True, slots=True)
class HostileScene:
    """How one is made, and the refusal that is due; an empty one where the scene is read without harm."""

    make: Callable[[Path, Canary], object]
    refusal: str = ""

    @property
    def name(self) -> str:
        return self.make.__name__


entered: list[HostileScene] = []
_Maker = Callable[[Path, Canary], object]


def refused(message: str) -> Callable[[_Maker], _Maker]:
    def keep(make: _Maker) -> _Maker:
        entered.append(HostileScene(make, message))
        return make

    return keep


def harmless(make: _Maker) -> _Maker:
    entered.append(HostileScene(make))
    return make


def plain(path: Path, side: int = 300, **options: Any) -> Path:
    return write_scene(path, landscape(side, side, 2), BANDS, **options)


def empty(path: Path, **profile: Any) -> Path:
    """A GeoTIFF that declares much and holds no pixel."""
    base: dict[str, Any] = {
        "driver": "GTiff", "count": 2, "dtype": "uint16", "crs": "EPSG:32617", "transform": Affine(10, 0, 3e5, 0, -10, 4.5e6),
        "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "sparse_ok": True,
    }  # fmt: skip
    rasterio.open(path, "w", **(base | profile)).close()
    return path


def vrt(source: str, inner: str = "SimpleSource") -> str:
    return (
        "<VRTDataset rasterXSize='300' rasterYSize='300'><SRS>EPSG:32617</SRS><GeoTransform>3e5,10,0,4.5e6,0,-10"
        "</GeoTransform>" + "".join(
            f"<VRTRasterBand dataType='UInt16' band='{band}'><Description>{name}</Description><{inner}>"
            f"<SourceFilename>{source}</SourceFilename><SourceBand>1</SourceBand></{inner}></VRTRasterBand>"
            for band, name in enumerate(BANDS, 1)
        ) + "</VRTDataset>"
    )  # fmt: skip
