"""Acquisitions as providers deliver them, made by code: their structure and names are real, their pixels few.

Field by field as in the data format control books of Landsat and the product specification of Sentinel-2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from tests.scenes import landscape, write_scene

L2_NAME = "LC08_L2SP_044034_20210508_20210518_02_T1"
L1_NAME = "LC08_L1TP_044034_20210508_20210518_02_T1"
L2_BANDS = tuple(f"SR_B{number}" for number in range(1, 8))
SIDE = 320
SUN = 62.93
CLEAR_QA, CLOUD_QA, FILL_QA = 21824, 22280, 1
"""Of Landsat's QA_PIXEL: clear land, high confidence cloud, fill."""


def landsat_metadata(name: str = L2_NAME, sun: float = SUN) -> dict[str, dict[str, str]]:
    """The groups of an MTL file as far as they matter, all of them strings as in the JSON that USGS writes."""
    level2 = "_L2" in name
    numbers = range(1, 8) if level2 else range(1, 10)
    files = {f"FILE_NAME_BAND_{n}": f"{name}_{'SR_' if level2 else ''}B{n}.TIF" for n in numbers}
    if level2:
        files |= {
            "FILE_NAME_BAND_ST_B10": f"{name}_ST_B10.TIF", "FILE_NAME_THERMAL_RADIANCE": f"{name}_ST_TRAD.TIF",
            "FILE_NAME_QUALITY_L2_AEROSOL": f"{name}_SR_QA_AEROSOL.TIF",
            "FILE_NAME_QUALITY_L2_SURFACE_TEMPERATURE": f"{name}_ST_QA.TIF",
        }  # fmt: skip
    else:
        files |= {f"FILE_NAME_BAND_{n}": f"{name}_B{n}.TIF" for n in (10, 11)}
    return {
        "PRODUCT_CONTENTS": {
            "ORIGIN": "Image courtesy of the U.S. Geological Survey", "LANDSAT_PRODUCT_ID": name,
            "PROCESSING_LEVEL": name.split("_")[1], "COLLECTION_NUMBER": "02", "COLLECTION_CATEGORY": "T1",
            "OUTPUT_FORMAT": "GEOTIFF", **files, "FILE_NAME_QUALITY_L1_PIXEL": f"{name}_QA_PIXEL.TIF",
            "FILE_NAME_QUALITY_L1_RADIOMETRIC_SATURATION": f"{name}_QA_RADSAT.TIF",
            "FILE_NAME_ANGLE_COEFFICIENT": f"{name}_ANG.txt", "FILE_NAME_METADATA_ODL": f"{name}_MTL.txt",
            "DATA_TYPE_BAND_1": "UINT16",
        },
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": "LANDSAT_8", "SENSOR_ID": "OLI_TIRS", "WRS_TYPE": "2", "WRS_PATH": "044", "WRS_ROW": "034",
            "DATE_ACQUIRED": "2021-05-08", "SCENE_CENTER_TIME": "18:39:27.1234560Z", "CLOUD_COVER": "12.30",
            "SUN_AZIMUTH": "128.12345678", "SUN_ELEVATION": f"{sun:.8f}", "EARTH_SUN_DISTANCE": "1.0091823",
        },
        **({"LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": {
            **{f"REFLECTANCE_MULT_BAND_{n}": "2.75e-05" for n in range(1, 8)},
            **{f"REFLECTANCE_ADD_BAND_{n}": "-0.2" for n in range(1, 8)},
        }, "LEVEL2_SURFACE_TEMPERATURE_PARAMETERS": {
            "TEMPERATURE_MULT_BAND_ST_B10": "0.00341802", "TEMPERATURE_ADD_BAND_ST_B10": "149.0",
        }} if level2 else {}),
        "LEVEL1_RADIOMETRIC_RESCALING": {
            "RADIANCE_MULT_BAND_1": "1.2478E-02", "RADIANCE_ADD_BAND_1": "-62.39187",
            **{f"REFLECTANCE_MULT_BAND_{n}": "2.0000E-05" for n in range(1, 10)},
            **{f"REFLECTANCE_ADD_BAND_{n}": "-0.100000" for n in range(1, 10)},
        },
    }  # fmt: skip


