"""The report of an evaluation as one HTML page that needs nothing beside it: no script, no font, no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.error_map import legend
from earthloom.jobs.learning.report import AREAS_OF_ALL, AREAS_OF_SAMPLE
from earthloom.jobs.products.areas import area_text, area_unit
from earthloom.tiling.encoding import NODATA

_SHOWN_SCENES = 12  # pictures of scenes

STYLE = """
:root{--ink:#1b222c;--quiet:#60707f;--line:#dde2e7;--paper:#fff;--tint:#f4f6f8;--accent:#1f6fb4}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 24px 60px}h1{font-size:26px;margin:0 0 2px}
h2{font-size:18px;margin:38px 0 10px;padding-bottom:6px;border-bottom:1px solid var(--line)}
p{margin:6px 0;color:var(--quiet);max-width:78ch}.cards{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}
.card{background:var(--tint);border-radius:8px;padding:10px 16px;min-width:130px}.card b{display:block;font-size:24px}
.card span{color:var(--quiet);font-size:13px}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:5px 12px;text-align:right;border-bottom:1px solid var(--line)}th{font-weight:600;color:var(--quiet)}
th{font-size:13px}.wide td{white-space:nowrap}th:first-child,td:first-child{text-align:left}td.n{font-weight:600}
.wide{overflow-x:auto}
i.s{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:7px;vertical-align:-1px;border:1px solid #0002}
.bar{display:inline-block;height:9px;background:var(--accent);border-radius:2px;vertical-align:1px}
figure{margin:0 0 18px}figcaption{color:var(--quiet);font-size:13px;margin-top:4px}img{max-width:100%}
img{border:1px solid var(--line)}
.two>div{flex:1;min-width:300px}.two{display:flex;flex-wrap:wrap;gap:32px;align-items:flex-start}.scenes{display:flex;flex-wrap:wrap;gap:20px}
.scenes figure{max-width:100%}.scenes img{max-width:min(480px,100%);image-rendering:pixelated}
.legend{font-size:13px;columns:240px}
.note{border-left:3px solid #d98c00;padding-left:10px}
text{font:12px system-ui,sans-serif;fill:var(--quiet)}
@media screen and (max-width:50rem){figure.wide img{max-width:none;width:700px}}
@media print{@page{size:A4;margin:14mm;@bottom-right{content:counter(page) " / " counter(pages);font:9px system-ui,sans-serif}}
main{max-width:none;padding:0}h2{break-after:avoid}figure,tr,.card{break-inside:avoid}
.wide{overflow:visible}*{print-color-adjust:exact}th,td{padding:3px 6px;font-size:11px}
td{white-space:nowrap}img{max-height:230mm}}
"""


def page(report: Mapping[str, Any], thumbnails: Mapping[str, NDArray[np.uint8]], pictures: Sequence[bytes]) -> str:
    """The page.

    Args:
        report: report that `jobs.learning.report.document` made, with `worst`.
        thumbnails: by scene id, (rows, columns) reduced error maps.
        pictures: PNG files, one for each entry of `report["worst"]`.
    """
    body = (
        _head(report), _classes(report), _confusion(report), _calibration(report["calibration"]), _areas(report["areas"]),
        _places("Scenes", report["scenes"]), _places("Regions", report["regions"]), _maps(report, thumbnails),
        _worst(report, pictures), _sources(report),
    )  # fmt: skip
    return html(f"{report['model']}: evaluation", "\n" + "".join(body))


def html(title: str, body: str) -> str:
    """A page of this look; `body` is HTML."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><main>{body}</main></body></html>\n"
    )


def _head(report: Mapping[str, Any]) -> str:
    averages, intervals = report["averages"], report["intervals"]

    def card(name: str, value: float, ends: Sequence[float] | None = None) -> str:
        within = f"<br>{ends[0]:.3f} to {ends[1]:.3f}" if ends else ""
        return f'<div class="card"><b>{value:.3f}</b><span>{name}{within}</span></div>'

    cards = (
        card("accuracy", report["accuracy"], intervals and intervals["accuracy"]),
        card("mean IoU", averages["macro"]["iou"], intervals and intervals["mean_iou"]),
        card("macro F1", averages["macro"]["f1"]), card("kappa", report["kappa"]),
        *([card("calibration error (ECE)", report["calibration"]["ece"])] if report["calibration"] else []),
    )  # fmt: skip
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in report["notes"])
    n, scenes = report["pixels"]["scored"], len(report["scenes"])
    how = (
        f"; 95 % intervals by bootstrap over {intervals['blocks']} blocks of {report['block_px']} px"
        if intervals
        else ""
    )
    return (
        f"<h1>{escape(report['model'])}</h1><p>{n:,} pixels with labels of {scenes} scene{'s' * (scenes != 1)}{how}"
        f'</p><div class="cards">{"".join(cards)}</div>{notes}\n'
    )


