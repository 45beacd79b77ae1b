"""The report of an evaluation as plain data (`report.json`) and as text (`report.txt`). Knows nothing of pixels or files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.comparison import SceneCounts, add_up
from earthloom.jobs.learning.matching import Matching
from earthloom.jobs.learning.scores import (
    Z_95,
    Calibration,
    accuracy,
    area_estimates,
    averages,
    bootstrap,
    calibrate,
    class_scores,
    kappa,
    text_report,
)
from earthloom.jobs.products.areas import area_text, area_unit

FORMAT = 1
"""Version of report.json."""

AREAS_OF_SAMPLE = (
    "stratified estimator (Olofsson et al. 2014) with 95 % intervals, if the labels are a random sample within each class "
    "of the map; neighbouring pixels are not, and the interval is then too narrow"
)
AREAS_OF_ALL = "every pixel of the maps has a label, so there is no sampling error"

_SCORES = ("precision", "recall", "f1", "iou")


def document(
    counts: Mapping[str, SceneCounts], matching: Matching, *, mapped_m2: NDArray[np.float64], block_px: int,
    resamples: int, facts: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """All numbers of an evaluation.

    Args:
        counts: by scene id.
        matching: the K scored classes.
        mapped_m2: (K,) area that all maps together give each of them.
        block_px: side of the blocks in `counts`.
        resamples: number of resamples of the bootstrap over blocks; 0 for none.
        facts: about model, labels and scenes, that are put into the document as they are.
    """
    names, K = matching.names, len(matching.names)
    confusion = add_up(counts, K)
    histogram = np.sum([part.histogram for part in counts.values()], axis=0)
    blocks = [block for part in counts.values() for _, block in sorted(part.blocks.items())]
    intervals = bootstrap(np.stack(blocks), resamples=resamples) if resamples and blocks else None
    regions: dict[str, NDArray[np.int64]] = {}
    for part in counts.values():
        for name, matrix in part.regions.items():
            regions[name] = regions.get(name, np.zeros((K, K), np.int64)) + matrix
    return {
        "format": FORMAT, **facts, "classes": list(names), "colors": list(matching.colors), "match": matching.to_dict(),
        "pixels": {
            "scored": int(confusion.sum()),
            **{key: sum(getattr(part, f"{key}_px") for part in counts.values())
               for key in ("unlabelled", "unmapped", "left_out")},
        },
        "confusion": confusion.tolist(), **_scored(confusion, names), "intervals": _intervals(intervals, names, len(blocks)),
        "block_px": block_px, "calibration": _calibration(calibrate(histogram), matching),
        "areas": _areas(confusion, names, mapped_m2, census=not any(p.unlabelled_px + p.left_out_px for p in counts.values())),
        "scenes": {name: _brief(part.confusion, names) for name, part in sorted(counts.items())},
        "regions": {name: _brief(matrix, names) for name, matrix in regions.items()},
    }  # fmt: skip


def _scored(confusion: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    scores = class_scores(confusion)
    return {
        "accuracy": accuracy(confusion), "kappa": kappa(confusion), "averages": averages(confusion),
        "scores": {
            name: {score: float(getattr(scores, score)[number]) for score in _SCORES}
            | {"support": int(scores.support[number])}
            for number, name in enumerate(names)
        },
    }  # fmt: skip


def _brief(confusion: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    return {"confusion": confusion.tolist(), "pixels": int(confusion.sum()), **_scored(confusion, names)}


def _intervals(
    found: Mapping[str, NDArray[np.float64]] | None, names: Sequence[str], n_blocks: int
) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "blocks": n_blocks, "accuracy": found["accuracy"].tolist(), "mean_iou": found["mean_iou"].tolist(),
        **{score: dict(zip(names, found[score].tolist(), strict=True)) for score in ("iou", "f1")},
    }  # fmt: skip


def _calibration(found: Calibration | None, matching: Matching) -> dict[str, Any] | None:
    if found is None:
        return None
    two = len(matching.of_model) == 2 and not matching.merges
    return {
        "ece": found.ece, "mce": found.mce, "nll": found.nll, "temperature": found.temperature,
        "nll_at_temperature": found.nll_at_temperature,
        "temperature_of": "the model" if two else "the chosen class against all others",
        "curve": [
            {"pixels": int(n), "confidence": _number(c), "accuracy": _number(a)}
            for n, c, a in zip(found.pixels, found.confidence, found.accuracy, strict=True)
        ],
    }  # fmt: skip


def _areas(
    confusion: NDArray[np.int64], names: Sequence[str], mapped_m2: NDArray[np.float64], *, census: bool
) -> dict[str, Any]:
    """Areas by class, or why there are none; without intervals if every pixel of the maps has a label."""
    found = area_estimates(confusion, mapped_m2)
    if found is None:
        few = [name for name, area, n in zip(names, mapped_m2, confusion.sum(axis=0), strict=True) if area and n < 2]
        return {"unknown": f"the map's {', '.join(few) or 'classes'} have fewer than 2 labelled pixels", "classes": {}}

    def with_interval(value: float, se: float) -> list[float | None]:
        return [float(value), None if census else float(Z_95 * se)]

    return {
        "census": census, "overall": with_interval(found.overall, found.overall_se),
        "classes": {
            name: {
                "mapped_m2": float(found.mapped_m2[i]), "area_m2": with_interval(found.area_m2[i], found.area_se_m2[i]),
                "users": with_interval(found.users[i], found.users_se[i]),
                "producers": with_interval(found.producers[i], found.producers_se[i]),
            }
            for i, name in enumerate(names)
        },
    }  # fmt: skip


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def text(report: Mapping[str, Any]) -> str:
    """The report for a terminal. It begins with the table of scikit-learn's `classification_report`, to the digit."""
    names = report["classes"]
    confusion = np.array(report["confusion"], np.int64)
    parts = [
        text_report(confusion, names), _iou_text(report), _confusion_text(names, report["confusion"]),
        _calibration_text(report["calibration"]), _areas_text(report["areas"]),
        _places_text("scene", report["scenes"]), _places_text("region", report["regions"]), _pixels_text(report),
        *(f"note: {note}\n" for note in report["notes"]),
    ]  # fmt: skip
    return "\n".join(part for part in parts if part)