def as_odl(groups: Mapping[str, Mapping[str, str]]) -> str:
    """The same metadata as the text file that lies beside the JSON: words in quotes, numbers and dates bare."""
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for group, fields in groups.items():
        lines.append(f"  GROUP = {group}")
        for name, value in fields.items():
            bare = value.replace(".", "").replace("-", "").replace("E", "").replace("e", "").isdigit()
            lines.append(f"    {name} = {value}" if bare or name == "DATE_ACQUIRED" else f'    {name} = "{value}"')
        lines.append(f"  END_GROUP = {group}")
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])


def as_xml(groups: Mapping[str, Mapping[str, str]]) -> str:
    """The same as XML, as it lies beside both."""
    inner = "".join(
        f"<{group}>{''.join(f'<{name}>{escape(value)}</{name}>' for name, value in fields.items())}</{group}>"
        for group, fields in groups.items()
    )
    return f'<?xml version="1.0" encoding="UTF-8"?><LANDSAT_METADATA_FILE>{inner}</LANDSAT_METADATA_FILE>'


def landsat_dn(reflectance: NDArray[np.floating[Any]], name: str = L2_NAME, sun: float = SUN) -> NDArray[np.uint16]:
    """The stored numbers of reflectance."""
    if "_L2" in name:
        return np.round((reflectance + 0.2) / 2.75e-5).astype(np.uint16)
    scaled: NDArray[Any] = np.round((reflectance * np.sin(np.radians(sun)) + 0.1) / 2e-5)
    return scaled.astype(np.uint16)


def landsat(
    parent: Path, name: str = L2_NAME, *, written: Sequence[str] = ("json", "txt", "xml"), side: int = SIDE, seed: int = 0,
    clouds: bool = True,
) -> Path:  # fmt: skip
    """A folder of a Landsat acquisition: every file that its MTL names, a strip of fill on the left, a cloud in a corner."""
    folder = parent / name
    groups = landsat_metadata(name)
    tifs = [value for value in groups["PRODUCT_CONTENTS"].values() if value.endswith(".TIF")]
    grid = Affine(30, 0, 543_000, 0, -30, 4_200_000)
    reflectance = landscape(side, side, len(tifs), seed).astype(np.float64) / 20_000
    for file, values in zip(tifs, reflectance, strict=True):
        tail = file.removeprefix(f"{name}_").removesuffix(".TIF")
        pixels, nodata = landsat_dn(values, name), 0
        if tail == "QA_PIXEL":
            pixels, nodata = np.full((side, side), CLEAR_QA, np.uint16), FILL_QA
            if clouds:
                pixels[-80:, -80:] = CLOUD_QA
        elif "QA" in tail:
            pixels = np.zeros((side, side), np.uint16)
        pixels[:, :20] = nodata
        write_scene(folder / file, pixels[None], crs="EPSG:32610", transform=grid, nodata=nodata, date=None)
    if "json" in written:
        (folder / f"{name}_MTL.json").write_text(json.dumps({"LANDSAT_METADATA_FILE": groups}))
    if "txt" in written:
        (folder / f"{name}_MTL.txt").write_text(as_odl(groups))
    if "xml" in written:
        (folder / f"{name}_MTL.xml").write_text(as_xml(groups))
    return folder


S2_NAME = "S2B_MSIL2A_20230508T101609_N0509_R065_T33UUP_20230508T131415"
S2_OLD_NAME = "S2B_MSIL2A_20200508T101559_N0214_R065_T33UUP_20200508T131415"
S2_L1C_NAME = "S2A_MSIL1C_20230508T101609_N0509_R065_T33UUP_20230508T131415"
MSI = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
SIDE_10M = 360
_FINEST = {10: ("B02", "B03", "B04", "B08"), 20: ("B05", "B06", "B07", "B8A", "B11", "B12"), 60: ("B01", "B09", "B10")}


