"""One page about a monitored area: how much of what there is, how it became so, and pictures; it needs nothing beside it.

Knows nothing of how areas are monitored: it reads the cube.
"""

from __future__ import annotations

import base64
import json
import posixpath
from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.analysis.export import picture
from earthloom.jobs.analysis.extract import Extract, extract
from earthloom.jobs.learning.report_page import html
from earthloom.jobs.monitoring.linking import area_hrefs
from earthloom.jobs.monitoring.questions import chosen_maps
from earthloom.jobs.monitoring.series.plot import series_png
from earthloom.jobs.monitoring.series.series import Moment, series_table
from earthloom.jobs.monitoring.series.stage import read_steps
from earthloom.jobs.products.areas import area_text, area_unit, percent_text
from earthloom.jobs.records.names import ITEM
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.grid import pixel_areas_m2
from earthloom.tiling.storage.store import Store

if TYPE_CHECKING:
    import geopandas as gpd

LIVING = ("confirmed", "provisional")
"""States of alerts that are told."""
_MOST_ALERTS = 50
_ALERT_COLUMNS = (
    "rule", "change", "state", "first seen", "last seen", "dates", "area", "confidence", "latitude, longitude",
)  # fmt: skip


def area_report(store: Store, product: str, aoi: str) -> str:
    """The page, as HTML.

    Args:
        store: on OUT.
        product: as `collections/` has it.
        aoi: name of a monitored area.

    Raises:
        ConfigError: if there is no such area or product.
        StorageError: if something cannot be read.
    """
    maps = chosen_maps(store, product, aoi=aoi)
    first, last = (extract(store, one) for one in (maps[0], maps[-1]))
    cube = maps[0].cube
    assert cube is not None, "the maps of an area are dates of its cube"
    moments = read_steps(store, cube)
    became = transitions_m2(first, last)
    title, alerts = f"{aoi}: {product}", alerts_of(store, cube.prefix.partition("/generations/")[0])
    body = [
        f"<h1>{escape(title)}</h1><p>{len(moments)} date{'s' * (len(moments) != 1)}, {moments[0].period} to "
        f"{moments[-1].period}; {last.grid.width} × {last.grid.height} px of {last.grid.gsd_m():.3g} m, "
        f"{escape(last.grid.crs)}. Areas are true areas on the ellipsoid.</p>",
        _cards(moments, gained_m2(became)),
        "<h2>Maps</h2>",
        _figure(
            picture(last, f"{aoi}, {last.name}", None if alerts is None else alerts.geometry),
            f"{last.name}, the latest date" + (", with the alerts" if alerts is not None else ""),
        ),
    ]  # fmt: skip
    if len(moments) > 1:
        body.append(_figure(picture(first, f"{aoi}, {first.name}"), f"{first.name}, the first date"))
    if alerts is not None:
        body += ["<h2>Alerts</h2>", _alert_table(alerts)]
    if len(moments) > 1:
        plot = series_png(series_table(moments), cube.classes, title)
        body += [
            "<h2>Over time</h2>", _figure(plot, "Area of each class on each date; hollow where part of the area is not known"),
            f"<h2>From {first.name} to {last.name}</h2>", _matrix(first, last, became),
        ]  # fmt: skip
    body += ["<h2>Numbers</h2>", _table(moments), "<h2>How it was made</h2>", _made_by(store, maps[-1].sources[0])]
    return html(title, f"\n{''.join(body)}\n")


def transitions_m2(first: Extract, last: Extract) -> NDArray[np.float64]:
    """True area by class before and after, (256, 256); 255 is no data.

    Args:
        first, last: of one grid.
    """
    found = np.zeros(256 * 256)
    for window in first.windows():
        (before, _), (after, _) = first.read(window), last.read(window)
        found += np.bincount(
            (before.astype(np.intp) << 8 | after).ravel(), weights=pixel_areas_m2(first.grid, window).ravel(),
            minlength=found.size,
        )  # fmt: skip
    return found.reshape(256, 256)


