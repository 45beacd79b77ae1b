"""Scenes that are something else, or that name or stand beside other files and addresses."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from PIL import Image
from rasterio.crs import CRS

from tests.hostile.making import NOT_TIFF, Canary, harmless, plain, refused, vrt

# ---- other formats that call themselves .tif


@refused(NOT_TIFF)
def vrt_of_a_local_file(path: Path, canary: Canary) -> None:
    path.write_text(vrt(str(canary.path)))


@refused(NOT_TIFF)
def vrt_of_an_address(path: Path, canary: Canary) -> None:
    path.write_text(vrt(f"/vsicurl/{canary.url}"))


@refused(NOT_TIFF)
def vrt_of_raw_bytes(path: Path, canary: Canary) -> None:
    path.write_text(
        "<VRTDataset rasterXSize='8' rasterYSize='8'><VRTRasterBand dataType='Byte' band='1' subClass='VRTRasterBand"
        f"Raw'><SourceFilename relativetoVRT='0'>{canary.path}</SourceFilename></VRTRasterBand></VRTDataset>"
    )


@refused(NOT_TIFF)
def vrt_with_python_code(path: Path, canary: Canary) -> None:
    path.write_text(
        "<VRTDataset rasterXSize='8' rasterYSize='8'><VRTRasterBand dataType='Byte' band='1' subClass='VRTDerived"
        "RasterBand'><PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        f"<PixelFunctionCode>open({str(canary.path)!r}, 'w')</PixelFunctionCode></VRTRasterBand></VRTDataset>"
    )


@refused(NOT_TIFF)
def web_map_service(path: Path, canary: Canary) -> None:
    path.write_text(f"<GDAL_WMS><Service name='TMS'><ServerUrl>{canary.url}</ServerUrl></Service></GDAL_WMS>")


@refused(NOT_TIFF)
def stac_mosaic(path: Path, canary: Canary) -> None:
    feature = {"type": "Feature", "stac_version": "1.0.0", "assets": {"a": {"href": canary.url}}}
    path.write_text(json.dumps({"type": "FeatureCollection", "stac_version": "1.0.0", "features": [feature]}))


@refused(NOT_TIFF)
def xml_entity_bomb(path: Path, canary: Canary) -> None:
    levels = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 12))
    path.write_text(f"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY l0 'ha'>{levels}]><VRTDataset>&l11;</VRTDataset>")


@refused(NOT_TIFF)
def xml_entity_file(path: Path, canary: Canary) -> None:
    path.write_text(f"<!DOCTYPE x [<!ENTITY e SYSTEM '{canary.path.as_uri()}'>]><VRTDataset>&e;</VRTDataset>")


@refused(NOT_TIFF)
def nothing_at_all(path: Path, canary: Canary) -> None:
    path.write_bytes(b"")


@refused(NOT_TIFF)
def portable_network_graphic(path: Path, canary: Canary) -> None:
    Image.new("L", (64, 64)).save(path, "png")


@refused(NOT_TIFF)
def zip_archive(path: Path, canary: Canary) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(canary.path, "a.tif")


@refused(NOT_TIFF)
def random_noise(path: Path, canary: Canary) -> None:
    path.write_bytes(np.random.default_rng(1).bytes(100_000))


@refused(r"is not on a map grid|has no CRS|is not a GeoTIFF")
def photograph(path: Path, canary: Canary) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "tiff")
    path.write_bytes(buffer.getvalue())


# ---- files beside the scene, and files that it names


@harmless
def overviews_beside_it_are_a_vrt(path: Path, canary: Canary) -> None:
    plain(path)
    path.with_name(f"{path.name}.ovr").write_text(vrt(f"/vsicurl/{canary.url}"))


@refused(r"has its mask in a file beside it, .*\.msk, which is not read; .*gdal_translate -of COG")
def mask_beside_it_is_a_vrt(path: Path, canary: Canary) -> None:
    plain(path)
    path.with_name(f"{path.name}.msk").write_text(vrt(str(canary.path)))


@harmless
def sidecar_names_overviews(path: Path, canary: Canary) -> None:
    plain(path)
    path.with_name(f"{path.name}.aux.xml").write_text(
        f"<PAMDataset><Metadata domain='OVERVIEWS'><MDI key='OVERVIEW_FILE'>{canary.path}</MDI></Metadata></PAMDataset>"
    )


@harmless
def world_file_beside_it_moves_it(path: Path, canary: Canary) -> None:
    plain(path)
    path.with_suffix(".tfw").write_text("1\n0\n0\n-1\n0\n0\n")


def _names_overviews(path: Path, target: str) -> None:
    plain(path)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=target)


@refused(r"names another file as its overviews \(OVERVIEW_FILE\).*rewrite it")
def overviews_at_an_address(path: Path, canary: Canary) -> None:
    _names_overviews(path, f"/vsicurl/{canary.url}")


@refused(r"names another file as its overviews \(OVERVIEW_FILE\)")
def overviews_in_a_local_file(path: Path, canary: Canary) -> None:
    _names_overviews(path, str(canary.path))


@refused(r"names another file as its overviews \(OVERVIEW_FILE\)")
def overviews_in_another_bucket(path: Path, canary: Canary) -> None:
    _names_overviews(path, "/vsis3/payroll/x.tif")


def _crs_with_grids(path: Path, target: str) -> None:
    """GDAL believes a WKT in the citation key, its PROJ4 extension included."""
    name = "x" * 400
    wkt = (
        f'PROJCS["{name}",GEOGCS["g",DATUM["d",SPHEROID["s",6378206.4,294.9]],PRIMEM["Greenwich",0],UNIT["degree",0.01745329'
        '25199433]],PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",-81],'
        'PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1]]'
    )
    plain(path, crs=CRS.from_wkt(wkt), geotiff_keys_flavor="ESRI_PE")
    data = path.read_bytes()
    start = data.index(b"ESRI PE String = ")
    end = data.index(b"|", start)
    extension = f',EXTENSION["PROJ4","+proj=utm +zone=17 +ellps=clrk66 +nadgrids={target} +units=m +no_defs"]]'
    evil = f"ESRI PE String = {wkt.replace(name, 'x')[:-1]}{extension}".encode()
    assert len(evil) <= end - start
    path.write_bytes(data.replace(data[start:end], evil.ljust(end - start)))  # stale copies too


@refused(r"CRS with a grid file of its own \(nadgrids=http:.*set a CRS without it: gdal_edit")
def crs_with_grids_at_an_address(path: Path, canary: Canary) -> None:
    _crs_with_grids(path, canary.url)


@refused(r"CRS with a grid file of its own \(nadgrids=/")
def crs_with_grids_in_a_local_file(path: Path, canary: Canary) -> None:
    _crs_with_grids(path, str(canary.path))


@harmless
def names_and_tags_with_markup(path: Path, canary: Canary) -> None:
    plain(path)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(evil=f"<img src='{canary.url}'>\x1b[2J]0;owned", TIFFTAG_SOFTWARE="${jndi:ldap://x}")
