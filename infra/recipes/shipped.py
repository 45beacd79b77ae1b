"""What the recipes are trained on, and which part of it is held back; the files beside this say how.

A recipe reads one folder of labelled pictures, and lays it out as its file wants it. Knows nothing of training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from PIL import Image
from shapely import Polygon

from earthloom.models.cards.card import ModelCard
from earthloom.models.training.augment import IGNORE
from earthloom.models.zoo.trained import BUILDINGS, DEFORESTATION
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.vectors import pyogrio
from earthloom.tiling.window import Window
from infra.recipes.disasters import lay_out_burns, lay_out_floods
from infra.recipes.pictures import Pair

DN_8BIT = 1 / 255
"""8-bit values are taken as 0 to 1 (`unit`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Labelled pictures, apart."""

    train: tuple[Pair, ...]
    held_back: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One model: what it is and its data. How it is trained is in the file of its name, for `earthloom train`."""

    card: ModelCard
    """The shipped one, whose weights and scores a new training replaces."""
    read: Callable[[Path], Split]
    """From the folder of data."""
    gain: float
    """Physical value = stored * gain."""
    judged: int
    """The class whose IoU is the model's figure."""


def _opened(path: Path) -> Path:
    if not path.exists():
        raise MissingObjectError(f"{path} is not there; --data names the folder that holds {path.parent.name}")
    return path


def _bands(path: Path) -> NDArray[np.generic]:
    with rasterio.open(_opened(path)) as dataset:
        values: NDArray[np.generic] = dataset.read()
    return values


def deforestation(data: Path) -> Split:
    """30 chips of 512 x 512 px; of their sorted names every fourth is held back, starting with the second.

    No chip that is trained on lies within 100 km of one that is held back.
    """
    folder = data / "deforestation_amazon"
    pairs = []
    for path in sorted(_opened(folder / "images").glob("*.tif")):
        with Image.open(folder / "masks" / f"{path.stem}.png") as mask:
            pairs.append(Pair(_bands(path), np.asarray(mask, np.uint8)))
    return Split(train=tuple(pair for i, pair in enumerate(pairs) if i % 4 != 1), held_back=tuple(pairs[1::4]))


_DRIFT = ((-8.30, 4.30, 0.77, -0.42), (-4.38, 5.78, -1.13, -1.47))
"""How many rows and columns the outlines of Kitsap lie from the roofs: a + b r + c q + d r^2, for row 1000 r, column 1000 q.

The photograph leans and bends; the outlines do not. Fitted to the shifts at which a first network, trained on the
outlines as they are, turned by chance and so without a side to lean to, agrees best with them, at 31 places of the rows
that are trained on. That network is not the one that is shipped.
"""

_DRIFT_HELD_BACK = ((2.83, 0.0, -0.58, 0.0), (3.97, 0.0, -2.61, 0.0))
"""The same for the rows that are held back, by the same first network, at 28 places: four numbers in all."""


def buildings(data: Path) -> Split:
    """One scene of 5000 x 5000 px; the rows from 3500 are held back, and 250 rows (75 m) before them are not used.

    Outlines are moved onto the roofs, by up to 12 px. In the upper right they miss houses and show others that are not
    there: that part teaches nothing.
    """
    values, labels = _bands(data / "buildings_kitsap" / "rgb.tif"), published_buildings(data)
    train = _onto_roofs(labels[:3250], _DRIFT)
    train[:750, 2400:3620] = IGNORE
    train[750:1340, 3150:3620] = IGNORE
    held_back = _onto_roofs(labels[3500:], _DRIFT_HELD_BACK)
    return Split(train=(Pair(values[:, :3250], train),), held_back=(Pair(values[:, 3500:], held_back),))


def published_buildings(data: Path) -> NDArray[np.uint8]:
    """The outlines of the whole scene, (5000, 5000), where they were published: 1 is a building."""
    outlines: NDArray[np.uint8] = np.asarray(_bands(data / "buildings_kitsap" / "buildings.tif")[0] > 0, np.uint8)
    return outlines


def _onto_roofs(labels: NDArray[np.uint8], drift: tuple[tuple[float, ...], ...]) -> NDArray[np.uint8]:
    rows, cols = np.mgrid[: labels.shape[0], : labels.shape[1]].astype(np.float32)
    terms = (np.ones_like(rows), rows / 1000, cols / 1000, (rows / 1000) ** 2)
    sources = []
    for places, factors, most in zip((rows, cols), drift, labels.shape, strict=True):
        moved = places + sum(factor * term for factor, term in zip(factors, terms, strict=True))
        sources.append(np.clip(np.rint(moved), 0, most - 1).astype(np.intp))
    onto: NDArray[np.uint8] = labels[sources[0], sources[1]]
    return onto


def _lay_out_deforestation(data: Path, folder: Path) -> None:
    """Every picture, and its mask with the picture's georeference."""
    source = data / "deforestation_amazon"
    for path in sorted(_opened(source / "images").glob("*.tif")):
        _link(path, folder / "images" / path.name)
        with Image.open(source / "masks" / f"{path.stem}.png") as mask:
            _write_labels(np.asarray(mask, np.uint8), path, folder / "labels" / path.name)


def _lay_out_buildings(data: Path, folder: Path) -> None:
    """The photograph, its outlines moved onto the roofs, and the rows that are trained on and held back."""
    photograph = _opened(data / "buildings_kitsap" / "rgb.tif")
    split = buildings(data)
    labels = np.full((5000, 5000), IGNORE, np.uint8)
    labels[:3250], labels[3500:] = split.train[0].labels, split.held_back[0].labels
    _link(photograph, folder / "kitsap.tif")
    _write_labels(labels, photograph, folder / "outlines.tif")
    _write_parts(
        photograph,
        {"trained": Window(0, 0, 5000, 3250), "held_back": Window(0, 3500, 5000, 1500)},
        folder / "rows.gpkg",
    )


def _lay_out_ships(data: Path, folder: Path) -> None:
    """Six ports, and the boxes of their ships in one COCO file.

    Of the four that are trained on, `ships-unmarked.json` has what the published boxes miss, as it was seen in the pictures,
    left, top, width and height in pixels: ships, and crowds, in which nothing is taught but by the boxes that are there. A
    quay with ten vessels of which four are marked would teach that six are none. The ports held back are as published.
    """
    source = data / "ships_s2"
    unmarked = json.loads(Path(__file__).with_name("ships-unmarked.json").read_bytes())
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, path in enumerate(sorted(_opened(source).glob("*_ships.json")), 1):
        document = json.loads(path.read_bytes())
        name = f"{path.stem.removesuffix('_ships')}.tif"
        _link(source / name, folder / "ports" / name)
        images.append({"id": number, "file_name": name, "width": document["width"], "height": document["height"]})
        more = unmarked.get(path.stem.removesuffix("_ships"), {"ships": [], "crowds": []})
        boxes = [(ship["bbox_xywh_px"], 0) for ship in document["ships"]]
        boxes += [(box, 0) for box in more["ships"]] + [(box, 1) for box in more["crowds"]]
        annotations += [
            {"id": len(annotations) + place, "image_id": number, "category_id": 1, "bbox": box, "iscrowd": is_crowd}
            for place, (box, is_crowd) in enumerate(boxes, 1)
        ]
    categories = [{"id": 1, "name": "ship"}]
    listed = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "ports.json").write_text(json.dumps(listed))