def gained_m2(became: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much more of each class there is on the later date, where both are known: what clouds hide has not gone. (255,)

    Args:
        became: `transitions_m2`.
    """
    known = became[:NODATA, :NODATA]
    return np.asarray(known.sum(axis=0) - known.sum(axis=1))


def alerts_of(store: Store, folder: str) -> gpd.GeoDataFrame | None:
    """The living alerts of all rules of an area's product, largest first, in longitude and latitude; None if there are none.

    The area's collection links those of the rules that the AOI file has now. Alerts of rules that it had before stay in
    storage, as they were then.

    Args:
        folder: folder of the product: `monitors/<aoi>/<product>/<key>`.

    Raises:
        PublishError: if the collection is damaged.
        StorageError: if something cannot be read.
    """
    import geopandas as gpd
    import pandas as pd

    _, aoi, below = folder.split("/", 2)
    views = sorted(posixpath.dirname(href) for href in area_hrefs(store, aoi) if href.startswith(f"./{below}/alerts/"))
    tables = [gpd.read_parquet(BytesIO(store.get(posixpath.normpath(f"monitors/{aoi}/{view}/alerts.parquet"))))
              for view in views]  # fmt: skip
    every = pd.concat(tables, ignore_index=True) if tables else None
    if every is None or not (living := every["state"].isin(LIVING)).any():
        return None
    return every[living].sort_values(["area_m2", "id"], ascending=[False, True]).reset_index(drop=True)


def _alert_table(alerts: gpd.GeoDataFrame) -> str:
    unit = area_unit(float(alerts["area_m2"].max()))
    shown = alerts.head(_MOST_ALERTS)
    lines: list[Sequence[object]] = [
        (
            row["rule"], f"{row['from']} → {row['to']}", row["state"], row["first_date"], row["last_date"], row["count"],
            area_text(row["area_m2"], unit), _share(row["confidence"]), f"{place.y:.4f}, {place.x:.4f}",
        )
        for (_, row), place in zip(shown.iterrows(), shown.representative_point(), strict=True)
    ]  # fmt: skip
    head = "".join(f"<th>{name}</th>" for name in _ALERT_COLUMNS)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in line)}</tr>" for line in lines)
    more = f" The {_MOST_ALERTS} largest of them:" if len(alerts) > _MOST_ALERTS else ""
    counts = ", ".join(f"{n} {state}" for state in LIVING if (n := int((alerts["state"] == state).sum())))
    return f'<p>{counts}.{more}</p><div class="wide"><table><thead><tr>{head}</tr></thead>{rows}</table></div>'


def _made_by(store: Store, result: str) -> str:
    """What the cards of a result's models say of themselves: what they make and miss, licence and source.

    Args:
        result: prefix below OUT of a result that the latest date was made of.
    """
    try:
        item = json.loads(store.get(f"{result}/{ITEM}"))
    except MissingObjectError:  # `gc` may have removed it since
        return f"<p>The latest date was made of {escape(result)}, which is no longer there.</p>"
    versions = item["properties"]["processing:software"]
    lines = [f"Earthloom {versions['earthloom']}, torch {versions['torch']}; the latest date by:"]
    for link in item["links"]:
        if "mlm:name" in link:
            lines.append(_about(store, posixpath.normpath(posixpath.join(result, link["href"])), link["mlm:name"]))
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _about(store: Store, path: str, name: str) -> str:
    """A model's version, what it makes and misses, licence and source, by its published card."""
    try:
        card = json.loads(store.get(path))["properties"]
    except MissingObjectError:
        return f"{name}, whose card {path} is no longer there."
    parts = (card["title"], card["description"], f"Licence of the model: {card['license']}", card.get("sci:citation"))
    return f"{name} {card['version']}: " + " ".join(f"{part.rstrip('.')}." for part in parts if part)


def _share(confidence: float | None) -> str:
    return "" if confidence is None or confidence != confidence else f"{100 * confidence:.0f} %"


def _cards(moments: Sequence[Moment], gained: NDArray[np.float64]) -> str:
    """What there is on the latest date, and how much it has become more or less since the first."""
    unit = area_unit(max(row["area_m2"] for row in moments[-1].areas))
    cards = []
    for now in moments[-1].areas:
        change = gained[now["value"]]
        sign = "+" if change >= 0 else "−"
        since = f"<br>{sign}{area_text(abs(change), unit)} since {moments[0].period}, where both are known"
        swatch = (
            f'<i class="s" style="background:{now["color"]}"></i>{escape(now["name"])}, {percent_text(now["percent"])}'
        )
        cards.append(
            f'<div class="card"><b>{area_text(now["area_m2"], unit)}</b><span>{swatch}{since * (len(moments) > 1)}</span></div>'
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _figure(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode()
    image = f'<img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
    return f'<figure class="wide">{image}<figcaption>{escape(caption)}</figcaption></figure>'


def _matrix(first: Extract, last: Extract, found: NDArray[np.float64]) -> str:
    classes = first.legend.classes
    unit = area_unit(max(found[a.value, b.value] for a in classes for b in classes))
    head = "".join(f"<th>{escape(one.name)}</th>" for one in classes)
    rows = "".join(
        f"<tr><td>{escape(one.name)}</td>"
        + "".join(f"<td>{area_text(found[one.value, other.value], unit)}</td>" for other in classes)
        + "</tr>"
        for one in classes
    )
    return (
        f"<p>What was the class of the row on {first.name} is the class of the column on {last.name}, where both dates are "
        f'known.</p><div class="wide"><table><tr><th></th>{head}</tr>{rows}</table></div>'
    )


def _table(moments: Sequence[Moment]) -> str:
    names = [row["name"] for row in moments[-1].areas]
    unit = area_unit(max(row["area_m2"] for one in moments for row in one.areas))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{one.period}</td>"
        + "".join(f"<td>{area_text(row['area_m2'], unit)}</td>" for row in one.areas)
        + f"<td>{area_text(sum(row['area_m2'] for row in one.areas), unit)}</td></tr>"
        for one in moments
    )
    return f'<div class="wide"><table><thead><tr><th>date</th>{head}<th>known</th></tr></thead>{rows}</table></div>'
