"""The sensor presets that there are: one table, with the source of every figure in it. Reads nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from earthloom.jobs.intake.preset import Sensor, SensorBand
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.suggest import did_you_mean


def sensor(name: str) -> Sensor:
    """The preset called `name`.

    Raises:
        ConfigError: listing the presets there are.
    """
    if name not in SENSORS:
        raise ConfigError(
            f"there is no sensor preset {name!r}{did_you_mean(name, SENSORS)}; presets are {', '.join(SENSORS)}"
        )
    return SENSORS[name]


def _quality(*sources: str) -> tuple[SensorBand, ...]:
    return tuple(SensorBand(source=(one,), name=one.lower(), categorical=True, image=False) for one in sources)


def _states(scale: float, *sources: str) -> tuple[SensorBand, ...]:
    return tuple(SensorBand(source=(one,), name=one.lower(), scale=scale, image=False) for one in sources)


_SENTINEL2_NAMES = (
    ("B01", "coastal"), ("B02", "blue"), ("B03", "green"), ("B04", "red"), ("B05", "rededge071"), ("B06", "rededge075"),
    ("B07", "rededge078"), ("B08", "nir"), ("B8A", "nir08"), ("B09", "nir09"), ("B10", "cirrus"), ("B11", "swir16"),
    ("B12", "swir22"),
)  # fmt: skip
_L1C = tuple(source for source, _ in _SENTINEL2_NAMES)
_L2A = tuple(source for source in _L1C if source != "B10")
_SENTINEL2_SOURCE = (
    "Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD 14.9 and 15.0: QUANTIFICATION_VALUE 10000, "
    "RADIO_ADD_OFFSET and BOA_ADD_OFFSET -1000, special value NODATA 0"
)


def _sentinel2(level: str, quantity: str, sources: tuple[str, ...], extra: tuple[SensorBand, ...]) -> list[Sensor]:
    """The preset without and the one with the offset of processing baseline 04.00."""
    bands = tuple(
        SensorBand(source=tuple(dict.fromkeys((source, source.replace("B0", "B")))), name=name, scale=1e-4)
        for source, name in _SENTINEL2_NAMES
        if source in sources
    )
    plain = Sensor(
        name=f"sentinel2-{level}", title=f"Sentinel-2 {level.upper()} without an offset", quantity=quantity,
        dtypes=("uint16", "int16"), bands=bands + extra, orders=(sources,), fill=0, valid=(1, 20_000),
        platforms=("Sentinel-2",), level="L1" if level == "l1c" else "L2", offset_baseline=True,
        assumes=(
            "reflectance = DN / 10000, and 0 is no data",
            "no offset is stored: true before processing baseline 04.00 (25 January 2022) and for harmonised copies; "
            f"files as ESA delivers them since then are `sensor=sentinel2-{level}-0400`",
        ),
        source=_SENTINEL2_SOURCE,
    )  # fmt: skip
    later = tuple(replace(band, offset=-0.1) for band in bands)
    offset = replace(
        plain, name=f"{plain.name}-0400", title=f"Sentinel-2 {level.upper()} of processing baseline 04.00 or later",
        bands=later + extra,
        assumes=(
            "reflectance = (DN - 1000) / 10000, and 0 is no data",
            "the offset of processing baseline 04.00 (25 January 2022) and later is stored: not true for harmonised "
            f"copies (Earth Engine, Sentinel Hub, Earth Search), which are `sensor={plain.name}`",
        ),
    )  # fmt: skip
    return [plain, offset]


_SENTINEL2_EXTRA = (
    SensorBand(source=("SCL",), name="scl", categorical=True, image=False),
    SensorBand(source=("AOT",), name="aot", scale=1e-3, image=False),
    SensorBand(source=("WVP",), name="wvp", scale=1e-3, image=False),
    *_quality("MSK_CLDPRB", "MSK_SNWPRB", "CLD", "SNW"),
)

# Chander, Markham, Helder (2009), Remote Sensing of Environment 113:893-903: (LMIN, LMAX, ESUN) of tables 3 and 4. ETM+ in
# high gain, band 8 in low gain.
_ETM = (
    ("B1", "blue", (-6.2, 191.6, 1997.0)), ("B2", "green", (-6.4, 196.5, 1812.0)), ("B3", "red", (-5.0, 152.9, 1533.0)),
    ("B4", "nir", (-5.1, 157.4, 1039.0)), ("B5", "swir16", (-1.0, 31.06, 230.8)), ("B7", "swir22", (-0.35, 10.80, 84.90)),
    ("B8", "pan", (-4.7, 243.1, 1362.0)),
)  # fmt: skip
_TM5 = (
    ("B1", "blue", (-1.52, 193.0, 1983.0)), ("B2", "green", (-2.84, 365.0, 1796.0)), ("B3", "red", (-1.17, 264.0, 1536.0)),
    ("B4", "nir", (-1.51, 221.0, 1031.0)), ("B5", "swir16", (-0.37, 30.2, 220.0)), ("B7", "swir22", (-0.15, 16.5, 83.44)),
)  # fmt: skip
_TM5_BEFORE_1992 = {"B1": (-1.52, 169.0, 1983.0), "B2": (-2.84, 333.0, 1796.0)}
_TM4 = (
    ("B1", "blue", (-1.52, 171.0, 1983.0)), ("B2", "green", (-2.84, 336.0, 1795.0)), ("B3", "red", (-1.17, 254.0, 1539.0)),
    ("B4", "nir", (-1.51, 221.0, 1028.0)), ("B5", "swir16", (-0.37, 31.4, 219.8)), ("B7", "swir22", (-0.15, 16.6, 83.49)),
)  # fmt: skip
_OLI = (
    ("B1", "coastal"), ("B2", "blue"), ("B3", "green"), ("B4", "red"), ("B5", "nir"), ("B6", "swir16"), ("B7", "swir22"),
)  # fmt: skip
_TM = (("B1", "blue"), ("B2", "green"), ("B3", "red"), ("B4", "nir"), ("B5", "swir16"), ("B7", "swir22"))
_CHANDER = "Chander, Markham, Helder (2009), Remote Sensing of Environment 113:893-903, tables 3 and 4"


def _also(name: str) -> tuple[str, ...]:
    """Catalogues of Landsat, of USGS and of Planetary Computer, file every near infrared band under nir08."""
    return ("nir08",) if name == "nir" else ()


def _radiance_bands(table: tuple[tuple[str, str, tuple[float, float, float]], ...]) -> tuple[SensorBand, ...]:
    return tuple(
        SensorBand(
            source=(source, f"B{source[1:]}0", f"B0{source[1:]}"), name=name, also=_also(name), radiance=radiance,
            earlier=(date(1992, 1, 1), _TM5_BEFORE_1992[source]) if table is _TM5 and source in _TM5_BEFORE_1992 else None,
        )
        for source, name, radiance in table
    )  # fmt: skip


_TM_ORDERS = (("B1", "B2", "B3", "B4", "B5", "B7"), ("B1", "B2", "B3", "B4", "B5", "B6", "B7"))
_LEVEL1_QUALITY = _quality("QA_PIXEL", "QA_RADSAT", "BQA")


def _tm_level1(number: int, table: tuple[tuple[str, str, tuple[float, float, float]], ...], words: str) -> Sensor:
    return Sensor(
        name=f"landsat{number}-c2l1", title=f"Landsat {number} TM Collection 2 level 1", quantity="toa_reflectance",
        dtypes=("uint8",), bands=(*_radiance_bands(table), SensorBand(source=("B6",), name="lwir"), *_LEVEL1_QUALITY),
        orders=_TM_ORDERS, fill=0, valid=(1, 255), platforms=(f"Landsat {number}",), level="L1",
        assumes=(
            f"8-bit digital numbers, DN 1 is LMIN and 255 is LMAX, 0 is no data{words}",
            "top-of-atmosphere reflectance, not corrected for the air; band 6 stays as stored",
        ),
        source=_CHANDER,
    )  # fmt: skip


def _level2(name: str, title: str, table: tuple[tuple[str, str], ...], platforms: tuple[str, ...]) -> Sensor:
    thermal = "ST_B10" if "Landsat 8" in platforms else "ST_B6"
    orders = tuple(f"SR_{source}" for source, _ in table)
    return Sensor(
        name=name, title=title, quantity="boa_reflectance", dtypes=("uint16",),
        bands=(
            *(SensorBand(source=(f"SR_{source}",), name=band, also=_also(band), scale=2.75e-5, offset=-0.2)
              for source, band in table),
            SensorBand(source=(thermal,), name="lwir11" if thermal == "ST_B10" else "lwir", scale=0.00341802, offset=149.0),
            *_quality("QA_PIXEL", "QA_RADSAT", "SR_QA_AEROSOL", "SR_CLOUD_QA"),
            *_states(0.001, "SR_ATMOS_OPACITY"), *_states(0.01, "ST_QA", "ST_CDIST"),
            *_states(0.0001, "ST_ATRAN", "ST_EMIS", "ST_EMSD"), *_states(0.001, "ST_DRAD", "ST_TRAD", "ST_URAD"),
        ),
        orders=(orders,), fill=0, valid=(1, 65_455), platforms=platforms, level="L2",
        assumes=(
            f"{title}: surface reflectance = DN * 0.0000275 - 0.2, and 0 is no data",
            f"band {thermal} is a temperature in kelvin, not a reflectance",
        ),
        source="Landsat Collection 2 Level 2 Science Product Guides, LSDS-1618 and LSDS-1619",
    )  # fmt: skip


def _surface(
    name: str, title: str, table: tuple[tuple[str, str, *tuple[str, ...]], ...], orders: tuple[tuple[str, ...], ...],
    quality: tuple[str, ...], platforms: tuple[str, ...], *, fill: float, valid: tuple[float, float], source: str,
) -> Sensor:  # fmt: skip
    """Daily and composite surface reflectance of coarse sensors: int16, 1/10000.

    Args:
        table: of each band the source's name, ours, and other common names by which a model may get it.
    """
    return Sensor(
        name=name, title=title, quantity="boa_reflectance", dtypes=("int16",),
        bands=(*(SensorBand(source=(text,), name=band, also=(*also, *_also(band)), scale=1e-4) for text, band, *also in table),
               *_quality(*quality)),
        orders=orders, fill=fill, valid=valid, platforms=platforms, level=None,
        assumes=(f"surface reflectance = DN / 10000, and {fill:g} is no data",), source=source,
    )  # fmt: skip


def _planet(n_bands: int, names: tuple[tuple[str, str], ...]) -> Sensor:
    return Sensor(
        name=f"planetscope-{n_bands}band-sr", title=f"PlanetScope {n_bands}-band surface reflectance (AnalyticMS_SR)",
        quantity="boa_reflectance", dtypes=("uint16",),
        bands=(
            *(SensorBand(source=(text,), name=name, also=("nir08",) if name == "nir" else
                         ("rededge071",) if name == "rededge" else (), scale=1e-4) for text, name in names),
            *_quality("UDM2", "UDM"),
        ),
        orders=(tuple(text for text, _ in names),), fill=0, valid=(1, 20_000), platforms=("PlanetScope",), level="L2",
        assumes=(
            "reflectance = DN / 10000, and 0 is no data",
            f"bands stand in the order {', '.join(name for _, name in names)}; files called AnalyticMS without SR hold "
            "radiance, whose factors stand in their metadata XML: give `scale` for those",
        ),
        source="Planet Imagery Product Specifications (2023), section on PlanetScope ortho scenes",
    )  # fmt: skip


def _radar(
    name: str, title: str, quantity: str, valid: tuple[float, float], fill: float | None, assumed: str
) -> Sensor:
    return Sensor(
        name=name, title=title, quantity=quantity, dtypes=("float32",),
        bands=(
            *(SensorBand(source=(text,), name=text.lower()) for text in ("VV", "VH", "HH", "HV")),
            SensorBand(source=("ANGLE",), name="angle", image=False),
        ),
        orders=(("VV",), ("VV", "VH"), ("VV", "VH", "ANGLE")), fill=fill, valid=valid, platforms=("Sentinel-1",), level=None,
        assumes=(
            assumed,
            "files as ESA delivers them hold digital numbers in the radar's own geometry: calibrate and terrain correct them "
            "first (SNAP, pyroSAR), or take them so from a catalogue (Sentinel-1 RTC)",
        ),
        source="Sentinel-1 Product Specification, S1-RS-MDA-52-7441",
    )  # fmt: skip


_MODIS = ((1, "red"), (2, "nir"), (3, "blue"), (4, "green"), (5, "swir12"), (6, "swir16"), (7, "swir22"))
_PLANET4 = (("BLUE", "blue"), ("GREEN", "green"), ("RED", "red"), ("NIR", "nir"))
_PLANET8 = (
    ("COASTAL_BLUE", "coastal"), ("BLUE", "blue"), ("GREEN_I", "green05"), ("GREEN", "green"), ("YELLOW", "yellow"),
    ("RED", "red"), ("REDEDGE", "rededge"), ("NIR", "nir"),
)  # fmt: skip

_PRESETS = (
    *_sentinel2("l2a", "boa_reflectance", _L2A, _SENTINEL2_EXTRA),
    *_sentinel2("l1c", "toa_reflectance", _L1C, ()),
    _level2("landsat8-c2l2", "Landsat 8 or 9 Collection 2 level 2", _OLI, ("Landsat 8", "Landsat 9")),
    _level2("landsat7-c2l2", "Landsat 7 Collection 2 level 2", _TM, ("Landsat 7",)),
    _level2("landsat5-c2l2", "Landsat 4 or 5 Collection 2 level 2", _TM, ("Landsat 4", "Landsat 5")),
    Sensor(
        name="landsat8-c2l1", title="Landsat 8 or 9 Collection 2 level 1", quantity="toa_reflectance", dtypes=("uint16",),
        bands=(
            *(SensorBand(source=(source,), name=name, also=_also(name), scale=2e-5, offset=-0.1)
              for source, name in (*_OLI, ("B8", "pan"), ("B9", "cirrus"))),
            SensorBand(source=("B10",), name="lwir11"), SensorBand(source=("B11",), name="lwir12"),
            *_LEVEL1_QUALITY, *_states(0.01, "SAA", "SZA", "VAA", "VZA"),
        ),
        orders=(tuple(source for source, _ in _OLI),), fill=0, valid=(1, 65_535), platforms=("Landsat 8", "Landsat 9"),
        level="L1", needs_sun=True,
        assumes=(
            "top-of-atmosphere reflectance = (DN * 0.00002 - 0.1) / sin(sun elevation), and 0 is no data",
            "bands 10 and 11 stay as stored",
        ),
        source="Landsat 8-9 Collection 2 Level 1 Data Format Control Book, LSDS-1822: REFLECTANCE_MULT 2.0e-5, ADD -0.1",
    ),
    Sensor(
        name="landsat7-etm-dn", title="Landsat 7 ETM+ level 1 digital numbers, Collections 1 and 2",
        quantity="toa_reflectance", dtypes=("uint8",),
        bands=(
            *_radiance_bands(_ETM),
            SensorBand(source=("B6_VCID_1", "B6_VCID_2", "B61", "B62", "B6"), name="lwir"), *_LEVEL1_QUALITY,
        ),
        orders=_TM_ORDERS, fill=0, valid=(1, 255), platforms=("Landsat 7",), level="L1",
        assumes=(
            "8-bit digital numbers of a Landsat 7 level 1 product, calibrated after July 2000: DN 1 is LMIN, 255 is LMAX, "
            "0 is no data",
            "gain state high for bands 1, 2, 3, 4, 5 and 7, low for band 8 (GAIN_BAND_n in the MTL file says; a band "
            "taken in low gain would come out a third too dark)",
            "top-of-atmosphere reflectance, not corrected for the air; band 6 stays as stored",
        ),
        source=_CHANDER,
    ),
    _tm_level1(5, _TM5, "; LMAX of bands 1 and 2 by the date, 169 and 333 before 1992, 193 and 365 from then on or where "
               "no date is known"),
    _tm_level1(4, _TM4, "; LMAX of band 1 is 171, which RADIANCE_MAXIMUM_BAND_1 in the MTL file should say"),
    _planet(4, _PLANET4),
    _planet(8, _PLANET8),
    Sensor(
        name="naip", title="NAIP aerial photographs", quantity="unit", dtypes=("uint8",),
        bands=tuple(
            SensorBand(source=(source,), name=name, scale=1 / 255)
            for source, name in (("RED", "red"), ("GREEN", "green"), ("BLUE", "blue"), ("NIR", "nir"))
        ),
        orders=(("RED", "GREEN", "BLUE", "NIR"), ("RED", "GREEN", "BLUE")), fill=None, valid=(0, 255),
        platforms=("NAIP",), level=None,
        assumes=("values are display brightness, DN / 255, not reflectance: they differ between flights",),
        source="USDA APFO, NAIP 4-band digital ortho quarter quads: 8-bit red, green, blue, near infrared",
    ),
    _surface(
        "modis-sr", "MODIS surface reflectance, MOD09, MYD09", tuple((f"SUR_REFL_B{n:02d}", b) for n, b in _MODIS),
        (tuple(f"SUR_REFL_B{n:02d}" for n, _ in _MODIS), ("SUR_REFL_B01", "SUR_REFL_B02")),
        ("QC_500M", "STATE_1KM", "STATE_500M"), ("MODIS surface",), fill=-28672, valid=(-100, 16_000),
        source="MODIS Surface Reflectance User's Guide, Collection 6.1: fill -28672, valid -100 to 16000, scale 0.0001",
    ),
    _surface(
        "modis-nbar", "MODIS reflectance at nadir, MCD43A4", tuple((f"NADIR_REFLECTANCE_BAND{n}", b) for n, b in _MODIS),
        (tuple(f"NADIR_REFLECTANCE_BAND{n}" for n, _ in _MODIS),),
        ("BRDF_ALBEDO_BAND_MANDATORY_QUALITY",), ("MODIS nadir",), fill=32767, valid=(0, 32_766),
        source="MODIS BRDF/Albedo User Guide V006, MCD43A4: fill 32767, valid 0 to 32766, scale 0.0001",
    ),
    _surface(
        "viirs-sr", "VIIRS surface reflectance, VNP09, VJ109",
        (("I1", "red"), ("I2", "nir"), ("I3", "swir16"), ("M1", "m1"), ("M2", "coastal"), ("M3", "blue"), ("M4", "green"),
         ("M5", "m5", "red"), ("M7", "m7", "nir", "nir08"), ("M8", "swir12"), ("M10", "m10", "swir16"), ("M11", "swir22")),
        (("I1", "I2", "I3"),),
        ("SURFREFLECT_QC_500M", "SURFREFLECT_STATE_500M"), ("VIIRS",), fill=-28672, valid=(-100, 16_000),
        source="VIIRS Surface Reflectance User's Guide V2: fill -28672, valid -100 to 16000, scale 0.0001",
    ),
    _radar(
        "sentinel1-grd", "Sentinel-1 GRD, calibrated and terrain corrected, as power", "backscatter", (0.0, 1000.0), 0,
        "backscatter (sigma or gamma nought) as power, not in decibels, and 0 is no data",
    ),
    _radar(
        "sentinel1-grd-db", "Sentinel-1 GRD, calibrated and terrain corrected, in decibels", "backscatter_db",
        (-80.0, 40.0), None, "backscatter (sigma or gamma nought) in decibels",
    ),
)  # fmt: skip

SENSORS: dict[str, Sensor] = {preset.name: preset for preset in _PRESETS}
