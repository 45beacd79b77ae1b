"""Which product a file or a STAC item says that it is, and which presets would fit it. Opens nothing.

Only names that a provider's own naming rule makes are believed: a folder called `landsat8` says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from earthloom.jobs.intake.common_names import COMMON_NAMES
from earthloom.jobs.intake.preset import Sensor
from earthloom.jobs.intake.sensors import SENSORS
from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading.preflight import Header

_START, _END = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
_LANDSAT = re.compile(rf"{_START}L[COTEM]0([1-9])_(?:(L[12])[A-Z]{{2}}_)?")
_OLD_LANDSAT = re.compile(rf"{_START}L[COTEM]([1-8])[0-9]{{13}}[A-Z]{{3}}[0-9]{{2}}{_END}")
_SENTINEL2 = re.compile(rf"{_START}S2[ABCD]_(?:MSI(L[12])[AC]_|[0-9]{{1,2}}[A-Z]{{3}}_)(?:.*?_(L[12])[AC]{_END})?")
_BASELINE = re.compile(rf"{_START}S2[ABCD]_MSIL[12][AC]_[0-9T]+_N([0-9]{{2}})([0-9]{{2}})_")
_PLANET = re.compile(rf"{_START}[0-9]{{8}}_[0-9]{{6}}_.*_3[AB]_Analytic(?:MS)?(_SR)?")
_NAIP = re.compile(rf"{_START}m_[0-9]{{7}}_(?:ne|nw|se|sw)_[0-9]{{2}}_", re.IGNORECASE)
_MODIS = re.compile(rf"{_START}(?:MOD|MYD|MCD)(09|43)[A-Z0-9]{{2}}{_END}")
_VIIRS = re.compile(rf"{_START}(?:VNP|VJ1|VJ2)09[A-Z0-9]{{2}}{_END}")
_HLS = re.compile(rf"{_START}HLS\.[LS]30\.")
_PLATFORM = re.compile(r"(?i)^(landsat|sentinel)[-_ ]?([1-9])[a-d]?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """What something says that it is."""

    evidence: str
    """The words that say it, as they were found."""
    platform: str
    """`Landsat 7`, `Sentinel-2`, `PlanetScope`, `NAIP`, `MODIS surface`, `MODIS nadir`, `VIIRS`, `HLS`."""
    level: str | None = None
    """`L1` or `L2`."""
    baseline: float | None = None
    """Processing baseline of a Sentinel-2 product."""

    def describe(self) -> str:
        """`Landsat 7 level 2`."""
        return f"{self.platform} level {self.level[1:]}" if self.level else self.platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a STAC item says of the product, in words of its own; empty where it says nothing."""

    platform: str = ""
    """`platform` or `constellation`."""
    level: str = ""
    """`processing:level`, `s2:product_type`, `landsat:correction`."""


def recognise(texts: Iterable[str], facts: Facts | None = None) -> tuple[Product, ...]:
    """The products that the texts name, and the one that the item's facts tell; each once.

    Args:
        texts: names of files and folders, ids of items.
    """
    found = [*map(_by_name, texts), _by_facts(facts) if facts else None]
    return tuple(dict.fromkeys(product for product in found if product))


def _by_name(text: str) -> Product | None:
    if found := _LANDSAT.search(text):
        return Product(evidence=found[0].rstrip("_"), platform=f"Landsat {found[1]}", level=found[2])
    if found := _OLD_LANDSAT.search(text):
        return Product(evidence=found[0], platform=f"Landsat {found[1]}", level="L1")
    if found := _SENTINEL2.search(text):
        baseline = _BASELINE.search(text)
        return Product(
            evidence=baseline[0].rstrip("_") if baseline else found[0].rstrip("_"), platform="Sentinel-2",
            level=found[1] or found[2], baseline=float(f"{baseline[1]}.{baseline[2]}") if baseline else None,
        )  # fmt: skip
    if found := _PLANET.search(text):
        return Product(evidence=found[0], platform="PlanetScope", level="L2" if found[1] else "L1")
    if found := _NAIP.search(text):
        return Product(evidence=found[0].rstrip("_"), platform="NAIP")
    if found := _MODIS.search(text):
        return Product(evidence=found[0], platform=f"MODIS {'surface' if found[1] == '09' else 'nadir'}")
    if found := _VIIRS.search(text) or _HLS.search(text):
        return Product(evidence=found[0].rstrip("."), platform="HLS" if found[0].startswith("HLS") else "VIIRS")
    return None