def sentinel2_files(name: str) -> dict[str, int]:
    """Path of each image below the product, without its ending, and its pixel size in metres."""
    level, tile, start = name[7:10], name[38:44], name[11:26]
    images = f"GRANULE/{level}_{tile}_A032216_{start}/IMG_DATA"
    if level == "L1C":
        return {f"{images}/{tile}_{start}_{band}": gsd for gsd, bands in _FINEST.items() for band in bands}
    found = {}
    for gsd in (10, 20, 60):
        finer = [band for own, bands in _FINEST.items() if own <= gsd for band in bands if band != "B10"]
        bands = [band for band in finer if not (gsd > 10 and band == "B08")]
        for band in ["AOT", *bands, *(["SCL"] if gsd > 10 else []), "TCI", "WVP"]:
            found[f"{images}/R{gsd}m/{tile}_{start}_{band}_{gsd}m"] = gsd
    return found


def sentinel2_metadata(name: str) -> str:
    """MTD_MSIL1C.xml or MTD_MSIL2A.xml as far as it matters."""
    level, baseline = name[7:10], f"{name[28:30]}.{name[30:32]}"
    word = {"L1C": "RADIO_ADD_OFFSET", "L2A": "BOA_ADD_OFFSET"}[level]
    offsets = (
        "".join(f'<{word} band_id="{number}">-1000</{word}>' for number in range(13)) if baseline >= "04.00" else ""
    )
    lists = {"L1C": "Radiometric_Offset_List", "L2A": "BOA_ADD_OFFSET_VALUES_LIST"}[level]
    values = (
        '<QUANTIFICATION_VALUE unit="none">10000</QUANTIFICATION_VALUE>' if level == "L1C" else
        '<QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>'
        '<AOT_QUANTIFICATION_VALUE unit="none">1000.0</AOT_QUANTIFICATION_VALUE>'
        '<WVP_QUANTIFICATION_VALUE unit="cm">1000.0</WVP_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>'
    )  # fmt: skip
    files = "".join(f"<IMAGE_FILE>{path}</IMAGE_FILE>" for path in sentinel2_files(name))
    number = level[1:]
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{number}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{number}.xsd">
<n1:General_Info><Product_Info>
<PRODUCT_START_TIME>{name[11:15]}-05-08T10:16:09.024Z</PRODUCT_START_TIME>
<PRODUCT_URI>{name}.SAFE</PRODUCT_URI><PROCESSING_LEVEL>Level-{number}</PROCESSING_LEVEL>
<PRODUCT_TYPE>S2MSI{number}</PRODUCT_TYPE><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
<Datatake datatakeIdentifier="GS{name[0:3]}"><SPACECRAFT_NAME>Sentinel-{name[1:3]}</SPACECRAFT_NAME></Datatake>
<Product_Organisation><Granule_List><Granule imageFormat="JPEG2000">{files}</Granule></Granule_List></Product_Organisation>
</Product_Info><Product_Image_Characteristics>
<Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>
<Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values>
{values}<{lists}>{offsets}</{lists}>
</Product_Image_Characteristics></n1:General_Info></n1:Level-{number}_User_Product>
"""


def write_jp2(path: Path, pixels: NDArray[Any], gsd: float, **options: Any) -> None:
    """Write (rows, columns) losslessly as JPEG 2000, by the driver that reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "JP2OpenJPEG", "width": pixels.shape[1], "height": pixels.shape[0], "count": 1,
        "dtype": pixels.dtype.name, "crs": "EPSG:32633", "transform": Affine(gsd, 0, 300_000, 0, -gsd, 5_400_000),
        "QUALITY": "100", "REVERSIBLE": "YES", "tiled": True, "blockxsize": 128, "blockysize": 128, **options,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels, 1)


