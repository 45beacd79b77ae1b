"""Which of GDAL's drivers a run needs, and the names of all others, so that they can be switched off.

GDAL guesses a file's format from its bytes: an XML text called `scene.tif` would be read by the VRT driver, which opens
any file or address that it names. Every open here names one driver, GTiff but for the JPEG 2000
files that the metadata of a Sentinel-2 product name; switching the others off is the second lock. Knows nothing
of how a setting reaches GDAL.
"""

from __future__ import annotations

import logging
import threading

NEEDED = ("GTiff", "COG", "MEM", "Memory", "JP2OpenJPEG")
"""Warping and in-memory files work with these alone. From GDAL 3.11 on `Memory` is another name of MEM: to skip it takes MEM
away, and the first warp ends the process by SIGSEGV. In older releases it is a driver of vectors that opens no file."""

_OTHERS = (
    "AAIGrid,ACE2,ADBC,ADRG,AIG,AIVector,AVCBin,AVCE00,AVIF,AirSAR,AmigoCloud,Arrow,BAG,BASISU,BIGGIF,BLX,BMP,BSB,BT,"
    "BYN,CAD,CALS,CEOS,COASP,COSAR,CPG,CSV,CSW,CTG,CTable2,Carto,DAAS,DDS,DERIVED,DGN,DGNv8,DIMAP,DIPEx,DOQ1,DOQ2,DTED,"
    "DWG,DXF,ECRGTOC,ECW,EDIGEO,EEDA,EEDAI,EHdr,EIR,ELAS,ENVI,EOPFZARR,ERS,ESAT,ESRI Shapefile,ESRIC,ESRIJSON,EXR,"
    "Elastic,Elasticsearch,FAST,FIT,FITS,FileGDB,FlatGeobuf,GDALG,GFF,GIF,GML,GMLAS,GNMDatabase,GNMFile,GPKG,GPX,GRASS,"
    "GRASSASCIIGrid,GRIB,GS7BG,GSAG,GSBG,GSC,GTFS,GTI,GTX,GXF,GenBin,GeoJSON,GeoJSONSeq,GeoRSS,GeoRaster,Geoconcept,"
    "HANA,HDF4,HDF4Image,HDF5,HDF5Image,HEIF,HF2,HFA,HTTP,ILWIS,IRIS,ISCE,ISG,ISIS2,ISIS3,Idrisi,Interlis 1,Interlis 2,"
    "JAXAPALSAR,JDEM,JML,JP2ECW,JP2KAK,JP2MrSID,JPEG,JPEGLS,JPEGXL,JSONFG,KEA,KML,KMLSUPEROVERLAY,KRO,KTX2,"
    "L1B,LAN,LCP,LIBERTIFF,LIBKML,LOSLAS,LVBAG,Leveller,MAP,MBTiles,MFF,MFF2,MG4Lidar,MRF,MSGN,MSSQLSpatial,MVT,"
    "MapInfo File,MapML,MiraMonRaster,MiraMonVector,MongoDBv3,MrSID,MySQL,NAS,NDF,NGSGEOID,NGW,NITF,NOAA_B,"
    "NSIDCbin,NTv2,NULL,NWT_GRC,NWT_GRD,OAPIF,OCI,ODBC,ODS,OGCAPI,OGR_GMT,OGR_VRT,OSM,OZI,OpenFileGDB,PAux,PCIDSK,"
    "PCRaster,PDF,PDS,PDS4,PGDUMP,PGeo,PLMOSAIC,PLScenes,PMTiles,PNG,PNM,PRF,Parquet,PostGISRaster,PostgreSQL,R,"
    "RASDAMAN,RCM,RDA,RIK,RMF,ROI_PAC,RPFTOC,RRASTER,RS2,RST,Rasterlite,S102,S104,S111,S57,SAFE,SAGA,SAR_CEOS,SDTS,"
    "SENTINEL2,SGI,SIGDEM,SNAP_TIFF,SNODAS,SOSI,SQLite,SRP,SRTMHGT,STACIT,STACTA,SVG,SXF,Selafin,TGA,TIGER,TIL,TSX,"
    "Terragen,TileDB,TopoJSON,UK .NTF,USGSDEM,VDV,VFK,VICAR,VRT,WAsP,WCS,WEBP,WFS,WMS,WMTS,XLS,XLSX,XPM,XYZ,ZMap,Zarr,"
    "netCDF"
)


_starting = threading.Lock()
_started: list[bool] = []


def start_gdal() -> None:
    """Register GDAL's drivers, once a process and before any thread uses them. Call it before the first `rasterio.Env`.

    rasterio registers them in a thread's first Env unless another's was through before, under a lock of that thread alone.
    So threads that begin together each register all of them anew, and each takes away again what GDAL_SKIP names, VRT
    too, which a warp belongs to: another thread that has begun to warp meanwhile asks a driver that is gone for its name,
    and the process ends by SIGSEGV (rasterio 1.4.4, GDAL 3.10.3; in three of four trainings whose labels lay in another CRS).
    """
    with _starting:
        if not _started:
            import rasterio
            from rasterio.session import DummySession

            with rasterio.Env(session=DummySession()):
                _started.append(True)


def hush_absent() -> None:
    """Let no log tell, once a process, of each driver that this build of GDAL does not have to be skipped."""
    target = logging.getLogger("rasterio._env")
    if _is_of_interest not in target.filters:
        target.addFilter(_is_of_interest)


def _is_of_interest(record: logging.LogRecord) -> bool:
    return "to unload from GDAL_SKIP" not in record.getMessage()


def skipped(also: str = "") -> str:
    """The value of GDAL_SKIP: all drivers up to GDAL 3.12 that no run needs, and those that the user skips.

    GDAL passes over names that a build does not have, with a warning each: see `hush_absent`.

    Args:
        also: what the user has set; GDAL takes names between commas, or between blanks where there is no comma.
    """
    given = also.split(",") if "," in also else also.split()
    own = [name.strip() for name in given if name.strip() not in NEEDED]
    return ",".join(dict.fromkeys([*_OTHERS.split(","), *own]))
