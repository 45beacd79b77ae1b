"""What a scene is: small frozen values that travel to workers. Opens nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.quantity import QUANTITIES, NodataIn
from earthloom.tiling.resampling import Resampling
from earthloom.tiling.storage.objects import ObjectRef

Driver: TypeAlias = Literal["GTiff", "JP2OpenJPEG", "polygons"]
"""GDAL's drivers that scenes are read by: JPEG 2000 only where the product's metadata name the file. `polygons` is a vector
file that is laid onto the scene's grid (`tiling.reading.burn`)."""

SCENE_ID = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,127}\Z")
"""A scene id is a folder name in the outputs and a STAC item id: no separators, no `..`."""

DatedBy = Literal["option", "year", "month", "item", "name", "tag"] | None
"""How a scene's date is known: by the user, who may know no more than the year or the month, its STAC item, its name by the
provider's rule, or a tag of its file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file of a scene."""

    ref: ObjectRef
    identity: str
    """What pins its bytes: `etag:<etag>:<size>` in object storage, `sha256:<hex>` for a local file."""
    driver: Driver = "GTiff"
    """The one that opens it; no other is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One band that the model may ask for."""

    name: str
    """STAC/EO common name where known (`red`, `nir`, `swir16`), else the file's own."""
    asset: int
    """Position in `Scene.assets`."""
    index: int
    """Band number in the file, from 1."""
    dtype: str
    nodata: float | None = None
    scale: float = 1.0
    """Physical value = stored value * scale + offset, in the scene's `quantity`."""
    offset: float = 0.0
    categorical: bool = False
    """Masks and QA bands: resampled by nearest neighbour, never averaged."""
    resampling: Resampling | None = None
    """How it comes onto the scene's grid; None where its file lies on that grid (`tiling.resampling`)."""
    alpha: int | None = None
    """Number of the band of its file that says where it is valid (beyond 0), where GDAL does not find that by itself; 0
    where GDAL takes a band for alpha that is data."""
    nodata_in: NodataIn = "any"
    """`any`: a pixel is invalid where this band is nodata; `all`: only where all bands of its file are, alpha apart."""
    shift_px: tuple[int, int] = (0, 0)
    """Rows down and columns to the right, in pixels of the scene's grid, by which its file shows the ground beside where it
    lies; it is read from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clear:
    """Which pixels a quality band calls clear; where it does not, every band of the scene counts as invalid."""

    band: Band
    bits: int = 0
    """A pixel is unclear where any of these bits is set."""
    values: tuple[int, ...] = ()
    """A pixel is unclear where it holds one of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One acquisition: its files, bands and the grid that outputs lie on. Pickles small and holds no handles.

    Raises:
        SceneError: if the id could not be a folder name, or two bands share a name.
    """

    id: str
    grid: Grid
    assets: tuple[Asset, ...]
    bands: tuple[Band, ...]
    quantity: str
    datetime: str | None = None
    """RFC 3339 in UTC, or None when the date is unknown (never a made-up one)."""
    clear: tuple[Clear, ...] = ()
    """Quality bands that say where it is valid, beside the bands' own nodata and masks."""
    dated_by: DatedBy = None
    source_item: str | None = None
    """URL of the STAC item it was found in."""
    source_id: str | None = None
    """Id of that item, where it is another one than the scene's: it could not be a folder name, or the user chose."""
    before_shift_px: tuple[float, float] | None = None
    """Rows down and columns to the right by which the earlier date's ground was found beside the later one's, where that
    could be measured; whole pixels of it are in its bands' `shift_px`."""

    def __post_init__(self) -> None:
        if not SCENE_ID.match(self.id):
            raise SceneError(f"scene id {self.id!r} cannot be a folder name; give another one by `scene_id`")
        if self.quantity not in QUANTITIES:
            raise SceneError(f"{self.id}: unknown quantity {self.quantity!r}; one of {', '.join(QUANTITIES)}")
        names = [band.name for band in self.bands]
        if len(set(names)) != len(names):
            raise SceneError(f"{self.id}: band names repeat: {', '.join(names)}; name them by `bands`")

    def select(self, names: tuple[str, ...]) -> tuple[Band, ...]:
        """The bands called `names`, in that order.

        Raises:
            SceneError: naming every missing band and what the scene has.
        """
        by_name = {band.name: band for band in self.bands}
        if missing := [name for name in names if name not in by_name]:
            raise SceneError(
                f"{self.id}: the model needs {', '.join(names)} but the scene has {', '.join(by_name)}; "
                f"missing {', '.join(missing)}. If they are there under other names, say so: "
                f"`bands={missing[0].removeprefix('before_')}=<number>`, or `sensor=<preset>`"  # for both dates of a pair
            )
        return tuple(by_name[name] for name in names)