def swatch(color: str, name: str) -> str:
    """A line of a legend."""
    return f'<i class="s" style="background:{escape(color)}"></i>{escape(name)}'


def _classes(report: Mapping[str, Any]) -> str:
    rows, intervals = [], report["intervals"]
    for name, color in zip(report["classes"], report["colors"], strict=True):
        scores = report["scores"][name]
        ends = f"{intervals['iou'][name][0]:.3f} to {intervals['iou'][name][1]:.3f}" if intervals else ""
        rows.append(
            f"<tr><td>{swatch(color, name)}</td>"
            + "".join(f"<td>{scores[score]:.3f}</td>" for score in ("precision", "recall", "f1"))
            + f'<td class="n">{scores["iou"]:.3f}</td><td>{ends}</td><td>{scores["support"]:,}</td></tr>'
        )
    for name, found in report["averages"].items():
        cells = "".join(f"<td>{found[score]:.3f}</td>" for score in ("precision", "recall", "f1", "iou"))
        rows.append(f"<tr><td>{name} average</td>{cells}<td></td><td>{report['pixels']['scored']:,}</td></tr>")
    head = "".join(f"<th>{text}</th>" for text in ("class", "precision", "recall", "F1", "IoU", "interval", "support"))
    return f'<h2>Classes</h2><div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>\n'


def _confusion(report: Mapping[str, Any]) -> str:
    names = report["classes"]
    head = "<th>label \\ map</th>" + "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for name, color, counts in zip(names, report["colors"], report["confusion"], strict=True):
        total = max(1, sum(counts))
        cells = "".join(
            f'<td style="background:rgba({"31,111,180" if names[j] == name else "214,39,40"},{0.55 * n / total:.3f})" '
            f'title="{100 * n / total:.1f} % of {escape(name)}">{n:,}</td>'
            for j, n in enumerate(counts)
        )
        rows.append(f"<tr><td>{swatch(color, name)}</td>{cells}</tr>")
    return (
        f'<h2>What is taken for what</h2><div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'
        "<p>Pixels, by class of the label (row) and of the map (column); the colour is the share of the row.</p>\n"
    )


