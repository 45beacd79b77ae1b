"""Trains one seed: turns a file's tables into schedule, loss, validation, crops and first weights of the engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, fields
from typing import Any

from earthloom.cluster.address import resolve
from earthloom.cluster.session import is_guest
from earthloom.jobs.execution.carrying import carry
from earthloom.jobs.intake.common_names import centre_um
from earthloom.jobs.learning.batches import Crops, Sampling
from earthloom.jobs.learning.checkpoints import Checkpoints
from earthloom.jobs.learning.config import TrainConfig
from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.fitting import Fitted, Look, Looking, Progress, fit_seed
from earthloom.jobs.learning.looks import ClassLook
from earthloom.jobs.learning.object_crops import ObjectCrops
from earthloom.jobs.learning.object_judging import ObjectLook
from earthloom.jobs.learning.split import Part
from earthloom.jobs.learning.start import First
from earthloom.jobs.learning.tracking import Tracker
from earthloom.jobs.records.names import CARRIED
from earthloom.models.cards import weights
from earthloom.models.cards.card import BEFORE, ModelCard
from earthloom.models.device.threads import use_threads
from earthloom.models.networks import registry
from earthloom.models.training.augment import Variety
from earthloom.models.training.detection import ObjectLoss, set_prior
from earthloom.models.training.fit import Fit
from earthloom.models.training.loss import Loss, balanced_weights
from earthloom.models.training.network import build, fill
from earthloom.models.training.schedule import Schedule
from earthloom.models.training.start import to_hold
from earthloom.models.training.teacher import Teacher
from earthloom.models.training.team import Team
from earthloom.models.zoo import ZOO, variants
from earthloom.tiling.errors import CardError, ConfigError
from earthloom.tiling.rounding import ceil_div, round_up
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """All that its seeds share.

    Attributes:
        config: the file that describes it.
        card: card of the network, without weights.
        first: where the first weights come from.
        examples: the data.
        store: store of OUT.
        prefix: prefix below which checkpoints and logs lie.
        settings: how it computes: `device`, `precision`, `threads`.
    """

    config: TrainConfig
    card: ModelCard
    first: First
    examples: Examples
    store: Store
    prefix: str
    settings: Mapping[str, Any]


def train_seed(training: Training, seed: int, on_progress: Callable[[Progress], None] = lambda _: None) -> Fitted:
    """Train one seed, or go on training it; in a team, this process's part of it.

    Raises:
        ConfigError, CardError, SceneError, StorageError, EngineError: as `jobs.learning.train.train` does.
    """
    config, card, first, settings = training.config, training.card, training.first, training.settings
    use_threads(settings["threads"])
    team = Team()
    module = build(card, seed)
    if card.objects is not None:
        set_prior(module, len(card.classes))
    filled = fill(module, card, first.path, first.card).filled if first.path is not None else frozenset()
    fit = Fit(
        module.to(settings["device"]), loss_of(config, training.examples), schedule_of(config, seed, settings["precision"]),
        pretrained=filled, held=to_hold(module, filled, card.sizes["classes"]), team=team,
        teacher=teacher_of(config, card, settings["device"]),
    )  # fmt: skip
    variety = variety_of(config, card.bands)
    kind = Crops if card.objects is None else ObjectCrops
    crops = kind(training.examples, Sampling(variety=variety, balance=config.schedule.balance, seed=seed))
    looking = looking_of(config, training.examples, card)
    checkpoints = Checkpoints(training.store, f"{training.prefix}/seed-{seed}")
    with closing(Tracker(config, training.store, training.prefix, seed)) if team.is_first else nullcontext() as tracker:

        def tell(progress: Progress) -> None:
            if tracker is not None:
                tracker(progress)
            on_progress(progress)

        return fit_seed(fit, crops, looking, checkpoints, config.compute, team=team, on_progress=tell)


def variety_of(config: TrainConfig, bands: Sequence[str]) -> Variety:
    """Limits of the changes of crops; haze goes by the wavelengths of the bands if the names of all of them tell theirs."""
    found = [centre_um(band.removeprefix(BEFORE)) for band in bands]
    known = tuple(each for each in found if each is not None)
    return Variety(**config.augment.model_dump(), wavelengths_um=known if len(known) == len(bands) else ())


def schedule_of(config: TrainConfig, seed: int, precision: str) -> Schedule:
    """The schedule as the engine knows it."""
    known = {each.name for each in fields(Schedule)}
    return Schedule(**config.schedule.model_dump(include=known) | {"precision": precision, "seed": seed})


def loss_of(config: TrainConfig, examples: Examples) -> Loss | ObjectLoss:
    """The loss, its class weights made from the training part where they are to be."""
    if config.objects is not None:
        return ObjectLoss(size_px=config.objects.size_px)
    given = config.loss.class_weights
    if isinstance(given, tuple) and len(given) != len(examples.classes):
        raise ConfigError(f"`loss.class_weights` has {len(given)} numbers for {len(examples.classes)} classes")
    if given == "data":
        given = balanced_weights(tuple(examples.split.pixels(examples.index)["train"]))
    weights_of = given if isinstance(given, tuple) else None
    return Loss(**config.loss.model_dump(exclude={"class_weights"}), class_weights=weights_of)


def teacher_card(config: TrainConfig, bands: tuple[str, ...]) -> tuple[ModelCard, ObjectRef] | None:
    """The card that `teacher` names, in the variant that sees only these bands, and its folder; None without a teacher.

    Raises:
        CardError: if there is no such model, or none of its variants sees these bands alone.
    """
    if config.teacher is None:
        return None
    known = variants(config.teacher.model, ObjectRef.parse(config.out) / CARRIED)
    able = [(card, folder) for card, folder in known if set(card.bands) <= set(bands)]
    if not able:
        raise CardError(
            f"'teacher.model={config.teacher.model}' sees {' or '.join(', '.join(card.bands) for card, _ in known)}, and the "
            f"student {', '.join(bands)}"
        )
    return able[0]


def carried(config: TrainConfig, first: First, bands: tuple[str, ...], address: str | None) -> TrainConfig:
    """The configuration for processes on Ray, whose machines may lack models that lie on this one.

    On a cluster, the weights that a training begins from and its teacher's are put into OUT, and the configuration names
    their places there instead of folders of this machine.

    Args:
        address: address of a cluster; None: that of RAY_ADDRESS, or Ray inside this process.

    Raises:
        CardError: if a folder does not hold the weights that its card names.
        StorageError: if OUT cannot be written.
        EngineError: if it is no address of a cluster.
    """
    if resolve(address, os.environ) is None and not is_guest():
        return config
    out, changes = ObjectRef.parse(config.out), dict[str, Any]()

    def there(name: str, card: ModelCard, folder: ObjectRef) -> str:
        if not card.weights or folder.scheme != "file":
            return name
        place = carry(out, card, folder)
        return name if name in ZOO else place.url  # what has a name is found there by its weights

    if first.card:
        start = there(config.model.start, *variants(config.model.start, out / CARRIED)[0])
        changes["model"] = config.model.model_copy(update={"start": start})
    if config.teacher is not None and (found := teacher_card(config, bands)) is not None:
        changes["teacher"] = config.teacher.model_copy(update={"model": there(config.teacher.model, *found)})
    return config.model_copy(update=changes)


def teacher_of(config: TrainConfig, student: ModelCard, device: str) -> Teacher | None:
    """The teacher, ready to be asked; None without one.

    Raises:
        CardError, ConfigError: if it cannot be loaded, or teaches something else.
    """
    found = teacher_card(config, student.bands)
    if found is None or config.teacher is None:
        return None
    card, folder = found
    module = registry.build(card)
    if card.weights:
        weights.load_network(module, weights.fetch(folder, card.weights), card.weights)
    table = config.teacher
    return Teacher(module.to(device), card, student, temperature=table.temperature, weight=table.weight)


def looking_of(config: TrainConfig, examples: Examples, card: ModelCard) -> Looking:
    """The plan of looks at the validation part.

    Raises:
        ConfigError: if the metric is none, or something waits for looks that are never taken.
    """
    table, windows = config.schedule, examples.windows(Part.VALIDATION)
    known = ("iou", *(f"iou_{name}" for name in examples.classes if card.objects is None))
    if table.metric not in known:
        raise ConfigError(f"`schedule.metric={table.metric}` is none of {', '.join(known)}")
    value = known.index(table.metric) - 1
    if windows and value >= 0 and not examples.labelled()["validation"][value]:
        raise ConfigError(
            f"`schedule.metric={table.metric}` is judged on the validation part, which has no "
            f"{'chip' if examples.rule else 'pixel'} with that label: choose another metric, or split otherwise"
        )
    if table.patience and not windows:
        raise ConfigError("'patience' counts looks at the validation part, and there is none: set `split.validation`")
    margin_px = margin_of(examples, card)
    look: Callable[[Fit, Team], Look] | None = None
    if windows and card.objects is not None:
        look = ObjectLook(
            examples=examples, card=card, windows=windows, margin_px=margin_px, threads=config.compute.readers
        )
    elif windows:
        look = ClassLook(
            examples=examples, metric=table.metric, windows=windows, margin_px=margin_px, gap_px=config.split.gap_px,
            threads=config.compute.readers,
        )  # fmt: skip
    return Looking(steps=table.validate_steps or max(1, table.steps // 20), patience=table.patience, look=look)


def margin_of(examples: Examples, card: ModelCard) -> int:
    """Context around a chip of the validation part."""
    if examples.rule is not None:
        return examples.rule.context_px
    return round_up(ceil_div(examples.chip_px, 4), card.stride_px)
