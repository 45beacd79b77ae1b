"""PlanetScope scenes as Planet's orders deliver them, by `<id>_metadata.json` or `<id>_3B_Analytic…_metadata.xml`.

Planet Imagery Product Specification: surface reflectance is stored times 10000, radiance becomes reflectance at the top of
the atmosphere by each band's `reflectanceCoefficient`, and 0 is no data. The bands of a file stand in the order that the
specification gives for four and for eight; UDM2 has eight of its own.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Any

from earthloom.jobs.intake.acquisitions.delivery import Contents, Delivery, is_scaling, number
from earthloom.jobs.intake.acquisitions.xml import parse, text
from earthloom.jobs.intake.recognise import Facts
from earthloom.jobs.intake.sensors import sensor
from earthloom.jobs.intake.stac import StacItem
from earthloom.jobs.intake.stac_assets import StacBand, mapping
from earthloom.jobs.intake.stac_assets import number as json_number
from earthloom.jobs.intake.stac_assets import text as json_text
from earthloom.tiling.errors import SceneError

_ID = r"(?P<id>[0-9]{8}_[0-9]{6}(?:_[0-9]{1,2})?_[0-9a-z]{4})"
METADATA = re.compile(rf"^{_ID}(?:_3[AB]_Analytic(?:MS)?(?:_8b)?)?_metadata(?:_clip)?\.(?:json|xml)$")

_IMAGE = re.compile(rf"^{_ID}_3[AB]_Analytic(?:MS)?(?P<sr>_SR)?(?P<eight>_8b)?(?:_harmonized)?(?:_clip)?\.tif$")
_UDM2 = re.compile(rf"^{_ID}_3[AB]_udm2(?:_clip)?\.tif$")
_UDM2_BANDS = ("clear", "snow", "shadow", "light_haze", "heavy_haze", "cloud", "confidence", "unusable")
_FILL = 0.0


def prefix(key: str) -> str:
    """The common prefix of the keys of a scene's files, from the key of its metadata file."""
    head, slash, name = key.rpartition("/")
    found = METADATA.match(name)
    return f"{head}{slash}{found['id'] if found else name}_"


def read(delivery: Delivery) -> StacItem:
    """What the metadata say of a scene.

    Raises:
        SceneError: if they are not Planet's, or which file is the image stands nowhere.
        StorageError: if they cannot be read.
    """
    found = METADATA.match(delivery.name)
    assert found, "only called for names that match"
    name = found["id"]
    beside = _beside(delivery, name)
    images = sorted(one for one in beside if _IMAGE.match(one))
    reflectance = [one for one in images if (image := _IMAGE.match(one)) and image["sr"]]
    chosen = reflectance or images
    if len(chosen) != 1:
        raise SceneError(
            f"{delivery.name} describes {len(chosen)} images ({', '.join(chosen)[:200]}); name the file itself, with "
            "`sensor=planetscope-4band-sr` or `sensor=planetscope-8band-sr`"
            if chosen else
            f"beside {delivery.name} lies no image <id>_3B_AnalyticMS_SR….tif; fetch it from Planet"
        )  # fmt: skip
    image = _IMAGE.match(chosen[0])
    assert image, "filtered by it"
    coefficients = _coefficients(delivery, beside)
    facts = _facts(delivery, name, beside)
    count = 8 if image["eight"] else 4
    table = sensor(f"planetscope-{count}band-sr")
    bands = []
    for place, known in enumerate(table.in_order(count) or (), 1):
        scale = known.scale if image["sr"] else coefficients.get(place)
        if not is_scaling(scale, 0.0):
            raise SceneError(
                f"{chosen[0]} holds radiance, and nothing beside it gives the reflectanceCoefficient of band {place}, which "
                f"is {scale}; fetch its metadata XML, or order surface reflectance (AnalyticMS_SR)"
            )
        bands.append(StacBand(name=known.source[0], common_name=known.name, scale=scale, offset=0.0, nodata=_FILL))
    files = Contents(delivery)
    files.add("SR" if image["sr"] else "TOA", chosen[0], tuple(bands))
    for mask in (one for one in beside if _UDM2.match(one)):
        files.add("UDM2", mask, tuple(
            StacBand(name=f"udm2_{one}", common_name=f"udm2_{one}", categorical=True) for one in _UDM2_BANDS
        ))  # fmt: skip
    others = [one for one in images if one != chosen[0]]
    return StacItem(
        id=name, url=delivery.url, metadata=delivery.name, assets=tuple(files.assets), lost=tuple(files.lost),
        facts=Facts(platform="PlanetScope", level="L2" if image["sr"] else "L1"),
        quantity="boa_reflectance" if image["sr"] else "toa_reflectance",
        datetime=json_text(facts.get("acquired")),
        sun_elevation_deg=json_number(facts.get("sun_elevation")),
        notes=(f"{chosen[0]} is taken, not {', '.join(others)[:200]}",) if others else (),
    )  # fmt: skip


def _beside(delivery: Delivery, name: str) -> list[str]:
    """Names of the scene's files; Planet's metadata name none of them, but its naming rule does."""
    if delivery.keys is None:
        raise SceneError(f"the files beside {delivery.name} cannot be listed on a web server; name the image itself")
    start = f"{delivery.base}{name}_"
    return sorted(
        PurePosixPath(key).name for key in delivery.keys if key.startswith(start) and "/" not in key[len(start) :]
    )


def _coefficients(delivery: Delivery, beside: list[str]) -> dict[int, float]:
    """Reflectance at the top of the atmosphere per stored number, by band from 1."""
    found: dict[int, float] = {}
    for file in beside:
        if METADATA.match(file) and file.endswith(".xml"):
            root = parse(delivery.beside(file).read(), file)
            for one in root.iter("bandSpecificMetadata"):
                place, value = number(text(one, "bandNumber")), number(text(one, "reflectanceCoefficient"))
                if place is not None and value is not None:
                    found[int(place)] = value
    return found


def _facts(delivery: Delivery, name: str, beside: list[str]) -> dict[str, Any]:
    """Date and sun, of the JSON or of the XML."""
    json_name, xml_names = (
        f"{name}_metadata.json",
        [one for one in beside if METADATA.match(one) and one.endswith(".xml")],
    )
    if json_name in beside:
        try:
            document = mapping(json.loads(delivery.beside(json_name).read()))
        except (ValueError, RecursionError) as error:
            raise SceneError(f"{json_name} is not JSON: {str(error)[:120]}; fetch it again") from None
        return dict(mapping(document.get("properties")))
    root = parse(delivery.beside(xml_names[0]).read(), xml_names[0])
    return {
        "acquired": text(root, "acquisitionDateTime", "acquisitionDate") or None,
        "sun_elevation": number(text(root, "illuminationElevationAngle")),
    }
