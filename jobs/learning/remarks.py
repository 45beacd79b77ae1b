"""What is to be known of a training before hours are spent on it: what makes it meaningless, and what its scores hide.

Everything is found in the index of chips and the split; of the scenes, only a chip that judges is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from earthloom.jobs.learning.boxes import BoxLabels
from earthloom.jobs.learning.config import AugmentTable, TrainConfig
from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.labels import IGNORE, VectorLabels
from earthloom.jobs.learning.seeds import margin_of
from earthloom.jobs.learning.split import Part
from earthloom.jobs.learning.start import First
from earthloom.models.cards.card import ModelCard
from earthloom.tiling.errors import ConfigError

_BRIGHTEST = 3.0
"""No band of values from 0 to about 1 has a higher mean."""
_FAR = 10.0
"""Standard deviations of the network's normalisation that the data's mean may lie from its own; published weights of other
sensors stay below."""
_WIDE = 50.0
"""Factor between both standard deviations."""
_LEAST_SHARE = 0.01
_NAMED = 5


def refuse_unsuited(table: AugmentTable, bands: Sequence[str], mean: Sequence[float]) -> None:
    """Changes that mean brightness from 0 to about 1 make nonsense of stored numbers, decibels or differences.

    Args:
        mean: mean of each band over the training part, in the scenes' quantity.

    Raises:
        ConfigError: naming the key, the band and its mean.
    """
    most = {"haze": _BRIGHTEST, "gamma": _BRIGHTEST, "ceiling": table.ceiling}
    for key, highest in most.items():
        wrong = [band for band, value in zip(bands, mean, strict=True) if not 0 < value < highest]
        if getattr(table, key) and wrong:
            value = mean[list(bands).index(wrong[0])]
            what = "cuts values off at 0 and at that" if key == "ceiling" else "is for values from 0 to about 1"
            raise ConfigError(
                f"'augment.{key}={getattr(table, key):g}' {what}, and {wrong[0]} has a mean of {value:g} in the training part: "
                f"leave it out, or give the `scale` that makes values 0 to 1"
            )


def refuse_blind(config: TrainConfig, examples: Examples, card: ModelCard) -> None:
    """
    Raises:
        ConfigError: if not one pixel of the validation part can be judged: its first look would count as its best.
    """
    margin_px, gap_px = margin_of(examples, card), 0 if card.objects is not None else config.split.gap_px
    windows = examples.windows(Part.VALIDATION)
    looks = (examples.judged(*window, margin_px, Part.VALIDATION, gap_px)[1] for window in windows)
    if windows and not any(bool((labels != IGNORE).any()) for labels in looks):
        raise ConfigError(
            f"no label of the validation part can be judged by: all lie within 'gap_px={gap_px}' of what is trained on, here "
            "or in another scene of the same ground; make the gap smaller or the squares larger, or name other scenes"
        )


def remarks(config: TrainConfig, examples: Examples, card: ModelCard, first: First) -> list[str]:
    """A sentence on each thing that readers of the scores have to know.

    Args:
        card: card of the network that is trained, whose normalisation may be another one's.
        first: where its first weights come from.
    """
    return [
        *_untaught(config, examples), *_unjudged(config, examples),
        *_bare(config, examples), *_shared(examples), *_unlike(examples, card), *_other_units(card, first),
    ]  # fmt: skip


def _untaught(config: TrainConfig, examples: Examples) -> list[str]:
    labels = examples.labelled()
    return [
        f"{_none_of('training', each.name, config)}, and {sum(labels[part][each.value] for part in labels)} of the others are: "
        "the network does not learn it, and what it says of it means nothing; label some, split otherwise, or leave the "
        "class out"
        for each in config.labels.classes
        if not labels["train"][each.value]
    ]


def _unjudged(config: TrainConfig, examples: Examples) -> list[str]:
    labels = examples.labelled()
    return [
        f"{_none_of(part, each.name, config)}: its scores say nothing of that class"
        for part in ("validation", "test")
        if any(labels[part])
        for each in config.labels.classes
        if labels["train"][each.value] and not labels[part][each.value]
    ]


def _none_of(part: str, name: str, config: TrainConfig) -> str:
    if config.chips is None:
        return f"no pixel of the {part} part is labelled {name}"
    return (
        f"no chip of the {part} part is labelled {name}, for its pixels cover nowhere {config.chips.cover:.0%} of one"
    )


def _bare(config: TrainConfig, examples: Examples) -> list[str]:
    """Scenes on which no feature lies: all of them is background, or without objects."""
    names = [each.name for each in sorted(config.labels.classes, key=lambda each: each.value)]
    rest = len(names) if config.objects else names.index(config.labels.background) if config.labels.background else None
    if rest is None:
        return []
    found = []
    for number, each in enumerate(examples.scenes):
        counts = examples.index.counts[examples.index.scene == number].sum(axis=0)
        if isinstance(each.labels, VectorLabels | BoxLabels) and counts.sum() == counts[rest]:
            found.append(each.scene.id)
    if not found:
        return []
    shown = ", ".join(found[:_NAMED]) + f" and {len(found) - _NAMED} more" * (len(found) > _NAMED)
    means = "holds no object" if config.objects else f"is {config.labels.background}"
    return [
        f"nothing is marked on {shown}, so all of it {means}; if something should be, look at the CRS of scene and labels"
    ]


def _shared(examples: Examples) -> list[str]:
    found = []
    for part in (Part.VALIDATION, Part.TEST):
        if (share := examples.shared(part)) >= _LEAST_SHARE:
            found.append(
                f"{share:.0%} of the {part.name.lower()} part lies on ground that is trained on in another scene, and is not "
                "judged; 'by = \"scene\"' without names keeps scenes of the same ground together"
            )
    return found


def _other_units(card: ModelCard, first: First) -> list[str]:
    if first.card is None or card.quantities[0] in first.card.quantities:
        return []
    return [
        f"the first weights, of {first.card.label}, learned from {' or '.join(first.card.quantities)}, and these scenes are "
        f"{card.quantities[0]}: bands are normalised by their own mean and standard deviation, not by those of the card"
    ]


def _unlike(examples: Examples, card: ModelCard) -> list[str]:
    """Bands whose values are far from what the normalisation expects."""
    measured = examples.index.statistics(examples.split.part == Part.TRAIN)
    for band, mean, std, own_mean, own_std in zip(card.bands, *measured, card.mean, card.std, strict=True):
        if abs(mean - own_mean) > _FAR * own_std or not 1 / _WIDE < std / own_std < _WIDE:
            return [
                f"{band} has a mean of {mean:g} and a standard deviation of {std:g} in the training part, and is normalised by "
                f"{own_mean:g} and {own_std:g}, so the network sees values around {(mean - own_mean) / own_std:.3g}: give "
                "`mean` and `std` in the scenes' quantity, or leave them out"
            ]
    return []