_CUT_PX = 160
"""Side of a cut-out."""
_LAKE_GAIN_OFFSET_SUN = (
    (0.778740, -6.98, 1970.0), (0.798819, -7.20, 1842.0), (0.621654, -5.62, 1547.0), (0.639764, -5.74, 1044.0),
    (0.126220, -1.13, 225.7),
)  # fmt: skip
"""Of Landsat 7's first five bands: radiance = DN * gain + offset, and the Sun's irradiance (Landsat 7 handbook)."""
_LAKE_SUN_DEG = 60.0


def _lay_out_harder_ships(data: Path, folder: Path) -> None:
    """The ports, and cut-outs around what the detector of `ships-wider` takes for ships: piers, surf, quays, banks.

    `ships-cuts.json` has the upper left corner of each, column and row. Those on teaching ports were looked at, and what may
    be a vessel is not among them; Great Salt Lake has none. A cut-out is a scene with the boxes and crowds that it shows.
    """
    _lay_out_ships(data, folder)
    listed = json.loads((folder / "ports.json").read_bytes())
    images, annotations = listed["images"], listed["annotations"]
    marked = {
        Path(each["file_name"]).stem: [one for one in annotations if one["image_id"] == each["id"]] for each in images
    }
    for each in images:
        _link(data / "ships_s2" / each["file_name"], folder / "harder" / each["file_name"])
    for name, corners in json.loads(Path(__file__).with_name("ships-cuts.json").read_bytes()).items():
        values, profile = _of_lake(data) if name not in marked else _of_port(data, name)
        for place, (col, row) in enumerate(corners):
            file, number = f"cut-{name}-{place}.tif", len(images) + 1
            part = values[:, row : row + _CUT_PX, col : col + _CUT_PX]
            corner = profile["transform"] * rasterio.Affine.translation(col, row)
            with rasterio.open(
                folder / "harder" / file, "w", driver="GTiff", width=_CUT_PX, height=_CUT_PX, count=5, dtype="uint16",
                **(profile | {"transform": corner}),
            ) as out:  # fmt: skip
                out.write(part)
            images.append({"id": number, "file_name": file, "width": _CUT_PX, "height": _CUT_PX})
            for one in marked.get(name, ()):
                left, top, width, height = one["bbox"]
                box = [left - col, top - row, width, height]
                if max(box[:2]) < _CUT_PX and box[0] + width > 0 and box[1] + height > 0:
                    annotations.append(one | {"id": len(annotations) + 1, "image_id": number, "bbox": box})
    (folder / "harder.json").write_text(json.dumps(listed))


