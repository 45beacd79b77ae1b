"""Landsat Collection 2, levels 1 and 2, by their `*_MTL.json`, `*_MTL.txt` or `*_MTL.xml`.

Landsat 8-9 OLI/TIRS Collection 2 Level 2 Data Format Control Book, LSDS-1328, and Level 1, LSDS-1822; Landsat 4-7: LSDS-1336,
LSDS-1414. Scale and offset of each band, the sun and the date stand in the metadata; that 0 is fill stands in those books.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from earthloom.jobs.intake.acquisitions.delivery import Contents, Delivery, day, is_scaling, number
from earthloom.jobs.intake.acquisitions.xml import parse
from earthloom.jobs.intake.preset import Sensor
from earthloom.jobs.intake.recognise import Facts, preset_of, recognise
from earthloom.jobs.intake.stac import StacItem
from earthloom.jobs.intake.stac_assets import StacBand
from earthloom.tiling.errors import SceneError

METADATA = re.compile(r"_MTL\.(json|txt|xml)$")
Group = Mapping[str, str]
Groups = Mapping[str, Group]

_ROOT = "LANDSAT_METADATA_FILE"
_FILL = 0.0
_SENSORS = frozenset(("OLI_TIRS", "OLI", "TIRS", "ETM", "TM"))
_LINE = re.compile(r'^\s*([A-Z0-9_]+)\s*=\s*"?([^"]*?)"?\s*$')
_BAND = re.compile(r"^FILE_NAME_BAND_([A-Z0-9_]+)$")
_CATEGORIES = re.compile(r"^(QA_PIXEL|QA_RADSAT|SR_QA_AEROSOL|SR_CLOUD_QA)$")
_TIME = re.compile(r"^\d\d:\d\d:\d\d(\.\d+)?Z$")


def read(delivery: Delivery) -> StacItem:
    """What the metadata say of an acquisition.

    Raises:
        SceneError: if they are not those of a Landsat acquisition of Collection 2.
        StorageError: if they cannot be read.
    """
    groups = _groups(delivery)
    contents, image = groups.get("PRODUCT_CONTENTS", {}), groups.get("IMAGE_ATTRIBUTES", {})
    name = contents.get("LANDSAT_PRODUCT_ID", "")
    level, collection = contents.get("PROCESSING_LEVEL", ""), contents.get("COLLECTION_NUMBER", "")
    if not name or not re.match(r"^L[12][A-Z]{2}$", level) or not collection:
        raise SceneError(
            f"{delivery.name} lacks LANDSAT_PRODUCT_ID, PROCESSING_LEVEL or COLLECTION_NUMBER, which those of Collection 2 "
            "have; name the files as bands of one scene: red=…_B4.TIF,nir=…_B5.TIF, with `sensor`"
        )
    if number(collection) != 2:
        raise SceneError(f"{delivery.name} is of Landsat Collection {collection[:8]!r}; only Collection 2 is read")
    if image.get("SENSOR_ID", "") not in _SENSORS:
        raise SceneError(
            f"{delivery.name} is of the sensor {image.get('SENSOR_ID', '')[:20]!r}; those that are read: "
            f"{', '.join(sorted(_SENSORS))}"
        )
    facts = Facts(platform=image.get("SPACECRAFT_ID", "")[:40], level=level[:40])
    sensor = preset_of(recognise((), facts))
    if sensor is None:
        raise SceneError(f"{delivery.name} is of the platform {facts.platform!r}, whose bands are not known")
    files = Contents(delivery)
    for field, path in contents.items():
        if field.startswith("FILE_NAME_") and path.upper().endswith(".TIF"):
            _add(files, field, path, name, groups, sensor)
    acquired = day(image.get("DATE_ACQUIRED", ""))
    time = image.get("SCENE_CENTER_TIME", "")
    return StacItem(
        id=name, url=delivery.url, metadata=delivery.name, assets=tuple(files.assets), lost=tuple(files.lost), facts=facts,
        quantity="toa_reflectance" if level.startswith("L1") else "boa_reflectance",
        datetime=f"{acquired}T{time}" if acquired and _TIME.match(time) else acquired,
        sun_elevation_deg=number(image.get("SUN_ELEVATION")),
    )  # fmt: skip


def prefix(key: str) -> str:
    """The common prefix of the keys of an acquisition's files, from the key of its metadata file."""
    return METADATA.sub("", key) + "_"


