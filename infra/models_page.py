"""`python -m infra.models_page`: docs/models.md, made from the cards of the zoo and the figures in docs/scores.json.

The pictures are made by `python -m infra.models_pictures`, which needs the real scenes.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from earthloom.models.cards.card import ModelCard
from earthloom.models.zoo import ZOO, indices

ROOT = Path(__file__).resolve().parents[1]
PAGE, SCORES, IMAGES = ROOT / "docs" / "models.md", ROOT / "docs" / "scores.json", ROOT / "docs" / "images"

_DETAILED = ("sr", "denoise")
_BASELINES = ("cubic", "the network as published", "3 x 3 mean", "best Gaussian", "Lee 5 x 5")
"""Methods that stand in the table to be compared with."""
_PICTURE = ("red", "green", "blue")
"""Bands of models for pictures, which files often leave without names."""
_UNSPOILT = "robustness"
"""The task whose baseline is the same model on unspoilt pixels, which is not there to be surpassed."""
BELOW = (
    (
        "sr", "NAIP wetlands, mean of 3", "PSNR gain",
        "grainy photographs of 1 m contain less detail to restore; the model is still better than cubic convolution",
    ),
    (
        "denoise", "NAIP wetlands, noise 0.5 %", "PSNR gain",
        "the goal is Lee's filter, given the true noise level; the picture has texture as faint as this noise",
    ),
    (
        "ships", "sen2ships", "at an intersection over union",
        "115 ships of four ports are few to learn from ([Detection](detection.md#ships))",
    ),
)  # fmt: skip
"""Task, parts of data and metric, and why such rows stand below their goal or baseline. No other row may."""
_ROUNDING = 1e-3
_FEW = 3  # figures of one kind that are told one by one
FAILS = {
    "ships": "it takes surf on a beach for a ship, and misses two ships along a quay (port of Durban, held back; "
    "sen2ships, MIT licence, contains modified Copernicus Sentinel data).",
    "landwater": "it takes a ship at the quay for water, and bright quays and roofs for cloud (port of Gdynia; sen2ships, MIT "
    "licence, contains modified Copernicus Sentinel data).",
    "water-index": "it takes some roofs, and the rims of white ones, for water (port of Durban; sen2ships, MIT licence, "
    "contains modified Copernicus Sentinel data).",
    "buildings": "it takes part of a sports field of sand for a roof (Kitsap County; splitraster, MIT licence, photograph by "
    "the U.S. Geological Survey).",
    "deforestation": "it takes a river in untouched forest for deforested ground (Amazon Rainforest dataset, Bragagnolo et al. "
    "2019, CC BY 4.0, contains modified Copernicus Sentinel data).",
}
"""What the picture of a failure shows, `fails-<name>.jpg`, and whose pixels they are."""
_HEAD = """# Models

These are the models of the zoo. Use each one alone, or as a stage of a chain:

```bash
earthloom run SCENE --model landwater --out maps --sensor sentinel2-l2a
earthloom run SCENE --mask-clouds --model sr-x2 --keep sr-x2 --model landwater --out maps --sensor sentinel2-l2a
earthloom run AFTER --before BEFORE --model flood --out maps --sensor sentinel2-l2a
earthloom run SCENE --model one+other --flips --out maps          # mean of two models over four mirror images
```

A chain processes each block in one pass on the device: halos add up, scales multiply, and images between stages are
stored only if `--keep` names them. To use your own model, [import](import.md) or [train](training.md) it.