def _iou_text(report: Mapping[str, Any]) -> str:
    intervals = report["intervals"]
    width = max(12, *(len(name) for name in report["classes"]))

    def row(name: str, value: float, ends: Sequence[float] | None) -> str:
        return f"{name:>{width}s}  {value:>9.4f}" + (f"  {ends[0]:.4f} to {ends[1]:.4f}" if ends else "") + "\n"

    out = f"{'':>{width}s}  {'IoU':>9}" + ("  95 % interval\n\n" if intervals else "\n\n")
    for name, scores in report["scores"].items():
        out += row(name, scores["iou"], intervals and intervals["iou"][name])
    out += "\n" + row("mean IoU", report["averages"]["macro"]["iou"], intervals and intervals["mean_iou"])
    out += row("accuracy", report["accuracy"], intervals and intervals["accuracy"])
    out += row("kappa", report["kappa"], None)
    if intervals:
        out += f"\nintervals: bootstrap over {intervals['blocks']} blocks of {report['block_px']} px\n"
    return out


def _confusion_text(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    corner = "label \\ map"
    width = max(len(corner), *(len(name) for name in names))
    cell = max(9, *(len(name) for name in names), *(len(str(n)) for row in matrix for n in row))
    out = f"{corner:>{width}s} " + "".join(f" {name:>{cell}s}" for name in names) + "\n\n"
    for name, row in zip(names, matrix, strict=True):
        out += f"{name:>{width}s} " + "".join(f" {n:>{cell}}" for n in row) + "\n"
    return out


def _calibration_text(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    return (
        f"calibration: ECE {found['ece']:.4f} (15 bins), largest gap {found['mce']:.4f}; temperature of "
        f"{found['temperature_of']} {found['temperature']:.3f}, which takes the log loss of being right from "
        f"{found['nll']:.4f} to {found['nll_at_temperature']:.4f}\n"
    )


def _areas_text(areas: Mapping[str, Any]) -> str:
    if not areas["classes"]:
        return f"areas: not estimated, {areas['unknown']}\n"
    width = max(len(name) for name in areas["classes"])
    out = f"areas: {AREAS_OF_ALL if areas['census'] else AREAS_OF_SAMPLE}\n\n"
    for name, row in areas["classes"].items():
        area, half = row["area_m2"]
        unit = area_unit(max(area, row["mapped_m2"]))
        within = "" if half is None else f" ± {area_text(half, unit)}"
        out += f"{name:>{width}s}  {area_text(area, unit)}{within}, mapped {area_text(row['mapped_m2'], unit)}\n"
    return out


def _places_text(kind: str, places: Mapping[str, Mapping[str, Any]]) -> str:
    if len(places) < 1 + (kind == "scene"):  # of one scene everything has been said
        return ""
    width = max(len(kind), *(len(name) for name in places))
    out = f"{kind:>{width}s}  {'pixels':>12}  {'accuracy':>8}  {'mean IoU':>8}\n\n"
    for name, found in places.items():
        out += f"{name:>{width}s}  {found['pixels']:>12}  "
        if found["pixels"]:
            out += f"{found['accuracy']:>8.4f}  {found['averages']['macro']['iou']:>8.4f}"
        out = out.rstrip() + "\n"
    return out


def _pixels_text(report: Mapping[str, Any]) -> str:
    pixels = report["pixels"]
    return (
        f"{pixels['scored']} px scored; {pixels['unlabelled']} px have no label, {pixels['unmapped']} px with a label have "
        f"no data in the map, {pixels['left_out']} px are of classes that are left out\n"
    )