def _calibration(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    side, low = 260, 40
    total = sum(part["pixels"] for part in found["curve"])
    bars, n = [], len(found["curve"])
    for i, part in enumerate(found["curve"]):
        if part["pixels"]:
            x, height = low + side * i / n, side * part["accuracy"]
            bars.append(
                f'<rect x="{x + 1:.1f}" y="{10 + side - height:.1f}" width="{side / n - 2:.1f}" height="{height:.1f}" '
                f'fill="#1f6fb4" opacity="{0.35 + 0.65 * (part["pixels"] / total) ** 0.5:.2f}"><title>confidence '
                f"{part['confidence']:.3f}, right {part['accuracy']:.3f}, {part['pixels']:,} px</title></rect>"
            )
    ticks = "".join(
        f'<text x="{low + side * t:.0f}" y="{side + 27}" text-anchor="middle">{t:g}</text>'
        f'<text x="{low - 6}" y="{10 + side * (1 - t) + 4:.0f}" text-anchor="end">{t:g}</text>'
        for t in (0, 0.5, 1)
    )
    svg = (
        f'<svg width="{side + 60}" height="{side + 50}" role="img"><rect x="{low}" y="10" width="{side}" height="{side}" '
        f'fill="none" stroke="#dde2e7"/>{"".join(bars)}<line x1="{low}" y1="{10 + side}" x2="{low + side}" y2="10" '
        f'stroke="#60707f" stroke-dasharray="4 4"/>{ticks}<text x="{low + side / 2}" y="{side + 44}" text-anchor="middle">'
        f'confidence</text><text transform="translate(12 {10 + side / 2}) rotate(-90)" text-anchor="middle">share that is '
        "right</text></svg>"
    )
    over = "more confident than it is right" if found["temperature"] > 1 else "less confident than it is right"
    return (
        f'<h2>Calibration</h2><div class="two">{svg}<div><table><tr><td>ECE, 15 bins</td><td>{found["ece"]:.4f}</td></tr>'
        f"<tr><td>largest gap</td><td>{found['mce']:.4f}</td></tr><tr><td>log loss of being right</td>"
        f"<td>{found['nll']:.4f}</td></tr><tr><td>temperature</td><td>{found['temperature']:.3f}</td></tr>"
        f"<tr><td>log loss at it</td><td>{found['nll_at_temperature']:.4f}</td></tr></table><p>The map is {over}. The "
        f"temperature is that of {escape(found['temperature_of'])}, fitted to the published confidence; the probabilities "
        "of the other classes are not published. Darker bars hold more pixels.</p></div></div>\n"
    )


def _areas(areas: Mapping[str, Any]) -> str:
    if not areas["classes"]:
        return f"<h2>Areas</h2><p>Not estimated: {escape(areas['unknown'])}.</p>\n"

    def share(found: Sequence[float | None]) -> str:
        return f"{found[0]:.3f}" + ("" if found[1] is None else f" ± {found[1]:.3f}")

    rows = []
    for name, row in areas["classes"].items():
        area, half = row["area_m2"]
        unit = area_unit(max(area, row["mapped_m2"]))
        cells = (
            area_text(row["mapped_m2"], unit), f"<b>{area_text(area, unit)}</b>",
            "" if half is None else f"± {area_text(half, unit)}", share(row["users"]), share(row["producers"]),
        )  # fmt: skip
        rows.append(f"<tr><td>{escape(name)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = "".join(
        f"<th>{text}</th>"
        for text in ("class", "mapped", "by the labels", "95 %", "user's accuracy", "producer's accuracy")
    )
    how = AREAS_OF_ALL if areas["census"] else AREAS_OF_SAMPLE
    return (
        f'<h2>Areas</h2><div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div><p>{how[0].upper()}{how[1:]}. '
        f"Overall accuracy by area {share(areas['overall'])}.</p>\n"
    )


def _places(title: str, places: Mapping[str, Mapping[str, Any]]) -> str:
    if not places or (title == "Scenes" and len(places) < 2):
        return ""
    names = list(next(iter(places.values()))["scores"])
    head = "".join(
        f"<th>{escape(text)}</th>"
        for text in (title.lower()[:-1], "pixels", "accuracy", "mean IoU", *(f"IoU {name}" for name in names))
    )
    rows = []
    for name, found in places.items():
        if not found["pixels"]:
            rows.append(f"<tr><td>{escape(name)}</td><td>0</td>{'<td></td>' * (len(names) + 2)}</tr>")
            continue
        values = (found["accuracy"], found["averages"]["macro"]["iou"], *(found["scores"][c]["iou"] for c in names))
        cells = "".join(f"<td>{value:.3f}</td>" for value in values)
        rows.append(f"<tr><td>{escape(name)}</td><td>{found['pixels']:,}</td>{cells}</tr>")
    return f'<h2>{title}</h2><div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>\n'


def _maps(report: Mapping[str, Any], thumbnails: Mapping[str, NDArray[np.uint8]]) -> str:
    entries = legend(tuple(report["classes"]))
    figures = "".join(
        f'<figure><img alt="errors of {escape(name)}" src="{data_url(_png(errors, entries))}">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for name, errors in list(thumbnails.items())[:_SHOWN_SCENES]
    )
    there = {int(value) for errors in thumbnails.values() for value in np.unique(errors)}
    key = "".join(
        f"<div>{swatch('#{:02x}{:02x}{:02x}'.format(*color), text)}</div>"
        for value, (text, color) in entries.items()
        if value in there
    )
    more = len(thumbnails) - _SHOWN_SCENES
    rest = f"<p>and {more} more scenes, whose error maps lie beside this page</p>" if more > 0 else ""
    return f'<h2>Where it is wrong</h2><div class="scenes">{figures}</div>{rest}<div class="legend">{key}</div>\n'


def _png(errors: NDArray[np.uint8], entries: Mapping[int, tuple[str, tuple[int, int, int]]]) -> bytes:
    from PIL import Image

    palette = np.zeros((256, 4), np.uint8)
    for value, (_, color) in entries.items():
        palette[value] = (*color, 255)
    palette[NODATA] = 0
    buffer = io.BytesIO()
    Image.fromarray(palette[errors]).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def data_url(png: bytes) -> str:
    """A picture as an address that holds all of it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _worst(report: Mapping[str, Any], pictures: Sequence[bytes]) -> str:
    if not pictures:
        return ""
    figures = "".join(
        f'<figure><img alt="" src="{data_url(png)}"><figcaption>{escape(place["scene"])}, column {place["col_off"]}, row '
        f"{place['row_off']}: {place['wrong_px']:,} of {place['scored_px']:,} px wrong</figcaption></figure>"
        for place, png in zip(report["worst"], pictures, strict=True)
    )
    key = "".join(
        f"<div>{swatch(color, name)}</div>" for name, color in zip(report["classes"], report["colors"], strict=True)
    )
    return f'<h2>Worst places</h2>{figures}<div class="legend">{key}</div>\n'


def _sources(report: Mapping[str, Any]) -> str:
    match = ", ".join(f"{name} as {to}" for name, to in report["match"].items() if name != to)
    n = report["pixels"]
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(reference)}</td><td>{escape(report['maps'][name])}</td></tr>"
        for name, (reference, _) in report["labels"].items()
    )
    matched = f"<p>Classes of the model are scored as others: {escape(match)} (- is not scored).</p>" if match else ""
    return (
        f"<h2>What was compared</h2>{matched}<p>{n['unlabelled']:,} mapped pixels have no label; {n['unmapped']:,} pixels with "
        f"a label have no data in the map; {n['left_out']:,} pixels with a label are of classes that are not scored.</p>"
        f'<div class="wide"><table><tr><th>scene</th><th>labels</th><th>map</th></tr>{rows}</table></div>\n'
    )
