"""`earthloom train`: from a file that names data and network to a card folder that `earthloom run` takes.

Everything lies below OUT: `training/<key>/` holds what a later process goes on from, then the weights, `record.json` and,
last, `card.json` make the card folder. The key is made from all that decides what is learned, so that the same command
goes on where it was killed and another file begins anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from earthloom.jobs.learning.chip_labels import ChipRule
from earthloom.jobs.learning.config import TrainConfig
from earthloom.jobs.learning.corpus import Corpus, open_corpus
from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.fitting import Progress
from earthloom.jobs.learning.index import ChipIndex, make_index
from earthloom.jobs.learning.making import make_card
from earthloom.jobs.learning.record import data_record
from earthloom.jobs.learning.remarks import refuse_blind, refuse_unsuited, remarks
from earthloom.jobs.learning.seeds import (
    Training,
    carried,
    looking_of,
    loss_of,
    teacher_card,
    teacher_of,
    train_seed,
    variety_of,
)
from earthloom.jobs.learning.split import Part, open_regions, split
from earthloom.jobs.learning.start import First, bands_of, draft, first_weights
from earthloom.jobs.learning.together import train_together
from earthloom.jobs.records.canonical import FORMAT, canonical, digest, read_document
from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import FILE as CARD
from earthloom.models.cards.file import RECORD, load_card, write_card
from earthloom.models.device.resolve import resolve
from earthloom.models.device.threads import use_threads
from earthloom.models.training.network import build, fill
from earthloom.tiling.errors import CardError, ConfigError, MissingObjectError, PublishError
from earthloom.tiling.software import VERSION
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import apply
from earthloom.tiling.storage.store import Store, open_store

LEARNING_VERSION = 2
"""Raised whenever the same files and tables would teach something else, so that no model of before passes for a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model that a training has made.

    Attributes:
        card: the model's card, as it lies in OUT.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """OUT and first weights of a training, or of a study of several, before its scenes are opened.

    Attributes:
        store: that of OUT.
        first: the first weights.
        bands: names of the bands that the network sees.
        sent: the configuration as processes on Ray get it; without Ray, the configuration itself.
    """

    store: Store
    first: First
    bands: tuple[str, ...]
    sent: TrainConfig


def train(
    config: TrainConfig, *, replaces: bool = False, workers: int | None = None, address: str | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None, on_stage: Callable[[str], None] = lambda _: None,
) -> Trained:  # fmt: skip
    """Train, or go on training, and write the card folder.

    Args:
        replaces: overwrite the model of another training that OUT holds.
        workers: processes on Ray that share each batch; None: this process alone, without Ray.
        address: address of a Ray cluster, with `workers`; None: Ray inside this process.
        on_progress: told of every step that this process takes.
        on_stage: told what begins, in a sentence.

    Raises:
        ConfigError: if the file contradicts itself or its data, or OUT holds another model.
        SceneError: if a scene or its labels cannot be used.
        CardError: if there is no such network, or the first weights do not fit it.
        StorageError, EngineError: if the storage fails, or the loss is no longer a number.
    """
    begun = begin(config, workers, address, "trains")
    store, first, bands = begun.store, begun.first, begun.bands
    found = _try_network(config, first, bands)
    if found is not None:
        on_stage(f"first weights from {first.name}: {found}")
    on_stage("opening the scenes and their labels")
    corpus = open_corpus(config, bands)
    key = training_key(config, corpus, first)
    if (there := _finished(store, config, key, replaces)) is not None:
        return there
    prefix = f"training/{key[:16]}"
    settings = settle(store, prefix, config, workers)
    on_stage("finding the labelled pixels")
    examples, card = prepare(config, corpus, first, bands, store, prefix)
    said = remarks(config, examples, card, first)
    for text in said:
        on_stage(f"note: {text}")
    notes = (*corpus.notes, *((config.name, text) for text in said))
    training = Training(
        config=config, card=card, first=first, examples=examples, store=store, prefix=prefix, settings=settings
    )
    fitted = []
    for seed in range(config.seed, config.seed + config.seeds):
        on_stage(f"training seed {seed}" if config.seeds > 1 else "training")
        if workers is None:
            fitted.append(train_seed(training, seed, on_progress))
        else:
            fitted.append(
                train_together(begun.sent.plain(), store, prefix, settings, seed, workers=workers, address=address)
            )
    with TemporaryDirectory(prefix="earthloom-") as temporary:
        card, made = make_card(config, card, examples, fitted, Path(temporary), on_stage)
        record = _record(config, corpus, examples, first, found, settings, key) | made
        card = _publish(store, card, record, Path(temporary))
    return Trained(card=card, out=config.out, record=record, was_there=False, notes=notes)


def begin(config: TrainConfig, workers: int | None, address: str | None, verb: str) -> Opening:
    """Open OUT and the first weights.

    Args:
        workers: number of processes on Ray; None: this process alone, without Ray.
        address: address of a Ray cluster, with `workers`.
        verb: what one process does without Ray, for a message.

    Raises:
        ConfigError: if an address is given without `workers`, or OUT is no folder or bucket.
        CardError, StorageError: if the first weights cannot be used.
    """
    apply()
    if address is not None and workers is None:
        raise ConfigError(f"`address={address}` is of no use without `workers`: one process {verb} without Ray")
    store = open_store(out_of(config))
    first = first_weights(config.model.start, config.out)
    bands = bands_of(config, first)
    sent = config if workers is None else carried(config, first, bands, address)
    return Opening(store=store, first=first, bands=bands, sent=sent)


def out_of(config: TrainConfig) -> ObjectRef:
    """The place that a training writes to.

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
    bands = bands_of(config, first)
    if config.augment.haze:
        said["augment"]["wavelengths_um"] = variety_of(config, bands).wavelengths_um
    if config.objects is not None:
        said["objects"] = config.objects.model_dump()
    if config.teacher is not None:
        taught = teacher_card(config, bands)
        said["teacher"] = config.teacher.model_dump() | {"model": taught and taught[0].digest()}
    said |= {"chips": config.chips.model_dump(mode="json")} if config.chips else {}
    said["model"] |= {"start": first.sha256}
    said["split"].pop("regions", None)
    regions = open_regions(config.split)
    return digest(
        {
            "format": FORMAT,
            "learning_version": LEARNING_VERSION,
            "torch": ".".join(version("torch").split(".")[:2]),
            "config": said,
            "scenes": [each.content for each in corpus.scenes],
            "regions": regions.identity if regions else None,
        }
    )