`earthloom models show NAME` prints a model's card. `python -m infra.models_page` makes this page from the cards and from
the scores of `make scores`; [the scores](#measured) stand at its end.

| model | what it makes |
| --- | --- |
"""


_INDICES = """## Indices

An index is a model without weights: `--model ndvi` publishes an image of it, a COG and a Zarr like any other, and may be a
stage of a chain (`--mask-clouds --model ndvi`, `--model denoise --model nbr`). Its bands must be reflectance. Where an index
is undefined, as in a division by 0, it is nodata. Values are stored as int16 in steps of 0.0001 with nodata -32768; a value
beyond 3.2767 is nodata too.

Write any other index as an expression: `--model "index:(nir-red)/(nir+red)"`, stored as float32. Give it a name, and the
product and the band have that name: `--model "index:greenness=2*green-red-blue"`. An expression consists of numbers, bands by
their common names (`before_nir` for an earlier date), `+ - * / **`, parentheses, `min`, `max`, `abs`, `sqrt` and `log10`. It
is parsed and never run as code, and it is part of the result's key. The names are those of
[Awesome Spectral Indices](https://github.com/awesome-spectral-indices/awesome-spectral-indices).

| model | what it is | formula | stored as | source |
| --- | --- | --- | --- | --- |
"""


_LEARNED = """## Floods and fires, learned

These recipes train on data without a licence, so no weights of them ship. Whole events are held back: 42 of OMBRIA's 104
samples, from floods that were not used for training. Their pictures were looked at only to tell events apart; no setting was
chosen on them. A pixel counts as flooded from a probability of 0.5 on, for network and baseline alike.

| `infra/recipes` | sees | judged by | network | baseline: boosted trees; thresholds of dNBR |
| --- | --- | --- | --- | --- |
| `flood.toml` | Sentinel-1 and 2, two dates | mean IoU per sample | 0.414 ± 0.032 | 0.359 |
| `flood.toml` | Sentinel-1 and 2, two dates | IoU of all pixels | 0.413 ± 0.044 | 0.363 |
| `flood-radar.toml` | Sentinel-1, two dates | mean IoU per sample | 0.394 ± 0.005 | 0.371 |
| `flood-radar.toml` | Sentinel-1, two dates | IoU of all pixels | 0.339 ± 0.010 | 0.330 |
| `burn.toml` | infrared and dNBR, its four fires | mean IoU per fire | 0.767 ± 0.015 | published 0.601, the rule 0.803 |
| `burn.toml` | the same, the other four fires | mean IoU per fire | 0.784 ± 0.014 | published 0.783, the rule 0.798 |

± is the standard deviation over three seeds, trained by `earthloom train`. Unseen floods are harder: with every fourth
sample held back, whose neighbours show the same event, such a network trained twice as long reaches 0.54 ([below](#measured)).
From radar alone, a fall of the grey value over 5 x 5 px below a threshold chosen on the other events reaches 0.315. Learning
from four fires does not reach the rule of `burn-severity`, which therefore ships. Its thresholds were chosen on these fires,
but with thresholds chosen on the other fires it also has 0.79. All methods fail on the fire Campbell (0.35 with every seed,
0.34 with the rule). All figures are from one pass over a sample.
"""


def page() -> str:
    """The whole page."""
    scores: dict[str, list[dict[str, Any]]] = json.loads(SCORES.read_text()) if SCORES.exists() else {}
    named = {entry.name for entry in indices.ENTRIES}
    models = {name: entry.cards for name, entry in ZOO.items() if name not in named}
    rows = [f"| [`{name}`](#{name}) | {cards[0].title} |" for name, cards in models.items()]
    rows.append(f"| [{', '.join(f'`{name}`' for name in sorted(named))}](#indices) | Spectral indices as images |")
    parts = [_HEAD + "\n".join(rows) + "\n"]
    parts += [_entry(name, cards, scores) for name, cards in models.items()]
    parts.append(_INDICES + "\n".join(_index(entry.cards[0]) for entry in indices.ENTRIES) + "\n")
    parts.append(_LEARNED)
    if scores:
        parts.append("## Measured\n\n" + _scores(scores))
    return "\n".join(parts)


def _index(card: ModelCard) -> str:
    expression = str(card.kwargs["expression"]).removeprefix("(").removesuffix(")")
    note = card.description.rpartition(f"{card.name.upper()} = ")[0].strip()
    what = f"{card.title}. {note}" if note else card.title
    return f"| `{card.name}` | {what} | `{expression}` | {card.output_dtype} | {card.citation} |"


def _scores(scores: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        "These scores were measured on real scenes, with a baseline measured in the same run. `python -m tests.bench.scores",
        "TASK` measures one task again; [scores.json](scores.json) has all figures, scene by scene. Trained models are scored",
        "on data held back from training; constants of `sr`, `pansharpen` and `denoise` were chosen on crops of some of these",
        "scenes. The baseline of `robustness` is the same model on the unchanged pixels; that of `sr` is cubic convolution.",
        "`sr-x2` and `sr-x4` are softened for pixels that are means, as in satellite images; `sr-x2-sharp` and `sr-x4-sharp`",
        "are for images that were coarsened by cubic convolution.", "",
        "| task | data | method | metric | value | baseline | goal |", "| --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for task, rows in scores.items():
        for row in rows:
            if row["goal"] is None and (task in _DETAILED or row["baseline"] is None):
                continue  # single scenes and other baselines stand in docs/scores.json
            baseline = "" if row["baseline"] is None else f"{row['baseline']:.3g}"
            goal = "" if row["goal"] is None else f"≥ {row['goal']:.3g}"
            lines.append(
                f"| {task} | {row['data']} | {row['method']} | {row['metric']} | {row['value']:.3g} | {baseline} | {goal} |"
            )
    found: dict[str, list[str]] = {}
    for task, row in below(scores):
        text = f"  - {row['method']}, {row['data']}: {row['metric']} {row['value']:.3g}, {_missed(row)}"
        found.setdefault(reason_of(task, row), []).append(text)
    if found:
        lines += ["", "Of all figures, these are below a baseline or goal, for these reasons:", ""]
        lines += [line for reason, rows in found.items() for line in (f"- {reason[0].upper()}{reason[1:]}:", *rows)]
    return "\n".join(lines) + "\n"


def below(scores: dict[str, list[dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Task and row of each figure of ours that is worse than its baseline or goal, by more than rounding makes of it."""
    return [
        (task, row)
        for task, rows in scores.items()
        for row in rows
        if task != _UNSPOILT and not row["method"].startswith(_BASELINES) and _missed(row)
    ]


def reason_of(task: str, row: dict[str, Any]) -> str:
    """Why a row may stand below; empty where nobody said so."""
    return next(
        (why for of, data, metric, why in BELOW if of == task and data in row["data"] and metric in row["metric"]), ""
    )


def _missed(row: dict[str, Any]) -> str:
    """What a figure is worse than; empty where it is worse than nothing."""
    sign = -1 if "lower is better" in row["metric"] else 1
    return next(
        (
            f"{name} {row[name]:.3g}"
            for name in ("baseline", "goal")
            if row[name] is not None and sign * (row["value"] - row[name]) < -_ROUNDING * abs(row[name])
        ),
        "",
    )


def _judged(name: str, cards: tuple[ModelCard, ...], scores: dict[str, list[dict[str, Any]]]) -> list[str]:
    """By what and on what a model was judged: each figure, or of many the median and how far they spread, and the baseline."""
    labels = {name, *(card.label for card in cards)}
    lines = []
    for task, rows in scores.items():
        found: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if row["method"].split(",")[0].split(" ")[0] in labels and "mean of" not in row["data"]:
                found.setdefault(row["metric"], []).append(row)
        if found:
            lines += ["", f"Scores (`python -m tests.bench.scores {task}`):", ""]
        for metric, of_metric in found.items():
            values = [row["value"] for row in of_metric]
            baselines = [row["baseline"] for row in of_metric if row["baseline"]]
            if len(values) > _FEW:
                beside = f"; baseline {statistics.median(baselines):.3g}" if baselines else ""
                spread = f"from {min(values):.3g} to {max(values):.3g} on {len(values)} parts of the data"
                lines.append(f"- {metric}: median {statistics.median(values):.3g}, {spread}{beside}")
                continue
            for row in of_metric:
                beside = f"; baseline {row['baseline']:.3g}" if row["baseline"] else ""
                alike = sum(other["data"] == row["data"] for other in of_metric) > 1
                which = f"{row['method']}: " if alike else ""
                lines.append(f"- {which}{metric}, {row['data']}: {row['value']:.3g}{beside}")
    return lines or ["", "No reference was available to score it."]


def _meaning(cards: tuple[ModelCard, ...]) -> list[str]:
    """The classes and which of them a chain masks: once, or by variant where these differ."""
    variants: dict[tuple[str, str], list[str]] = {}
    for card in cards:
        classes = ", ".join(f"`{c.value}` {c.name} {c.color}" for c in card.classes)
        masks = ", ".join(card.classes[value].name for value in card.masks)
        variants.setdefault((classes, masks), []).append(card.variant)
    lines = []
    for (classes, masks), names in variants.items():
        of = f" of {', '.join(names)}" if len(variants) > 1 else ""
        if classes:
            lines += ["", f"Classes{of}: {classes}."]
        if masks:
            lines += ["", f"As a stage of a chain {'these mask' if of else 'it masks'} {masks}."]
    return lines


def _entry(name: str, cards: tuple[ModelCard, ...], scores: dict[str, list[dict[str, Any]]]) -> str:
    first = cards[0]
    lines = [f"## {name}", "", f"{first.title}. {first.description}", ""]
    for picture in sorted(IMAGES.glob(f"model-{name}.*")):
        lines += [f"![{first.title}](images/{picture.name})", ""]
    lines += ["| variant | bands | values | GSD | tiling | licence |", "| --- | --- | --- | --- | --- | --- |"]
    for card in cards:
        tiling = f"{card.overlap}, halo {card.halo_px} px, stride {card.stride_px}" + (
            f", scale {card.scale}" if card.scale > 1 else ""
        )
        lines.append(
            f"| {card.variant or name} | {', '.join(card.bands).replace('*', 'all optical bands')} | "
            f"{' or '.join(card.quantities)} | {card.gsd_m[0]:g}-{card.gsd_m[1]:g} m | {tiling} | {card.license} |"
        )
    if all(card.quantities == ("unit",) and card.bands == _PICTURE for card in cards):
        options = f"--model {name} --bands red=1,green=2,blue=3 --quantity unit"
        lines += ["", f"Use, where the file does not name its bands: `earthloom run SCENE {options} --out maps`"]
    lines += _meaning(cards)
    if first.citation:
        lines += ["", f"Source: {first.citation}"]
    if any(card.scores for card in cards):
        held_back = "; ".join(
            f"{card.label}: " + ", ".join(f"{k} {v:g}" for k, v in card.scores) for card in cards if card.scores
        )
        lines += ["", f"Held-back scores: {held_back}."]
    lines += _judged(name, cards, scores)
    if (IMAGES / f"fails-{name}.jpg").exists():
        lines += ["", f"Where it fails: {FAILS[name]}", "", f"![{name} fails](images/fails-{name}.jpg)"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