def sentinel2(parent: Path, name: str = S2_NAME, *, seed: int = 0) -> Path:
    """A .SAFE folder: every image that its metadata name, a strip of no data on the left, clouds in a corner of SCL."""
    folder = parent / f"{name}.SAFE"
    reflectance = landscape(SIDE_10M, SIDE_10M, len(MSI), seed).astype(np.float64) / 20_000
    offset = 1000 if "_N05" in name else 0
    for path, gsd in sentinel2_files(name).items():
        band, step = path.removesuffix(f"_{gsd}m").rpartition("_")[2], gsd // 10
        side = SIDE_10M // step
        if band in MSI:
            values = reflectance[MSI.index(band)].reshape(side, step, side, step).mean((1, 3))
            pixels = np.round(values * 10_000 + offset).astype(np.uint16)
        elif band == "SCL":
            pixels = np.full((side, side), 4, np.uint8)
            pixels[-side // 4 :, -side // 4 :] = 9
        else:
            pixels = np.full((side, side), 128, np.uint8 if band == "TCI" else np.uint16)
        pixels[:, : 60 // gsd] = 0
        write_jp2(folder / f"{path}.jp2", pixels, gsd)
    (folder / f"MTD_MSI{name[7:10]}.xml").write_text(sentinel2_metadata(name))
    (folder / "manifest.safe").write_text("<xfdu/>")
    return folder


PLANET_ID = "20230508_101609_12_2416"
COEFFICIENT = 2.1e-5


def planet_metadata(name: str = PLANET_ID) -> dict[str, Any]:
    """The JSON of an order: a GeoJSON feature that is no STAC item."""
    return {
        "_links": {}, "_permissions": [], "geometry": {"type": "Polygon", "coordinates": []}, "id": name,
        "properties": {
            "acquired": "2023-05-08T10:16:09.123456Z", "cloud_cover": 0.1, "gsd": 3.7, "instrument": "PSB.SD",
            "item_type": "PSScene", "provider": "planetscope", "satellite_id": "2416", "sun_elevation": 55.2,
        },
        "type": "Feature",
    }  # fmt: skip


def planet_xml(n_bands: int = 4) -> str:
    """The XML beside an AnalyticMS image."""
    bands = "".join(
        f"<ps:bandSpecificMetadata><ps:bandNumber>{n}</ps:bandNumber><ps:radiometricScaleFactor>0.01"
        f"</ps:radiometricScaleFactor><ps:reflectanceCoefficient>{COEFFICIENT * n}</ps:reflectanceCoefficient>"
        "</ps:bandSpecificMetadata>" for n in range(1, n_bands + 1)
    )  # fmt: skip
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ps:EarthObservation xmlns:ps="http://schemas.planet.com/ps/v1" '
        'xmlns:eop="http://earth.esa.int/eop" xmlns:opt="http://earth.esa.int/opt"><eop:acquisitionDateTime>'
        "2023-05-08T10:16:09+00:00</eop:acquisitionDateTime><opt:illuminationElevationAngle>55.2"
        f"</opt:illuminationElevationAngle>{bands}</ps:EarthObservation>"
    )


def planet(parent: Path, *, n_bands: int = 4, surface: bool = True, metadata: Sequence[str] = ("json", "xml")) -> Path:
    """A folder of an order with one scene, its UDM2, and no data at the left."""
    folder, start = parent / "PSScene", f"{PLANET_ID}_3B"
    eight = "_8b" if n_bands == 8 else ""
    scale = np.full((n_bands, 1, 1), 1e-4) if surface else COEFFICIENT * np.arange(1, n_bands + 1)[:, None, None]
    pixels = np.round(landscape(SIDE, SIDE, n_bands) / 20_000 / scale).astype(np.uint16)
    masks = np.zeros((8, SIDE, SIDE), np.uint8)
    masks[0] = 1
    masks[0, -80:, -80:], masks[5, -80:, -80:] = 0, 1
    masks[:, :, :20] = 0
    pixels[:, :, :20] = 0
    grid = Affine(3, 0, 300_000, 0, -3, 5_400_000)
    image = folder / f"{start}_AnalyticMS{'_SR' if surface else ''}{eight}.tif"
    write_scene(image, pixels, crs="EPSG:32633", transform=grid, nodata=0, date="2023:06:01 00:00:00")
    write_scene(folder / f"{start}_udm2.tif", masks, crs="EPSG:32633", transform=grid, date=None)
    if "json" in metadata:
        (folder / f"{PLANET_ID}_metadata.json").write_text(json.dumps(planet_metadata()))
    if "xml" in metadata:
        (folder / f"{start}_AnalyticMS{eight}_metadata.xml").write_text(planet_xml(n_bands))
    return folder


def read_band(path: Path) -> NDArray[Any]:
    """(rows, columns) of the first band, as stored."""
    with rasterio.open(path, driver="JP2OpenJPEG" if path.suffix == ".jp2" else "GTiff") as dataset:
        band: NDArray[Any] = dataset.read(1)
    return band