def prepare(
    config: TrainConfig, corpus: Corpus, first: First, bands: tuple[str, ...], store: Store | None = None,
    prefix: str = "",
) -> tuple[Examples, ModelCard]:  # fmt: skip
    """The data, looked through and split, and the card of the network that is to see it.

    Args:
        store: holds the index of chips below `prefix`, or is given it. Trials of a study share one as far as they see the
            same bands in chips of one size.

    Raises:
        ConfigError: if nothing is labelled, a part that is wanted stays empty, or the tables contradict each other.
        CardError: if there is no such network.
        SceneError, StorageError: if the data cannot be read.
    """
    rule = _rule_of(config)
    chip_px = rule.core_px if rule else config.model.crop_px
    regions = open_regions(config.split)
    decides = {
        "scenes": [each.content for each in corpus.scenes], "labels": config.labels.model_dump(mode="json"),
        "n_labels": config.n_labels, "chip_px": chip_px,
        "regions": regions and [regions.identity, config.split.model_dump(mode="json", exclude={"regions"})],
    }  # fmt: skip
    name = f"{prefix}/index-{digest(decides)[:16]}.npz"
    index = _stored_index(store, name)
    if index is None:
        index = make_index(corpus.scenes, n_classes=config.n_labels, chip_px=chip_px, regions=regions)
        if store is not None:
            store.put(name, index.to_bytes())
    parts = split(index, corpus.scenes, config.split, regions, seed=config.seed, chip_px=chip_px)
    mean, std = index.statistics(parts.part == Part.TRAIN)
    grids = [each.scene.grid for each in corpus.scenes]
    card = draft(config, first, bands, quantity=corpus.quantity, grids=grids, mean=mean, std=std)
    examples = Examples(
        corpus.scenes, index, parts, card=card, chip_px=chip_px, cache_bytes=config.compute.cache, rule=rule
    )  # fmt: skip
    refuse_unsuited(config.augment, bands, mean)
    loss_of(config, examples)  # what contradicts itself is said before hours are spent
    looking_of(config, examples, card)
    refuse_blind(config, examples, card)
    teacher_of(config, card, "cpu")
    return examples, card


def reopened(
    config: TrainConfig, store: Store, prefix: str, settings: Mapping[str, Any], *, index_prefix: str
) -> Training:  # fmt: skip
    """A training as processes open it that did not begin it; its index of chips lies below `index_prefix`.

    Raises:
        ConfigError, CardError, SceneError, StorageError: as `train` does.
    """
    first = first_weights(config.model.start, config.out)
    bands = bands_of(config, first)
    examples, card = prepare(config, open_corpus(config, bands), first, bands, store, index_prefix)
    return Training(
        config=config, card=card, first=first, examples=examples, store=store, prefix=prefix, settings=settings
    )


def _rule_of(config: TrainConfig) -> ChipRule | None:
    """The rule by which chips get their labels; None where pixels have them."""
    table = config.chips
    if table is None:
        return None
    return ChipRule(
        core_px=table.core_px, context_px=table.context_px, cover=max(table.cover, table.least_valid),
        alone=bool(config.folders),
    )  # fmt: skip


