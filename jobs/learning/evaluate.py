"""`earthloom evaluate`: map whole scenes as `run` does, and compare the published maps with labels.

What is published already is not computed again. Of a scene only counts are kept, whatever its size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.execution.driver import RunResult, run
from earthloom.jobs.execution.event import Event
from earthloom.jobs.intake.scenes import assign_ids, expand
from earthloom.jobs.learning import report
from earthloom.jobs.learning.chip_labels import ChipLabels, ChipRule
from earthloom.jobs.learning.comparison import SceneCounts, block_side_px, compare
from earthloom.jobs.learning.error_map import ErrorMap
from earthloom.jobs.learning.labels import (
    IGNORE,
    LabelClass,
    LabelOptions,
    LabelSource,
    RasterLabels,
    Stored,
    VectorLabels,
    classified,
    column_values,
    is_vector,
    label_source,
)
from earthloom.jobs.learning.matching import Matching, match
from earthloom.jobs.learning.object_evaluation import ObjectSetup, evaluate_objects, prepare_objects
from earthloom.jobs.learning.options import EvaluateConfig, label_references
from earthloom.jobs.learning.report_page import page
from earthloom.jobs.learning.training_notes import training_notes
from earthloom.jobs.learning.worst import Place, picture, published_layer, worst_places
from earthloom.jobs.planning.plan import RunPlan, ScenePlan
from earthloom.jobs.records.canonical import digest
from earthloom.jobs.records.names import CLASSES, CONFIDENCE
from earthloom.jobs.records.result import SceneSummary
from earthloom.models.cards.card import ModelCard
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.redact import redact
from earthloom.tiling.storage.store import Store, open_store

_MOST_REGIONS = IGNORE  # their numbers are read like labels
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores of a model on some scenes."""

    report: dict[str, Any]
    """What report.json holds; empty where no scene was mapped."""
    text: str
    """What report.txt holds."""
    files: tuple[str, ...]
    """Paths or URLs of the reports and error maps."""
    run: RunResult

    @property
    def exit_code(self) -> int:
        """Exit code of the run: 3 if some scenes could not be mapped, so that they are not in the scores."""
        return self.run.exit_code


