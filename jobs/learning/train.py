"""`earthloom train`: from a file that names data and network to a card folder that `earthloom run` takes.

Everything lies below OUT: `training/<key>/` holds what a later process goes on from, then the weights, `record.json` and,
last, `card.json` make the card folder. The key is made from all that decides what is learned, so that the same command
goes on where it was killed and another file begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from earthloom.jobs.learning.batches import Crops, Sampling
from earthloom.jobs.learning.checkpoints import Checkpoints
from earthloom.jobs.learning.config import TrainConfig
from earthloom.jobs.learning.corpus import Corpus, open_corpus
from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.fitting import Fitted, Looking, Progress, fit_seed
from earthloom.jobs.learning.index import ChipIndex, make_index
from earthloom.jobs.learning.judging import Judgement, judge
from earthloom.jobs.learning.measure import measure_on
from earthloom.jobs.learning.record import FILE as RECORD
from earthloom.jobs.learning.record import data_record, over_seeds, seed_record
from earthloom.jobs.learning.split import Part, open_regions, split
from earthloom.jobs.learning.start import First, bands_of, draft, first_weights
from earthloom.jobs.records.canonical import FORMAT, canonical, digest, read_document
from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import FILE as CARD
from earthloom.models.cards.file import load_card, write_card
from earthloom.models.device.resolve import resolve
from earthloom.models.inference.predictor import Predictor
from earthloom.models.measuring.measure import Measurement
from earthloom.models.training.augment import Variety
from earthloom.models.training.export import save_weights
from earthloom.models.training.fit import Fit
from earthloom.models.training.loss import Loss, balanced_weights
from earthloom.models.training.network import build, fill
from earthloom.models.training.schedule import Schedule
from earthloom.models.training.start import Start
from earthloom.models.training.team import Team
from earthloom.models.training.threads import use_threads
from earthloom.tiling.errors import CardError, ConfigError, MissingObjectError, PublishError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import apply
from earthloom.tiling.storage.store import Store, open_store
from earthloom.tiling.window import Window

_CORES_PX = (1024, 512, 256)
_ROOM_BYTES = 2 << 30
"""What one chip may take: the card names the largest core with which a worker stays near that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of a training.

    Attributes:
        card: as it lies in OUT.
        out: the card folder.
        record: what `record.json` holds.
        was_there: whether an earlier run had made it.
        notes: assumptions and warnings: (scene id, text).
    """

    card: ModelCard
    out: str
    record: dict[str, Any]
    was_there: bool
    notes: tuple[tuple[str, str], ...] = ()


def train(
    config: TrainConfig, *, replaces: bool = False, on_progress: Callable[[Progress], None] = lambda _: None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Trained:  # fmt: skip
    """Train, or go on training, and write the card folder.

    Args:
        replaces: overwrite the model of another training that OUT holds.
        on_progress: told of every step.
        on_stage: told what begins, in a sentence.

    Raises:
        ConfigError: if the file contradicts itself or its data, or OUT holds another model.
        SceneError: if a scene or its labels cannot be used.
        CardError: if there is no such network, or the first weights do not fit it.
        StorageError, EngineError: if the storage fails, or the loss is no longer a number.
    """
    apply()
    store = open_store(out_of(config))
    first = first_weights(config.model.start)
    bands = bands_of(config, first)
    _try_network(config, first, bands)
    on_stage("opening the scenes and their labels")
    corpus = open_corpus(config, bands)
    key = training_key(config, corpus, first)
    if (there := _finished(store, config, key, replaces)) is not None:
        return there
    prefix = f"training/{key[:16]}"
    settings = _settle(store, prefix, config)
    on_stage("looking where labels are")
    examples = open_examples(config, corpus, store, prefix)
    grids = [each.scene.grid for each in corpus.scenes]
    card = draft(
        config, first, bands, quantity=corpus.quantity, grids=grids, mean=examples.mean, std=examples.std
    )
    examples.mean, examples.std = card.mean, card.std
    fitted, start = [], None
    use_threads(settings["threads"])
    for number in range(config.seeds):
        seed = config.seed + number
        on_stage(f"training seed {seed}" if config.seeds > 1 else "training")
        result, start = _fit(config, card, first, examples, Checkpoints(store, f"{prefix}/seed-{seed}"), settings, seed, on_progress)
        fitted.append(result)
    best = max(fitted, key=lambda each: (each.score or 0.0, -each.seed))
    with TemporaryDirectory(prefix="earthloom-") as temporary:
        on_stage("measuring the halo, and that tiles give what the whole scene gives")
        measured, record = _made(config, card, examples, fitted, best, Path(temporary), on_stage)
        record = _record(config, corpus, examples, first, start, settings, key) | record
        return _publish(store, config, measured, record, Path(temporary), corpus)


def out_of(config: TrainConfig) -> ObjectRef:
    """Where a training writes.

    Raises:
        ConfigError: if that is no folder or bucket.
    """
    out = ObjectRef.parse(config.out)
    if out.scheme not in ("file", "s3"):
        raise ConfigError(f"`out` {config.out}: models go to a folder or s3://bucket/prefix")
    return out


def training_key(config: TrainConfig, corpus: Corpus, first: First) -> str:
    """sha256 of all that decides what is learned: data, network and schedule, and no path, thread or machine."""
    said = config.model_dump(
        mode="json", include={"name", "seed", "seeds", "labels", "model", "loss", "augment", "schedule", "split"}
    )
    said["model"] |= {"start": first.sha256}
    said["split"].pop("regions", None)
    regions = open_regions(config.split)
    return digest(
        {
            "format": FORMAT,
            "torch": ".".join(version("torch").split(".")[:2]),
            "config": said,
            "scenes": [each.content for each in corpus.scenes],
            "regions": regions.identity if regions else None,
        }
    )


def open_examples(config: TrainConfig, corpus: Corpus, store: Store | None = None, prefix: str = "") -> Examples:
    """The data, looked through and split; the index of a store is read if it is there, and else written.

    Raises:
        ConfigError: if nothing is labelled, or a part that is wanted stays empty.
        SceneError, StorageError: if the data cannot be read.
    """
    chip_px, n_classes = config.model.crop_px, len(config.labels.classes)
    regions = open_regions(config.split)
    index = _stored_index(store, prefix)
    if index is None:
        index = make_index(corpus.scenes, n_classes=n_classes, chip_px=chip_px, regions=regions)
        if store is not None:
            store.put(f"{prefix}/index.npz", index.to_bytes())
    parts = split(index, corpus.scenes, config.split, regions, seed=config.seed, chip_px=chip_px)
    mean, std = index.statistics(parts.part == Part.TRAIN)
    names = [each.name for each in sorted(config.labels.classes, key=lambda each: each.value)]
    return Examples(
        corpus.scenes, index, parts, chip_px=chip_px, classes=names, mean=mean, std=std, cache_bytes=config.compute.cache
    )


def schedule_of(config: TrainConfig, seed: int, precision: str) -> Schedule:
    """The schedule as the engine knows it."""
    table = config.schedule
    return Schedule(
        steps=table.steps, batch=table.batch, accumulate=table.accumulate, rate=table.rate,
        pretrained_rate=table.pretrained_rate, layer_decay=table.layer_decay, freeze_steps=table.freeze_steps,
        warm_up=table.warm_up, decay=table.decay, memory_steps=table.memory_steps, precision=precision, seed=seed,
    )  # fmt: skip


def loss_of(config: TrainConfig, examples: Examples) -> Loss:
    """The loss, its class weights made from the training part where they are to be."""
    table = config.loss
    given = table.class_weights
    if isinstance(given, tuple) and len(given) != len(examples.classes):
        raise ConfigError(f"`loss.class_weights` has {len(given)} numbers for {len(examples.classes)} classes")
    if given == "data":
        given = balanced_weights(tuple(examples.split.pixels(examples.index)["train"]))
    return Loss(
        cross_entropy=table.cross_entropy, dice=table.dice, focal=table.focal, lovasz=table.lovasz, gamma=table.gamma,
        smoothing=table.smoothing, class_weights=given if isinstance(given, tuple) else None,
    )  # fmt: skip


def looking_of(config: TrainConfig, examples: Examples, stride_px: int) -> Looking:
    """When and how the validation part is looked at.

    Raises:
        ConfigError: if the metric is none, or something waits for looks that are never taken.
    """
    table, windows = config.schedule, examples.windows(Part.VALIDATION)
    known = ("iou", *(f"iou_{name}" for name in examples.classes))
    if table.metric not in known:
        raise ConfigError(f"`schedule.metric={table.metric}` is none of {', '.join(known)}")
    if table.patience and not windows:
        raise ConfigError("`patience` counts looks at the validation part, and there is none: set `split.validation`")
    return Looking(
        steps=table.validate_steps or max(1, table.steps // 20), patience=table.patience, metric=table.metric,
        windows=windows, margin_px=-(-examples.chip_px // 4 // stride_px) * stride_px, gap_px=config.split.gap_px,
    )  # fmt: skip


def _try_network(config: TrainConfig, first: First, bands: tuple[str, ...]) -> None:
    """Build the network and fill it, so that what does not fit is said before the data is read."""
    ones = (1.0,) * len(bands)
    card = draft(config, first, bands, quantity="dn", grids=(), mean=ones, std=ones)
    module = build(card, config.seed)
    if first.path is not None:
        fill(module, card, first.path, first.card)


def _fit(
    config: TrainConfig, card: ModelCard, first: First, examples: Examples, checkpoints: Checkpoints,
    settings: dict[str, Any], seed: int, on_progress: Callable[[Progress], None],
) -> tuple[Fitted, Start | None]:  # fmt: skip
    module = build(card, seed)
    start = fill(module, card, first.path, first.card) if first.path is not None else None
    module = module.to(settings["device"])
    fit = Fit(
        module, loss_of(config, examples), schedule_of(config, seed, settings["precision"]),
        pretrained=start.filled if start else (), team=Team(),
    )  # fmt: skip
    variety = Variety(**config.augment.model_dump())
    crops = Crops(examples, Sampling(variety=variety, balance=config.schedule.balance, seed=seed))
    looking = looking_of(config, examples, card.stride_px)
    fitted = fit_seed(
        fit, crops, examples, looking, checkpoints, config.compute, team=Team(), on_progress=on_progress
    )
    return fitted, start


def _made(
    config: TrainConfig, card: ModelCard, examples: Examples, fitted: Sequence[Fitted], best: Fitted, folder: Path,
    on_stage: Callable[[str], None],
) -> tuple[ModelCard, dict[str, Any]]:  # fmt: skip
    """The card with its weights, halo and scores, and what the record says of them."""
    path = folder / weights.FILE
    card = replace(card, weights=save_weights(best.weights, path, config.model.stored))
    measurement = _measured(config, card, path, examples)
    card = measurement.card
    has_test = bool((examples.split.part == Part.TEST).any())
    tests: list[Judgement | None] = []
    for each in fitted:
        if has_test:
            on_stage(f"judging seed {each.seed} on the test part" if len(fitted) > 1 else "judging on the test part")
        tests.append(_judged(config, card, each, examples, folder) if has_test else None)
    records = [seed_record(each, test, examples.classes) for each, test in zip(fitted, tests, strict=True)]
    tiling = {
        "halo_px": card.halo_px, "support_px": card.support_px, "stride_px": card.stride_px, "core_px": card.core_px,
        "overlap": card.overlap, "tiled_is_whole": _agreement(measurement),
    }  # fmt: skip
    over = over_seeds(records)
    own = records[[each.seed for each in fitted].index(best.seed)]["test"]
    card = replace(card, scores=tuple(sorted(own["scores"].items())) if own else ())
    return card, {"seeds": records, "kept_seed": best.seed, "test": over, "tiling": tiling}


def _measured(config: TrainConfig, card: ModelCard, path: Path, examples: Examples) -> Measurement:
    """Measure on a part of the scene with most labels that judge, and choose the core by the memory that was found."""
    index, split_of = examples.index, examples.split
    part = next(part for part in (Part.TEST, Part.VALIDATION, Part.TRAIN) if (split_of.part == part).any())
    chosen = split_of.part == part
    labelled = np.bincount(index.scene[chosen], weights=index.counts[chosen].sum(axis=1))
    number = int(np.argmax(labelled))
    each = examples.scenes[number]
    box = index.box[chosen & (index.scene == number)]
    grid, side = each.scene.grid, config.compute.window_px
    width, height = min(side, grid.width), min(side, grid.height)
    col, row = (
        int(min(max((box[:, axis].min() + box[:, axis + 2].max()) // 2 - length // 2, 0), most - length))
        for axis, length, most in ((0, width, grid.width), (1, height, grid.height))
    )
    found = measure_on(card, path, each.scene, Window(col, row, width, height))
    known = [size for _, size in found.card.memory] or [0.0]
    halo = found.card.halo_px or 0
    fits = [core for core in _CORES_PX if max(known) * (core + 2 * halo) ** 2 <= _ROOM_BYTES] or list(_CORES_PX[-1:])
    core_px = fits[0]
    if found.card.overlap == "blend":
        halo = max(1, core_px // 8 // card.stride_px) * card.stride_px
    return replace(found, card=replace(found.card, core_px=core_px, halo_px=halo))


def _agreement(found: Measurement) -> dict[str, Any] | None:
    """Of the halo that was chosen; None for a network whose chips are cross-faded."""
    if found.agreement is None:
        return None
    return {
        "identical": found.agreement.identical, "flips": found.agreement.flips,
        "class_flips": found.agreement.class_flips,
    }  # fmt: skip


def _judged(config: TrainConfig, card: ModelCard, fitted: Fitted, examples: Examples, folder: Path) -> Judgement:
    path = folder / f"seed-{fitted.seed}.safetensors"
    own = replace(card, weights=save_weights(fitted.weights, path, config.model.stored))
    predictor = Predictor(own, path, resolve(config.compute.device))
    return judge(predictor, own, examples, Part.TEST, config.split.gap_px)


def _settle(store: Store, prefix: str, config: TrainConfig) -> dict[str, Any]:
    """How this training computes: decided by the process that begins it, kept by those that go on."""
    device = resolve(config.compute.device)
    key = f"{prefix}/settings.json"
    ours = {
        "format": FORMAT, "device": device.kind, "device_class": device.device_class,
        "precision": device.precision if config.schedule.precision == "auto" else config.schedule.precision,
        "threads": use_threads(config.compute.threads), "torch": version("torch"),
    }  # fmt: skip
    if store.create(key, canonical(ours)):
        return ours
    kept = read_document(store.get(key), f"{store.ref.url}/{key}")
    return kept | {"device": device.kind}


def _stored_index(store: Store | None, prefix: str) -> ChipIndex | None:
    if store is None:
        return None
    try:
        return ChipIndex.from_bytes(store.get(f"{prefix}/index.npz"))
    except (MissingObjectError, ValueError, OSError, KeyError):
        return None


def _finished(store: Store, config: TrainConfig, key: str, replaces: bool) -> Trained | None:
    """The card that this training has made already; None if it has not."""
    try:
        card = load_card(store.ref)
    except CardError:
        if store.head(CARD) is None:
            return None
        raise
    try:
        record = read_document(store.get(RECORD), f"{store.ref.url}/{RECORD}")
    except (MissingObjectError, PublishError):
        record = {}
    if record.get("key") == key:
        return Trained(card=card, out=config.out, record=record, was_there=True)
    if replaces:
        return None
    raise ConfigError(
        f"{config.out} holds {card.label}, which another training or program made: data, network or schedule were not these; "
        "choose another `out`, or say `replace`"
    )


def _record(
    config: TrainConfig, corpus: Corpus, examples: Examples, first: First, start: Start | None,
    settings: dict[str, Any], key: str,
) -> dict[str, Any]:  # fmt: skip
    said = config.model_dump(mode="json", exclude={"out", "scenes", "compute", "tracking", "card"})
    return {
        "format": FORMAT,
        "key": key,
        "config": said,
        "made_by": {
            "earthloom": version("earthloom"), "torch": settings["torch"], "device_class": settings["device_class"],
            "precision": settings["precision"], "threads": settings["threads"],
        },
        "start": {"name": first.name, "sha256": first.sha256, "found": start.describe() if start else None},
        "data": data_record(corpus, examples),
    }  # fmt: skip


def _publish(
    store: Store, config: TrainConfig, card: ModelCard, record: dict[str, Any], folder: Path, corpus: Corpus
) -> Trained:
    """Put weights and record into OUT, then the card: its presence says that all is there."""
    (folder / RECORD).write_bytes(canonical(record) + b"\n")
    for left in folder.glob("seed-*"):
        left.unlink()
    write_card(folder, card)
    if store.head(CARD) is not None:
        store.delete(CARD)
    for name in (weights.FILE, RECORD, CARD):
        store.put(name, (folder / name).read_bytes())
    return Trained(card=card, out=config.out, record=record, was_there=False, notes=corpus.notes)