def _try_network(config: TrainConfig, first: First, bands: tuple[str, ...]) -> str | None:
    """Build the network and fill it, so that what does not fit is said before the data is read.

    Returns:
        What became of the first weights, in a sentence; None where there are none.
    """
    ones = (1.0,) * len(bands)
    card = draft(config, first, bands, quantity="dn", grids=(), mean=ones, std=ones)
    module = build(card, config.seed)
    return None if first.path is None else fill(module, card, first.path, first.card).describe()


def settle(store: Store, prefix: str, config: TrainConfig, workers: int | None) -> dict[str, Any]:
    """Device, precision and threads of this training: decided by the process that begins it, kept by those that go on.

    Raises:
        ConfigError: if it was begun with another number of workers.
    """
    device = resolve(config.compute.device)
    key = f"{prefix}/settings.json"
    ours = {
        "format": FORMAT, "device": device.kind, "device_class": device.device_class,
        "precision": device.precision if config.schedule.precision == "auto" else config.schedule.precision,
        "threads": use_threads(config.compute.threads), "torch": version("torch"), "workers": workers or 1,
    }  # fmt: skip
    if store.create(key, canonical(ours)):
        return ours
    kept = read_document(store.get(key), f"{store.ref.url}/{key}") | {"device": device.kind}
    if kept["workers"] != ours["workers"]:
        raise ConfigError(
            f"this training was begun with {kept['workers']} workers, which decides what is learned, and `workers` is now "
            f"{ours['workers']}: go on as it was begun, or choose another `out`"
        )
    return kept


def _stored_index(store: Store | None, name: str) -> ChipIndex | None:
    if store is None:
        return None
    try:
        return ChipIndex.from_bytes(store.get(name))
    except (MissingObjectError, ValueError, OSError, KeyError):
        return None


def _finished(store: Store, config: TrainConfig, key: str, replaces: bool) -> Trained | None:
    """The card that this training has made already; None if it has not."""
    if store.head(CARD) is None:
        return None
    try:
        card = load_card(store.ref)
        record = read_document(store.get(RECORD), f"{store.ref.url}/{RECORD}")
    except (CardError, MissingObjectError, PublishError):
        card, record = None, {}
    if card is not None and record.get("key") == key:
        if _holds(store, card):
            return Trained(card=card, out=config.out, record=record, was_there=True, notes=_kept_texts(config, card))
        return None  # its weights were lost or changed, and are made again
    if replaces:
        return None
    raise ConfigError(
        f"{config.out} holds {card.label if card else 'a model'}, which another training or program made: its data, network "
        "or schedule were not these; choose another `out`, or say `replace`"
    )


def _kept_texts(config: TrainConfig, card: ModelCard) -> tuple[tuple[str, str], ...]:
    """A note on texts of a finished training's card that differ from the file's."""
    wanted = {name: text for name, text in config.card.model_dump().items() if text or name != "title"}
    if not (other := [name for name, text in wanted.items() if getattr(card, name) != text]):
        return ()
    return ((config.name, f"it was trained before, and its card keeps its {', '.join(other)}; edit them in card.json"),)


def _holds(store: Store, card: ModelCard) -> bool:
    try:
        return hashlib.sha256(store.get(weights.FILE)).hexdigest() == card.weights
    except MissingObjectError:
        return False


def _record(
    config: TrainConfig, corpus: Corpus, examples: Examples, first: First, found: str | None, settings: dict[str, Any],
    key: str,
) -> dict[str, Any]:  # fmt: skip
    """The part of the record that does not depend on scores."""
    said = config.model_dump(mode="json", exclude={"out", "scenes", "folders", "compute", "tracking", "card", "tune"})
    return {
        "format": FORMAT,
        "key": key,
        "config": said,
        "made_by": {
            "earthloom": VERSION, "torch": settings["torch"], "device_class": settings["device_class"],
            "precision": settings["precision"], "threads": settings["threads"], "workers": settings["workers"],
        },
        "start": {"name": first.name, "sha256": first.sha256, "found": found},
        "data": data_record(corpus, examples),
    }  # fmt: skip


def _publish(store: Store, card: ModelCard, record: dict[str, Any], folder: Path) -> ModelCard:
    """Put weights and record into OUT, then the card: its presence says that all is there."""
    data = canonical(record) + b"\n"
    card = replace(card, record=hashlib.sha256(data).hexdigest())
    write_card(folder, card)
    store.delete(CARD)  # of another training, which is to be replaced
    store.put(weights.FILE, (folder / weights.FILE).read_bytes())
    store.put(RECORD, data)
    store.put(CARD, (folder / CARD).read_bytes())
    return card
