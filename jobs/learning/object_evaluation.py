"""`earthloom evaluate` of a detector: the published objects of whole scenes against what was marked there.

Average precision is COCO's (`jobs.learning.detection_scores`). Objects whose middle lies where the scene has no data, or
where a later mask hides it, are neither wanted nor counted. Knows nothing of networks.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning import object_report
from earthloom.jobs.learning.boxes import BoxLabels, Marked, box_source, picture_of
from earthloom.jobs.learning.detection_scores import Boxes, Compared
from earthloom.jobs.learning.labels import LabelClass, LabelOptions
from earthloom.jobs.learning.options import EvaluateConfig
from earthloom.jobs.learning.training_notes import training_notes
from earthloom.jobs.learning.worst import published_layer
from earthloom.jobs.learning.worst_objects import picture, worst_objects
from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products.object_tables import sides_m
from earthloom.jobs.products.objects import HEAT
from earthloom.jobs.records.canonical import digest
from earthloom.jobs.records.names import DATA
from earthloom.models.cards.card import ModelCard
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.preflight import inspect_apart
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.redact import redact
from earthloom.tiling.scene import Scene
from earthloom.tiling.storage.store import Store
from earthloom.tiling.writing.zarr_sink import open_array

_OF_PIXELS = ("match", "background", "label_band", "regions")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSetup:
    """The marked objects that published ones are compared with, by scene id."""

    card: ModelCard
    labels: Mapping[str, BoxLabels]
    references: Mapping[str, str]


def prepare_objects(config: EvaluateConfig, plans: Sequence[ScenePlan], references: Mapping[str, str]) -> ObjectSetup:
    """Open the files of marked objects; their classes have the names of the detector's.

    Args:
        config: what was asked for.
        plans: plans of the scenes that are mapped, all by one detector.
        references: references of the labels, by scene id.

    Raises:
        ConfigError: if an option speaks of pixels, or a file is a raster.
        SceneError: if a file cannot be read, or holds other classes.
        StorageError: if the storage failed.
    """
    card = plans[0].card
    if given := [name for name in _OF_PIXELS if getattr(config, name)]:
        raise ConfigError(f"{card.label} finds objects, and `{given[0]}` speaks of pixels; leave it out")
    stored = config.stored_by_class
    classes = tuple(
        LabelClass(value=each.value, name=each.name, stored=tuple(stored.get(each.name, (each.name,))))
        for each in card.classes
    )
    if strange := sorted(set(stored) - {each.name for each in classes}):
        raise ConfigError(f"`label_classes` names {strange[0]}; {card.label} finds {', '.join(card.gives)}")
    options = LabelOptions(
        classes=classes, class_column=config.class_column, ignore=config.ignored, layer=config.label_layer
    )
    pictures = _pictures([plan.scene for plan in plans])
    labels = {name: box_source(references[name], options, name, picture) for name, picture in pictures.items()}
    return ObjectSetup(card=card, labels=labels, references=references)


def _pictures(scenes: Sequence[Scene]) -> dict[str, Grid]:
    """The grid whose pixels COCO counts in, by scene id."""
    found = {scene.id: scene.grid for scene in scenes}
    if moved := [scene for scene in scenes if all(band.resampling for band in scene.bands)]:
        with Disposables(1) as inspectors:
            for scene in moved:
                assets = dict.fromkeys(scene.assets[band.asset] for band in scene.bands)
                found[scene.id] = picture_of(scene, [inspect_apart(inspectors, asset).grid for asset in assets])
    return found


def evaluate_objects(
    config: EvaluateConfig, store: Store, plans: Sequence[ScenePlan], setup: ObjectSetup
) -> tuple[dict[str, Any], str, tuple[str, ...]]:
    """Compare every scene and write the reports below `OUT/evaluations/`.

    Returns:
        What report.json holds, what report.txt holds, and where both lie.

    Raises:
        SceneError, StorageError: if something published or marked cannot be read.
    """
    product, ids = plans[0].product, [plan.scene.id for plan in plans]
    facts: dict[str, Any] = {
        "model": product, "card_sha256": [card.digest() for card in plans[0].cards],
        "labels": {name: [redact(setup.references[name]), setup.labels[name].identity] for name in ids},
        "objects": {plan.scene.id: plan.prefix for plan in plans},
        "notes": training_notes(plans),
    }  # fmt: skip
    options = setup.labels[ids[0]].options.model_dump(mode="json")
    key = digest({**facts, "sizes": config.sizes, "worst": config.worst, "label_options": options})
    pictures, hidden = {}, 0
    for plan in plans:
        pictures[plan.scene.id], left_out = _compared(store, plan, setup)
        hidden += left_out
    made = object_report.document(pictures, setup.card, sizes=config.sizes, hidden=hidden, facts=facts)
    by_id = {plan.scene.id: plan for plan in plans}
    worst = worst_objects(pictures, {name: plan.grid.window for name, plan in by_id.items()}, config.worst)
    made["worst"] = [place.to_dict() for place in worst]
    drawn = [
        picture(plan, place, pictures[place.scene_id], published_layer(store, plan, HEAT, place.shown))
        for place in worst
        for plan in [by_id[place.scene_id]]
    ]
    text = object_report.text(made)
    folder = f"evaluations/{product}/{key[:16]}"
    outputs = {
        "report.json": json.dumps(made, indent=1).encode(), "report.txt": text.encode(),
        "report.html": object_report.page(made, text, drawn).encode(),
    }  # fmt: skip
    for name, data in outputs.items():
        store.put(f"{folder}/{name}", data)
    base = store.ref.url.rstrip("/")
    return made, text, tuple(f"{base}/{folder}/{name}" for name in reversed(outputs))


def _compared(store: Store, plan: ScenePlan, setup: ObjectSetup) -> tuple[Compared, int]:
    """The published objects of a scene and the marked ones, and how many of the latter lie where nothing is decided."""
    import geopandas

    table = geopandas.read_parquet(io.BytesIO(store.get(f"{plan.prefix}/{plan.product}.parquet")))
    corner, size = (
        table[list(names)].to_numpy(np.float64) for names in (("left_px", "top_px"), ("width_px", "height_px"))
    )
    values = {each.name: each.value for each in setup.card.classes}
    found = Boxes(
        edges=np.concatenate([corner, corner + size], axis=1), scores=table["score"].to_numpy(np.float64),
        classes=np.array([values[name] for name in table["class"]], np.int64), areas=table["area_m2"].to_numpy(np.float64),
    )  # fmt: skip
    labels = setup.labels[plan.scene.id]
    middles = (found.edges[:, :2] + found.edges[:, 2:]) / 2
    found = found.chosen(~labels.in_crowd(plan.grid, middles))
    marked = labels.marked(plan.grid)
    known = _is_known(store, plan, marked)
    true = marked.chosen(known)
    across, along = sides_m(plan.grid, true.edges)
    return (found, Boxes(edges=true.edges, classes=true.classes, areas=across * along)), int((~known).sum())


def _is_known(store: Store, plan: ScenePlan, marked: Marked) -> NDArray[np.bool_]:
    """(n,) whether the map decides the pixel in the middle of each object; those beyond the scene's edge are not."""
    heat = open_array(store.zarr(f"{plan.prefix}/{DATA}", read_only=True), 0, HEAT)
    grid = plan.grid
    known = np.zeros(len(marked.classes), np.bool_)
    for number, (col, row) in enumerate(marked.centres.tolist()):
        if 0 <= col < grid.width and 0 <= row < grid.height:
            known[number] = int(np.asarray(heat[row, col])) != NODATA
    return known