def _add(files: Contents, field: str, path: str, name: str, groups: Groups, sensor: Sensor) -> None:
    """One file of the product, with the scaling of its band."""
    tail = re.sub(r"\.TIF$", "", path, flags=re.IGNORECASE).removeprefix(f"{name}_")
    if _CATEGORIES.match(tail):
        files.add(tail, path, (StacBand(name=tail, common_name=tail.lower(), categorical=True),))
        return
    known, band = sensor.find(tail), _BAND.match(field)
    if not band or not known or not known.image:
        files.add(tail, path, (StacBand(name=tail, nodata=None, reflectance=False),))
        return
    level2 = groups["PRODUCT_CONTENTS"]["PROCESSING_LEVEL"].startswith("L2")
    if not known.reflects:  # heat
        kelvin = groups.get("LEVEL2_SURFACE_TEMPERATURE_PARAMETERS", {}) if level2 else {}
        scale, offset = (
            number(kelvin.get(f"TEMPERATURE_MULT_BAND_{band[1]}")),
            number(kelvin.get(f"TEMPERATURE_ADD_BAND_{band[1]}")),
        )
        files.add(tail, path, (StacBand(
            name=tail, common_name=known.name, scale=scale, offset=offset, nodata=_FILL, reflectance=False,
        ),))  # fmt: skip
        return
    group = "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS" if level2 else "LEVEL1_RADIOMETRIC_RESCALING"
    words = f"REFLECTANCE_MULT_BAND_{band[1]}", f"REFLECTANCE_ADD_BAND_{band[1]}"
    scale, offset = (number(groups.get(group, {}).get(word)) for word in words)
    problem = "" if is_scaling(scale, offset) else (
        f"{files.delivery.name} does not say how {tail} is scaled: {words[0]} is {scale} and {words[1]} {offset} in {group}; "
        "fetch it again"
    )  # fmt: skip
    files.add(tail, path, (StacBand(
        name=tail, common_name=known.name, scale=scale, offset=offset, nodata=_FILL, per_sine=not level2,
    ),), problem=problem)  # fmt: skip


def _groups(delivery: Delivery) -> Groups:
    data = delivery.read()
    if delivery.name.endswith(".json"):
        try:
            root = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise SceneError(f"{delivery.name} is not JSON: {str(error)[:120]}; fetch it again") from None
        found = root.get(_ROOT) if isinstance(root, dict) else None
        groups = found if isinstance(found, dict) else {}
        return {
            str(name): {
                str(key): str(value)
                for key, value in group.items()
                if isinstance(value, str | int | float)  # numbers as some copies write them
            }
            for name, group in groups.items()
            if isinstance(group, dict)
        }
    if delivery.name.endswith(".xml"):
        document = parse(data, delivery.name)
        parts = list(document) if document.tag == _ROOT else []
        return {part.tag: {field.tag: (field.text or "").strip() for field in part} for part in parts}
    return _lines(data.decode("utf-8", errors="replace"))


def _lines(text: str) -> Groups:
    """The groups directly below the root of a text of `NAME = value` lines."""
    groups: dict[str, dict[str, str]] = {}
    path: list[str] = []
    for line in text.splitlines():
        found = _LINE.match(line)
        if not found:
            continue
        name, value = found[1], found[2]
        if name == "GROUP":
            path.append(value)
        elif name == "END_GROUP":
            path = path[:-1]
        elif len(path) == 2 and path[0] == _ROOT:
            groups.setdefault(path[1], {})[name] = value
    return groups
