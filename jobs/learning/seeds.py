"""One seed of a training, from a file's tables to what the engine knows: schedule, loss, looks, crops, first weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from earthloom.jobs.learning.batches import Crops, Sampling
from earthloom.jobs.learning.checkpoints import Checkpoints
from earthloom.jobs.learning.config import TrainConfig
from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.fitting import Fitted, Looking, Progress, fit_seed
from earthloom.jobs.learning.split import Part
from earthloom.jobs.learning.start import First
from earthloom.jobs.learning.tracking import Tracker
from earthloom.models.cards.card import ModelCard
from earthloom.models.training.augment import Variety
from earthloom.models.training.fit import Fit
from earthloom.models.training.loss import Loss, balanced_weights
from earthloom.models.training.network import build, fill
from earthloom.models.training.schedule import Schedule
from earthloom.models.training.start import to_hold
from earthloom.models.training.team import Team
from earthloom.models.training.threads import use_threads
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.store import Store


def train_seed(
    config: TrainConfig, card: ModelCard, first: First, examples: Examples, store: Store, prefix: str,
    settings: dict[str, Any], seed: int, on_progress: Callable[[Progress], None] = lambda _: None,
) -> Fitted:  # fmt: skip
    """Train one seed, or go on training it; in a team, this process's part of it.

    Args:
        card: of the network, without weights.
        first: where its first weights come from.
        examples: the data.
        store: of OUT; checkpoints and logs lie below `prefix`.
        settings: how this training computes: `device`, `precision`, `threads`.

    Raises:
        ConfigError, CardError, SceneError, StorageError, EngineError: as `jobs.learning.train.train` does.
    """
    use_threads(settings["threads"])
    team = Team()
    module = build(card, seed)
    filled = fill(module, card, first.path, first.card).filled if first.path is not None else frozenset()
    fit = Fit(
        module.to(settings["device"]), loss_of(config, examples), schedule_of(config, seed, settings["precision"]),
        pretrained=filled, held=to_hold(module, filled, len(card.classes)), team=team,
    )  # fmt: skip
    variety = Variety(**config.augment.model_dump())
    crops = Crops(examples, Sampling(variety=variety, balance=config.schedule.balance, seed=seed))
    looking = looking_of(config, examples, card.stride_px)
    checkpoints = Checkpoints(store, f"{prefix}/seed-{seed}")
    with Tracker(config, store, prefix, seed, examples.classes) if team.is_first else nullcontext() as tracker:

        def tell(progress: Progress) -> None:
            if tracker is not None:
                tracker(progress)
            on_progress(progress)

        return fit_seed(fit, crops, examples, looking, checkpoints, config.compute, team=team, on_progress=tell)


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
        raise ConfigError("'patience' counts looks at the validation part, and there is none: set `split.validation`")
    rule = examples.rule
    margin_px = rule.context_px if rule else -(-examples.chip_px // 4 // stride_px) * stride_px
    return Looking(
        steps=table.validate_steps or max(1, table.steps // 20), patience=table.patience, metric=table.metric,
        windows=windows, margin_px=margin_px, gap_px=config.split.gap_px,
    )  # fmt: skip
