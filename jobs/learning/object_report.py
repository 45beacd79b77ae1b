"""The report of a detector's evaluation: plain data (`report.json`), text (`report.txt`), and one page with both.

Knows nothing of files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.detection_scores import Compared, average_precision, counted
from earthloom.jobs.learning.report_page import data_url, html, swatch
from earthloom.jobs.learning.worst_objects import MISSED, RIGHT, WRONG
from earthloom.models.cards.card import ModelCard

FORMAT = 1
"""Version of report.json."""

_IOUS = (0.3, 0.5)
"""IoUs at which precision and recall are reported: a box that covers half of an object of a few pixels has found it."""


def document(
    pictures: Mapping[str, Compared], card: ModelCard, *, sizes: Sequence[float], hidden: int, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """All numbers of an evaluation.

    Args:
        pictures: by scene id, what was found and what is true.
        card: card of the detector.
        sizes: bounds in m² between sizes of objects; none: the thirds of the true ones.
        hidden: true objects that were left out, because nothing is decided where they lie.
        facts: put into the document as they are.
    """
    assert card.objects is not None
    every = [compared for _, compared in sorted(pictures.items())]
    areas = np.concatenate([true.areas for _, true in every])
    ranges = size_ranges(areas, sizes)
    return {
        "format": FORMAT, **facts, "classes": list(card.gives), "threshold": card.objects.threshold, "hidden": hidden,
        "sizes_m2": [[low, None if math.isinf(high) else high] for low, high in ranges],
        "scores": {name: _scores(every, value, ranges) for value, name in enumerate(card.gives)},
        "scenes": {
            name: {each: _brief([compared], value) for value, each in enumerate(card.gives)}
            for name, compared in sorted(pictures.items())
        },
    }  # fmt: skip


def size_ranges(true_m2: NDArray[np.float64], sizes: Sequence[float]) -> list[tuple[float, float]]:
    """Ranges of area in m², from 0 to infinity; without `sizes` each has about a third of the objects (n,)."""
    thirds = np.quantile(true_m2, (1 / 3, 2 / 3)).tolist() if len(true_m2) else []
    inner = list(sizes) or sorted({float(f"{area:.2g}") for area in thirds} - {0.0})
    edges = [0.0, *inner, math.inf]
    return list(pairwise(edges))


def _scores(every: Sequence[Compared], value: int, ranges: Sequence[tuple[float, float]]) -> dict[str, Any]:
    by_size = [
        {
            "true": sum(
                int(((true.classes == value) & (true.areas >= low) & (true.areas <= high)).sum()) for _, true in every
            ),
            **_precision(every, value, (low, high)),
        }
        for low, high in ranges
    ]
    return _brief(every, value) | {"by_size": by_size, "best": {str(iou): _best(every, value, iou) for iou in _IOUS}}


def _brief(every: Sequence[Compared], value: int) -> dict[str, Any]:
    return {
        "true": sum(int((true.classes == value).sum()) for _, true in every),
        "found": sum(int((found.classes == value).sum()) for found, _ in every),
        **_precision(every, value, (0.0, math.inf)),
        "published": {str(iou): _at(every, value, 0.0, iou) for iou in _IOUS},
    }


def _precision(every: Sequence[Compared], value: int, areas: tuple[float, float]) -> dict[str, float | None]:
    found = average_precision(every, value, areas=areas)
    known = not np.isnan(found[0])
    return {"ap50": float(found[0]) if known else None, "ap50_95": float(found.mean()) if known else None}


def _at(every: Sequence[Compared], value: int, score: float, iou: float) -> dict[str, float]:
    at = counted(every, value, least_score=score, iou=iou)
    return {"score": score, "precision": at.precision, "recall": at.recall, "f1": at.f1}


def _best(every: Sequence[Compared], value: int, iou: float) -> dict[str, float]:
    """Scores at the confidence with the highest F1, the lowest of equals; chosen on these objects, which flatters it."""
    scores = {0.0}
    for found, _ in every:
        scores |= set() if found.scores is None else set(np.round(found.scores[found.classes == value], 2).tolist())
    return max((_at(every, value, score, iou) for score in sorted(scores)), key=lambda at: at["f1"])


def text(report: Mapping[str, Any]) -> str:
    """The report for a terminal."""
    names = report["classes"]
    width = max(12, *(len(name) for name in (*names, *report["scenes"])))

    def number(value: float | None) -> str:
        return f"{'-' if value is None else format(value, '.4f'):>9}"

    heads = ("marked", "found", "AP50", "AP50-95", "precision", "recall", "f1-score")
    out = " " * width + "".join(f" {head:>9}" for head in heads) + "\n\n"
    rows = [(name, report["scores"][name]) for name in names]
    if len(report["scenes"]) > 1:
        rows += [
            (scene if len(names) == 1 else f"{scene} {name}", scores)
            for scene, found in report["scenes"].items() for name, scores in found.items()
        ]  # fmt: skip
    for name, scores in rows:
        at = scores["published"]["0.5"]
        columns = (scores["ap50"], scores["ap50_95"], at["precision"], at["recall"], at["f1"])
        out += f"{name:>{width}s} {scores['true']:>9} {scores['found']:>9} {' '.join(map(number, columns))}\n"
    out += (
        f"\nprecision, recall and F1 of all published objects, whose score is at least {report['threshold']:g}, at an "
        "intersection over union of 0.5; what is less sure is not published, so average precision ends there\n"
    )
    for name in names:
        out += "\n" + _class_text(name, report["scores"][name], report["sizes_m2"])
    if report["hidden"]:
        out += f"\n{report['hidden']} marked objects lie where nothing is decided, and are left out\n"
    return out + "".join(f"note: {note}\n" for note in report["notes"])


def _class_text(name: str, scores: Mapping[str, Any], ranges: Sequence[Sequence[float | None]]) -> str:
    out = f"{name}, by area\n"
    for (low, high), found in zip(ranges, scores["by_size"], strict=True):
        of = f"{low:,.0f} m² and more" if high is None else f"{low:,.0f} to {high:,.0f} m²"
        precision = (
            "none is marked" if found["ap50"] is None else f"AP50 {found['ap50']:.4f}, AP50-95 {found['ap50_95']:.4f}"
        )
        out += f"  {of}: {found['true']} marked, {precision}\n"
    for iou in map(str, _IOUS):
        every, best = scores["published"][iou], scores["best"][iou]
        out += (
            f"  at an intersection over union of {iou}: precision {every['precision']:.4f}, recall {every['recall']:.4f}; "
            f"best F1 {best['f1']:.4f} at score {best['score']:g}: precision {best['precision']:.4f}, recall "
            f"{best['recall']:.4f}\n"
        )
    return out


def page(report: Mapping[str, Any], text: str, pictures: Sequence[bytes]) -> str:
    """One HTML page that needs nothing beside it: the figures, the places with most mistakes, and the text.

    Args:
        report: report that `document` made, with `worst`.
        text: what report.txt holds.
        pictures: PNG files, one for each entry of `report["worst"]`.
    """
    title = f"{report['model']}: evaluation"
    cards = "".join(
        f'<div class="card"><b>{"-" if scores["ap50"] is None else format(scores["ap50"], ".3f")}</b>'
        f"<span>AP50 of {escape(name)}, {scores['true']} marked</span></div>"
        for name, scores in report["scores"].items()
    )
    return html(
        title,
        f'<h1>{escape(title)}</h1><div class="cards">{cards}</div><div class="wide"><pre>{escape(text)}</pre></div>'
        f"{_worst(report['worst'], pictures)}",
    )


def _worst(places: Sequence[Mapping[str, Any]], pictures: Sequence[bytes]) -> str:
    if not pictures:
        return ""
    figures = "".join(
        f'<figure><img alt="" src="{data_url(png)}"><figcaption>{escape(place["scene"])}, column {place["col_off"]}, row '
        f"{place['row_off']}: {place['missed']} missed, {place['wrong']} found where there is none, {place['right']} right"
        "</figcaption></figure>"
        for place, png in zip(places, pictures, strict=True)
    )
    key = "".join(
        f"<div>{swatch(color, words)}</div>"
        for color, words in (
            (RIGHT, "found"), (MISSED, "marked and not found"), (WRONG, "found where none is marked, or a second time")
        )
    )  # fmt: skip
    return f'<h2>Worst places</h2>{figures}<div class="legend">{key}</div>\n'