def _by_facts(facts: Facts) -> Product | None:
    found = _PLATFORM.match(facts.platform.strip())
    level = re.search(r"L[12]", facts.level.upper()) or re.search(r"(?<=MSI)[12](?=[AC])", facts.level.upper())
    if not found:
        return None
    platform = f"Landsat {found[2]}" if found[1].lower() == "landsat" else f"Sentinel-{found[2]}"
    return Product(
        evidence=" ".join(text for text in (facts.platform, facts.level) if text), platform=platform,
        level=f"L{level[0][-1]}" if level else None,
    )  # fmt: skip


def preset_of(products: Sequence[Product]) -> Sensor | None:
    """The preset whose bands are those of all products named, if there is one only as far as its bands go."""
    if not any(product.level for product in products):
        return None
    fitting = [one for one in SENSORS.values() if all(_agrees(one, product) for product in products)]
    names = {tuple((band.source, band.name) for band in one.bands) for one in fitting}
    return fitting[0] if len(names) == 1 else None


def refuse_contradiction(sensor: Sensor, products: Sequence[Product]) -> None:
    """Refuse a preset for files that say they are another product.

    Raises:
        SceneError: naming what says so, both products, and the presets that describe it.
    """
    product = next((one for one in products if not _agrees(sensor, one)), None)
    if product is None:
        return
    better = [f"`sensor={one.name}`" for one in SENSORS.values() if _agrees(one, product)]
    raise SceneError(
        f"{product.evidence} is {product.describe()}, and `sensor={sensor.name}` describes {sensor.title}; "
        + (f"take {' or '.join(better)}" if better else "there is no preset for it")
        + ", or say what bands and values are by `bands`, `scale`, `offset` and `quantity`"
    )


def _agrees(sensor: Sensor, product: Product) -> bool:
    return product.platform in sensor.platforms and (
        None in (sensor.level, product.level) or sensor.level == product.level
    )


def offer(
    files: Sequence[tuple[Header, Sequence[str]]], products: Sequence[Product], span: tuple[float, float] | None = None
) -> tuple[str, ...]:
    """Names of the presets that may describe files of unknown scale, the best fit first.

    Args:
        files: headers, each with the names that stand for its band: the asset's key, the file's stem.
        span: between which most stored values of an image band lie.
    """
    scores = {name: _fit(one, files, products) * _likely(one, span) for name, one in SENSORS.items()}
    return tuple(sorted((name for name, score in scores.items() if score > 0), key=lambda name: -scores[name]))


def _fit(sensor: Sensor, files: Sequence[tuple[Header, Sequence[str]]], products: Sequence[Product]) -> float:
    """0 where the preset cannot be meant: another product, another type of values, or no band in common."""
    if not all(_agrees(sensor, product) for product in products):
        return 0.0
    if not any(dtype in sensor.dtypes for header, _ in files for dtype in header.dtypes):
        return 0.0
    known = n_bands = 0.0
    for header, names in files:
        n_bands += header.count
        if header.count > 1 and not any(header.descriptions):
            known += 0.5 * header.count if sensor.in_order(header.count) else 0.0
            continue
        for description in header.descriptions:
            texts = [text for text in (description, *(names if header.count == 1 else ())) if text]
            if common := next((text.lower() for text in texts if text.lower() in COMMON_NAMES), None):
                known += 0.75 if sensor.by_name(common) else 0.0  # a name that all sensors have says less
            elif any(sensor.find(text) for text in texts):
                known += 1
    declared = {value for header, _ in files for value in header.nodata if value is not None}
    says_fill = 0.1 if sensor.fill is not None and declared == {sensor.fill} else 0.0
    return known / n_bands + says_fill + (1.0 if products else 0.0) if known or products else 0.0


def _likely(sensor: Sensor, span: tuple[float, float] | None) -> float:
    """How well stored values lie in what the product's reflectance makes of 0 to 1; 0 where it does not allow them."""
    if span is None:
        return 1.0
    if (span[0] < sensor.valid[0] - 1 and span[0] != sensor.fill) or span[1] > sensor.valid[1]:
        return 0.0
    bands = [band for band in sensor.bands if band.reflects and band.scale != 1.0]
    if not bands or sensor.wants_sun:
        return 1.0
    low, high = (value * bands[0].scale + bands[0].offset for value in span)
    return 1.0 if low > -0.05 and high < 1.2 else 0.3