def evaluate(
    config: EvaluateConfig, *, on_plan: Callable[[RunPlan], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Evaluation:  # fmt: skip
    """Map every scene of `config` and score the maps; reports go below `OUT/evaluations/`.

    Args:
        on_plan, on_event: as of `jobs.execution.driver.run`.

    Raises:
        ConfigError: if labels and scenes, or the classes of both sides, do not belong together. Before anything is mapped.
        SceneError: if labels cannot be read or hold what is no class.
        EngineError, StorageError: as `run` does.
    """
    prepared: list[tuple[RunPlan, _Setup | ObjectSetup]] = []

    def planned(made: RunPlan) -> None:
        if on_plan:
            on_plan(made)
        if made.scenes:
            card = made.scenes[0].card
            requests = assign_ids(expand(config.scenes, config.scene.alternate), config.scene.scene_id)
            references = label_references(config.labels, [request.id for request in requests])
            if card.kind == "objects":
                prepared.append((made, prepare_objects(config, made.scenes, references)))
            else:
                prepared.append((made, _prepare(config, card, references)))

    result = run(config, on_plan=planned, on_event=on_event)
    if not result.results:
        return Evaluation(report={}, text="", files=(), run=result)
    made, setup = prepared[0]
    done = [plan for plan in made.scenes if plan.scene.id in result.results]
    store = open_store(made.out)
    if isinstance(setup, ObjectSetup):
        report, text, files = evaluate_objects(config, store, done, setup)
        return Evaluation(report=report, text=text, files=files, run=result)
    return _evaluate(config, store, done, setup, result)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setup:
    """Labels and regions that are read beside the maps."""

    matching: Matching
    options: LabelOptions
    labels: Mapping[str, LabelSource]
    """Labels by scene id."""
    references: Mapping[str, str]
    regions: tuple[VectorLabels, tuple[str, ...]] | None
    cover: float

    def labels_of(self, plan: ScenePlan) -> LabelSource:
        """Labels on the grid of a scene's result: of its pixels, or of chips if they are labelled."""
        pixels, side = self.labels[plan.scene.id], plan.chain.pixel_px
        if side == 1:
            return pixels
        return ChipLabels(pixels, ChipRule(core_px=side, cover=self.cover), plan.fine)


def _prepare(config: EvaluateConfig, card: ModelCard, references: Mapping[str, str]) -> _Setup:
    if card.kind not in ("class-map", "labels"):
        raise ConfigError(
            f"{card.label} makes {card.makes}; what is evaluated is a map of classes, labels of chips, or objects"
        )
    if config.sizes:
        raise ConfigError(f"`sizes` tells objects apart, and {card.label} makes {card.makes}")
    named = [name for name, _ in config.match]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise ConfigError(f"`match` has {twice[0]} twice; a class of the model is scored as one class of the labels")
    options = _label_options(config, card, list(dict.fromkeys(references.values())))
    with ExitStack() as stack:
        inspectors = Disposables(1)  # none is started where all labels are vectors
        stack.push(inspectors.__exit__)
        sources = {name: label_source(name, options, inspectors) for name in dict.fromkeys(references.values())}
    matching = match(
        card.classes, [c.name for c in options.classes], dict(config.match), {c.name: c.color or "" for c in options.classes}
    )  # fmt: skip
    return _Setup(
        matching=matching, options=options, labels={scene_id: sources[reference] for scene_id, reference in references.items()},
        references=references, regions=_regions(config), cover=config.cover,
    )  # fmt: skip


def _label_options(config: EvaluateConfig, card: ModelCard, references: Sequence[str]) -> LabelOptions:
    stored = config.stored_by_class or _stored_in_column(config, card, references)
    if config.background:
        stored.setdefault(config.background, [])
    colors = {c.name: c.color for c in card.classes}
    classes = tuple(
        LabelClass(value=number, name=name, color=colors.get(name), stored=tuple(values) or (f"no value: {name}",))
        for number, (name, values) in enumerate(stored.items())
    )
    return LabelOptions(
        classes=classes, ignore=config.ignored, class_column=config.class_column, background=config.background,
        band=config.label_band, layer=config.label_layer,
    )  # fmt: skip


def _stored_in_column(
    config: EvaluateConfig, card: ModelCard, references: Sequence[str]
) -> dict[str, list[Stored]]:  # fmt: skip
    """The values of the class column by their text, which names their class: as the model lists them, others behind."""
    if not config.class_column or not all(map(is_vector, references)):
        raise ConfigError(
            f"say what the values of the labels mean: `label_classes=0={card.classes[0].name},1={card.classes[-1].name}`; "
            f"{card.label} knows {', '.join(c.name for c in card.classes)}. Of vectors, `class_column` names the column"
        )
    found: dict[str, list[Stored]] = {}
    for reference in references:
        for value in column_values(reference, config.class_column, config.label_layer):
            if value not in config.ignored and value not in (values := found.setdefault(str(value), [])):
                values.append(value)
    if "" in found:
        raise ConfigError(
            f"the column {config.class_column} of the labels has an empty text, which names no class; say that it means "
            "unknown: `label_ignore=''`"
        )
    order = [c.name for c in card.classes if c.name in found]
    return {name: found[name] for name in dict.fromkeys((*order, *found))}


def _regions(config: EvaluateConfig) -> tuple[VectorLabels, tuple[str, ...]] | None:
    if config.regions is None:
        return None
    if config.region_column is None:
        raise ConfigError(f"say which column of {config.regions} holds the names of its regions: `region_column`")
    values = [value for value in column_values(config.regions, config.region_column) if value != ""]
    if len(values) > _MOST_REGIONS:
        raise ConfigError(f"{config.regions} has {len(values)} regions; at most {_MOST_REGIONS} are told one by one")
    classes = tuple(LabelClass(value=i, name=str(v), stored=(v,)) for i, v in enumerate(values))
    options = LabelOptions(classes=classes, class_column=config.region_column, ignore=("",))  # which names no region
    source = label_source(config.regions, options)
    assert isinstance(source, VectorLabels), "a raster has no columns"
    return source, tuple(str(value) for value in values)


def _evaluate(
    config: EvaluateConfig, store: Store, plans: Sequence[ScenePlan], setup: _Setup, result: RunResult
) -> Evaluation:
    matching, product = setup.matching, plans[0].product
    facts: dict[str, Any] = {
        "model": product, "card_sha256": [card.digest() for card in plans[0].cards],
        "labels": {scene_id: [redact(reference), setup.labels[scene_id].identity]
                   for scene_id, reference in setup.references.items() if scene_id in result.results},
        "maps": {plan.scene.id: plan.prefix for plan in plans},
        "notes": training_notes(plans),
    }  # fmt: skip
    key = digest({
        **facts, "match": matching.to_dict(), "classes": matching.names, "regions": setup.regions and setup.regions[0].identity,
        "worst": config.worst, "bootstrap": config.bootstrap,
        "label_options": setup.options.model_dump(mode="json"),
        **({"cover": config.cover} if plans[0].chain.pixel_px > 1 else {}),
    })  # fmt: skip
    folder = f"evaluations/{product}/{key[:16]}"
    block_px = block_side_px(sum(plan.grid.window.size_px for plan in plans))
    counts, files = {}, []
    for plan in plans:
        name = f"{folder}/{plan.scene.id}-errors.tif"
        counts[plan.scene.id] = _count(store, plan, setup, block_px, name, key)
        files.append(name)
    made = report.document(
        counts, matching, mapped_m2=_mapped_m2(list(result.results.values()), matching), block_px=block_px,
        resamples=config.bootstrap, facts=facts,
    )  # fmt: skip
    made["notes"] = [
        *made["notes"],
        *_of_labels(setup),
        *_unscored(counts, setup),
        *_bare(counts, config.background, setup),
        *_absent(np.array(made["confusion"]), matching.names),
        *_overlapping(setup.regions),
    ]
    by_id = {plan.scene.id: plan for plan in plans}
    worst = worst_places(counts, {name: plan.grid.window for name, plan in by_id.items()}, block_px, config.worst)
    made["worst"] = [place.to_dict() for place in worst]
    pictures = [_picture(store, by_id[place.scene_id], setup, place) for place in worst]
    text = report.text(made)
    outputs = {
        "report.json": json.dumps(made, indent=1).encode(), "report.txt": text.encode(),
        "report.html": page(made, {name: part.thumbnail for name, part in counts.items()}, pictures).encode(),
    }  # fmt: skip
    for name, data in outputs.items():
        store.put(f"{folder}/{name}", data)
        files.append(f"{folder}/{name}")
    base = store.ref.url.rstrip("/")
    return Evaluation(report=made, text=text, files=tuple(f"{base}/{name}" for name in reversed(files)), run=result)


def _unscored(counts: Mapping[str, SceneCounts], setup: _Setup) -> list[str]:
    """A note on each scene of which nothing is in the scores."""
    return [
        f"no pixel of {scene_id} is scored: its labels, {redact(setup.references[scene_id])}, lie on other ground, as those of "
        "a wrong CRS do, or are unknown everywhere"
        for scene_id, found in counts.items()
        if not found.confusion.any()
    ]


def _of_labels(setup: _Setup) -> list[str]:
    rasters = (source for source in setup.labels.values() if isinstance(source, RasterLabels))
    return list(dict.fromkeys(source.note for source in rasters if source.note))


def _bare(counts: Mapping[str, SceneCounts], background: str | None, setup: _Setup) -> list[str]:
    """A note on each scene on which no feature lies."""
    if background is None:
        return []
    place = setup.matching.names.index(background)
    labelled = {scene_id: found.confusion.sum(axis=1) for scene_id, found in counts.items()}
    return [
        f"nothing is marked on {scene_id}, so all of it counts as {background}; if something should be, look at the CRS of "
        f"scene and labels ({redact(setup.references[scene_id])})"
        for scene_id, pixels in labelled.items()
        if pixels.any() and pixels.sum() == pixels[place]
    ]


def _absent(confusion: NDArray[np.int64], names: Sequence[str]) -> list[str]:
    """A note on the classes that no label has, if there are labels."""
    absent = [name for name, n_labelled in zip(names, confusion.sum(axis=1), strict=True) if not n_labelled]
    if not absent or not confusion.any():
        return []
    return [
        f"no scored label is {', '.join(absent)}: precision, recall and F1 are 0 there and lower the macro averages, as in "
        "scikit-learn's report; the mean IoU leaves out what the maps do not have either"
    ]


def _overlapping(regions: tuple[VectorLabels, tuple[str, ...]] | None) -> list[str]:
    """A note on regions that hide more than a hundredth of one another."""
    import shapely

    if regions is None:
        return []
    source, names = regions
    shapes, values, _ = classified(source.asset, source.options)
    shapes, values = shapely.make_valid(shapes[values != IGNORE]), values[values != IGNORE]
    earlier, later = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    is_pair = (earlier < later) & (values[earlier] != values[later])
    earlier, later = earlier[is_pair], later[is_pair]
    shared = shapely.area(shapely.intersection(shapes[earlier], shapes[later]))
    is_much = shared > 0.01 * np.minimum(shapely.area(shapes[earlier]), shapely.area(shapes[later]))
    pairs = {(names[values[a]], names[values[b]]) for a, b in zip(earlier[is_much], later[is_much], strict=True)}
    return [
        f"the regions {first} and {second} overlap, and where they do, pixels count in {second} alone, which is later in the "
        "file; for the scores of each, give them in files of their own, one after the other"
        for first, second in sorted(pairs)[:_NAMED]
    ]


def _count(store: Store, plan: ScenePlan, setup: _Setup, block_px: int, name: str, key: str) -> SceneCounts:
    """Compare one scene, and publish its error map."""
    tags = {"MODEL": plan.card.label, "EARTHLOOM_KEY": plan.key, "EARTHLOOM_SCENE": plan.scene.id, "EVALUATION": key}
    regions = setup.regions and (partial(setup.regions[0].read, plan.grid), setup.regions[1])
    with closing(ErrorMap(plan.grid, plan.shard_px, setup.matching.names, tags)) as errors:
        counts = compare(
            plan.grid.window, setup.matching, classes=partial(published_layer, store, plan, CLASSES),
            confidence=partial(published_layer, store, plan, CONFIDENCE),
            labels=partial(setup.labels_of(plan).read, plan.grid), regions=regions, window_px=plan.shard_px,
            block_px=block_px, keep=errors.add,
        )  # fmt: skip
        errors.publish(store, name)
    return counts


def _mapped_m2(results: Sequence[SceneSummary], matching: Matching) -> NDArray[np.float64]:
    """Area that all maps together give each scored class."""
    total = np.zeros(len(matching.names))
    for summary in results:
        for row in summary.class_areas:
            if (to := matching.of_model[row["value"]]) != IGNORE:
                total[to] += row["area_m2"]
    return total


def _picture(store: Store, plan: ScenePlan, setup: _Setup, place: Place) -> bytes:
    labels = setup.labels_of(plan).read(plan.grid, place.shown)
    return picture(plan, place, setup.matching, labels, published_layer(store, plan, CLASSES, place.shown))
