"""Sentinel-2 levels 1C and 2A in the compact format (since 6 December 2016), by `MTD_MSIL1C.xml` or `MTD_MSIL2A.xml`.

Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD 15.0: reflectance = (stored + offset) / quantification value;
before processing baseline 04.00 there is no offset. Images are JPEG 2000; of each band the finest is taken.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

from earthloom.jobs.intake.acquisitions.delivery import Contents, Delivery, is_scaling, number
from earthloom.jobs.intake.acquisitions.xml import parse, text, texts
from earthloom.jobs.intake.recognise import Facts
from earthloom.jobs.intake.sensors import sensor
from earthloom.jobs.intake.stac import StacItem
from earthloom.jobs.intake.stac_assets import StacBand
from earthloom.tiling.errors import SceneError

METADATA = re.compile(r"^MTD_MSIL(1C|2A)\.xml$")

_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""Names of the bands, in the order of `band_id` and `bandId`."""
_IMAGE = re.compile(rf"^GRANULE/([^/]+)/IMG_DATA/(?:R\d\dm/)?[^/]*_({'|'.join(_BANDS)}|SCL|AOT|WVP)(?:_(\d\d)m)?$")
_OFFSET_SINCE = 4.0
_WITHOUT_FILL = frozenset(("AOT", "WVP"))


def prefix(key: str) -> str:
    """The common prefix of the keys of a product's files, its folder, from the key of its metadata file."""
    head, slash, _ = key.rpartition("/")
    return head + slash


def read(delivery: Delivery) -> StacItem:
    """What the metadata say of a product.

    Raises:
        SceneError: if they are not those of a Sentinel-2 product.
        StorageError: if they cannot be read.
    """
    root = parse(delivery.read(), delivery.name)
    level = delivery.name.removeprefix("MTD_MSI")[:3]
    uri = text(root, "PRODUCT_URI", "PRODUCT_URI_2A", "PRODUCT_URI_1C").removesuffix(".SAFE")
    baseline = number(text(root, "PROCESSING_BASELINE"))
    if not uri or baseline is None:
        raise SceneError(
            f"{delivery.name} lacks PRODUCT_URI or PROCESSING_BASELINE, which each Sentinel-2 product has; fetch it again"
        )
    images = _images(root, delivery.name)
    word = "QUANTIFICATION_VALUE" if level == "L1C" else "BOA_QUANTIFICATION_VALUE"
    quantification = number(text(root, word))
    offset_word = "RADIO_ADD_OFFSET" if level == "L1C" else "BOA_ADD_OFFSET"
    offsets = {attributes.get("band_id", ""): number(value) for attributes, value in texts(root, offset_word)}
    special = _special_values(root)
    names = sensor(f"sentinel2-{level.lower()}")
    files = Contents(delivery)
    for source, path in images.items():
        if source == "SCL":
            files.add(source, path, (StacBand(name=source, common_name="scl", categorical=True),), "JP2OpenJPEG")
            continue
        if source in _WITHOUT_FILL:
            values = number(text(root, f"{source}_QUANTIFICATION_VALUE"))
            scale = 1 / values if values and values >= 1 else None
            files.add(source, path, (StacBand(name=source, scale=scale, reflectance=False),), "JP2OpenJPEG")
            continue
        scale = 1 / quantification if quantification and quantification > 1 else None
        stored = offsets.get(str(_BANDS.index(source)), None if offsets or baseline >= _OFFSET_SINCE else 0.0)
        offset = None if stored is None or scale is None else stored * scale
        known = names.find(source)
        problem = "" if known and is_scaling(scale, offset) else (
            f"{delivery.name} does not say how {source} is scaled: {word} is {quantification} and {offset_word} {stored} in "
            f"processing baseline {baseline:05.2f}; fetch it again"
        )  # fmt: skip
        band = StacBand(
            name=source,
            common_name=known.name if known else None,
            scale=scale,
            offset=offset,
            nodata=special.get("NODATA"),
        )
        files.add(source, path, (band,), "JP2OpenJPEG", problem)
    saturated = special.get("SATURATED")
    return StacItem(
        id=uri, url=delivery.url, metadata=delivery.name, assets=tuple(files.assets), lost=tuple(files.lost),
        facts=Facts(platform=text(root, "SPACECRAFT_NAME")[:40] or "Sentinel-2", level=level),
        quantity="toa_reflectance" if level == "L1C" else "boa_reflectance",
        datetime=text(root, "PRODUCT_START_TIME", "DATATAKE_SENSING_START") or None,
        processing_baseline=f"{baseline:05.2f}",
        notes=() if saturated is None else (f"{saturated:g} marks saturated pixels, which count as very bright",),
    )  # fmt: skip


def _images(root: Element, name: str) -> dict[str, str]:
    """Path of the finest image of each band, relative to the metadata file."""
    found: dict[str, tuple[int, str]] = {}
    granules = set()
    for tag in ("IMAGE_FILE", "IMAGE_FILE_2A", "IMAGE_ID", "IMAGE_ID_2A"):
        for _, path in texts(root, tag):
            if image := _IMAGE.match(path):
                granules.add(image[1])
                side_m = int(image[3] or 0)
                if image[2] not in found or side_m < found[image[2]][0]:
                    found[image[2]] = side_m, f"{path}.jp2"
    if len(granules) != 1:
        raise SceneError(
            f"{name} names images of {len(granules)} tiles; products of one tile are read, in the compact format that ESA "
            "writes since December 2016: fetch the product anew"
        )
    return {source: path for source, (_, path) in found.items()}


def _special_values(root: Element) -> dict[str, float | None]:
    return {
        text(one, "SPECIAL_VALUE_TEXT"): number(text(one, "SPECIAL_VALUE_INDEX")) for one in root.iter("Special_Values")
    }