def _of_port(data: Path, name: str) -> tuple[NDArray[np.generic], dict[str, Any]]:
    with rasterio.open(data / "ships_s2" / f"{name}.tif") as dataset:
        values: NDArray[np.generic] = dataset.read()
        return values, {"crs": dataset.crs, "transform": dataset.transform, "nodata": dataset.nodata}


def _of_lake(data: Path) -> tuple[NDArray[np.generic], dict[str, Any]]:
    """Reflectance * 10000 of Great Salt Lake as if its pixels were 10 m: only its shapes and colours teach."""
    stored = _bands(data / "scenes" / "landsat7_great_salt_lake_7band.tif")[:5].astype(np.float32)
    gain, offset, sun = (np.array(each)[:, None, None] for each in zip(*_LAKE_GAIN_OFFSET_SUN, strict=True))
    values = np.pi * (stored * gain + offset) / (sun * np.sin(np.radians(_LAKE_SUN_DEG))) * 1e4
    whole = np.clip(values, 1, 16000).astype(np.uint16)
    whole[:, (stored == 0).any(axis=0)] = 0
    return whole, {"crs": "EPSG:3857", "transform": rasterio.Affine(10, 0, -1.25e7, 0, -10, 4.9e6), "nodata": 0}


def _lay_out_damage(data: Path, folder: Path) -> None:
    """Chips in a folder per class, those south of 29.82 degrees apart: at 84 m no chip shows what one beyond shows."""
    for source, name in (("damage", "flooded"), ("no_damage", "unharmed")):
        for path in sorted(_opened(data / "damage_harvey" / source).glob("*.jpeg")):
            latitude = float(path.stem.rpartition("_")[2])
            _link(path, folder / ("south" if latitude < _DAMAGE_NORTH else "north") / name / path.name)


_DAMAGE_NORTH = 29.82
"""Degrees; chips are 64 m wide, and the nearest two on both sides of it lie 84 m apart."""


def _lay_out_land_cover(data: Path, folder: Path) -> None:
    """Scene and map, and the columns that are trained on and held back, with 25 between them (700 m)."""
    source = data / "landcover_nc"
    for name, own in (("lsat7_2000.tif", "landsat7.tif"), ("landcover7.tif", "land-cover.tif")):
        _link(_opened(source / name), folder / own)
    parts = {"west": Window(0, 0, 300, 443), "east": Window(325, 0, 489 - 325, 443)}
    _write_parts(source / "lsat7_2000.tif", parts, folder / "parts.gpkg")


def _write_parts(raster: Path, parts: Mapping[str, Window], target: Path) -> None:
    """Windows of a raster as named polygons in its CRS."""
    with rasterio.open(raster) as dataset:
        transform, crs = dataset.transform, dataset.crs
    corners = [((w.col_off, w.row_off), (w.col_end, w.row_off), (w.col_end, w.row_end), (w.col_off, w.row_end))
               for w in parts.values()]  # fmt: skip
    rings = [Polygon([transform * corner for corner in ring]) for ring in corners]
    frame = GeoDataFrame({"name": list(parts)}, geometry=rings, crs=crs)
    pyogrio().write_dataframe(frame, target, driver="GPKG")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(source.resolve())


def _write_labels(labels: NDArray[np.uint8], like: Path, target: Path) -> None:
    """A GeoTIFF of labels on the grid of another file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(like) as dataset:
        profile = {"crs": dataset.crs, "transform": dataset.transform}
    height, width = labels.shape
    with rasterio.open(
        target, "w", driver="GTiff", height=height, width=width, count=1, dtype="uint8", nodata=IGNORE, tiled=True,
        compress="deflate", **profile,
    ) as out:  # fmt: skip
        out.write(labels, 1)


LAY_OUTS: dict[str, Callable[[Path, Path], None]] = {
    "deforestation": _lay_out_deforestation, "deforestation-wider": _lay_out_deforestation,
    "buildings": _lay_out_buildings, "buildings-wider": _lay_out_buildings,
    "ships": _lay_out_ships, "ships-wider": _lay_out_ships, "ships-again": _lay_out_ships,
    "ships-harder": _lay_out_harder_ships,
    "burn": lay_out_burns, "flood": lay_out_floods, "flood-radar": lay_out_floods,
    "damage": _lay_out_damage, "land-cover": _lay_out_land_cover,
}  # fmt: skip
"""By the name of a recipe's file: puts what it names beside it, from the folder of data."""

RECIPES = {
    recipe.card.name: recipe
    for recipe in (
        Recipe(card=DEFORESTATION, read=deforestation, gain=DN_8BIT, judged=0),
        Recipe(card=BUILDINGS, read=buildings, gain=DN_8BIT, judged=1),
    )
}
