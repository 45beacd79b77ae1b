"""`earthloom explain`: how sure a model is of its map, and what each band adds to it, as images of whole scenes.

An explanation is a model of its own: a card whose network asks the same weights another question. It lies in OUT and is
run like every other, so it is tiled, resumed, keyed and published as maps are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from earthloom.jobs.config import RunConfig
from earthloom.jobs.execution.driver import RunResult, run
from earthloom.jobs.execution.event import Event
from earthloom.jobs.learning.options import ExplainConfig
from earthloom.jobs.planning.plan import RunPlan, ScenePlan, plan
from earthloom.jobs.records.names import ITEM
from earthloom.models.cards.card import PROGRAMS, ModelCard
from earthloom.models.cards.file import FILE, canonical, load_card, to_item
from earthloom.models.cards.weights import fetch
from earthloom.models.device.resolve import Device
from earthloom.models.measuring.peak_memory import peak_bytes
from earthloom.tiling.errors import CardError, ConfigError, SceneError
from earthloom.tiling.rounding import round_up
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store

FOLDER = "explanations"
"""Folder of the cards below OUT."""

_CHIP_BYTES = 2**31
"""What a pass over one chip may take. A halo that covers all that a network sees is taken if a chip with a core of
`_LEAST_CORE_PX` fits; else the one that was measured for its map."""
_LEAST_CORE_PX = 256
_SIDES_PX = (256, 512)
_SPARE = 1.15  # peaks vary from run to run
_TITLES = {
    "entropy": "Entropy", "spread": "Spread over mirror images", "occlusion": "Occlusion of bands",
    "gradients": "Integrated gradients",
}  # fmt: skip
_MEANING = {
    "entropy": "Entropy of the class probabilities: 0 where the model is sure, 1 where all classes are alike.",
    "spread": "Standard deviation of the class probabilities over a chip and its three mirror images, at most 0.5.",
    "occlusion": "How much the probability of {of} falls if a band is replaced by its mean.",
    "gradients": "What the value of a band at a pixel adds to the probability of {of} at the pixels around it, compared with "
                 "the band's mean: integrated gradients in {steps} steps.",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The published images of one kind of explanation."""

    what: str
    run: RunResult
    bands: dict[str, float]
    """How much each band matters: the root mean square over all scenes and pixels. Empty for entropy and spread."""


def explain(
    config: ExplainConfig, *, on_plan: Callable[[RunPlan], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> list[Explanation]:  # fmt: skip
    """Publish an image of each scene for each kind of explanation.

    Args:
        on_plan, on_event: as of `jobs.execution.driver.run`, called for every kind.

    Raises:
        ConfigError: if the model is no single segmentation, or the scenes need several variants of it.
        CardError: if this network cannot be explained.
        SceneError: if no scene can be used.
        EngineError, StorageError: as `run` does.
    """
    made = plan(_run_config(config, config.model))
    if not made.scenes:
        raise SceneError("; ".join(refused.message for refused in made.refused))
    card, folder = _explained(made.scenes)
    target = _target(card, config.of_class)
    store = open_store(made.out)
    found = []
    for what in dict.fromkeys(config.what):
        own = explained_card(card, what, target=target, steps=config.steps)
        model = _place(store, own, folder, made.device)
        words = (*config.model[:-1], model.url)
        result = run(_run_config(config, words), on_plan=on_plan, on_event=on_event)
        bands = _importance(store, result, card.bands) if own.output_dtype == "float32" else {}
        found.append(Explanation(what=what, run=result, bands=bands))
    return found


def _run_config(config: ExplainConfig, model: tuple[str, ...]) -> RunConfig:
    given = {name: getattr(config, name) for name in RunConfig.model_fields}
    return RunConfig.model_construct(**(given | {"model": model}))


def _explained(plans: tuple[ScenePlan, ...]) -> tuple[ModelCard, ObjectRef]:
    """The one card that all scenes are mapped with, and its folder."""
    cards = {plan.card: dict(plan.chain.folders)[plan.card.digest()] for plan in plans}
    if len(cards) > 1:
        raise ConfigError(f"the scenes need {', '.join(card.label for card in cards)}; explain them one by one")
    ((card, folder),) = cards.items()
    stage = plans[0].chain.stages[plans[0].chain.main]
    if card.kind != "class-map":
        raise ConfigError(f"{card.label} makes {card.makes}; what is explained is a map of classes")
    if len(stage.cards) > 1:
        raise ConfigError(
            f"{'+'.join(member.label for member in stage.cards)} is an ensemble, whose probabilities are a mean of several "
            f"networks': explain its members one by one, {stage.cards[0].name} first"
        )
    if plans[0].chain.main != len(plans[0].chain.stages) - 1:
        raise ConfigError(f"{card.label} is followed by another stage; what is explained is the last of a chain")
    if card.architecture in PROGRAMS:
        raise CardError(
            f"{card.label} is a program ({card.architecture}), into which no other question can be built; bring its weights as "
            "safetensors with the name of its network, for `earthloom models import`, and explain that"
        )
    if card.halo_px is None:
        raise CardError(
            f"{card.label} has no measured halo; `earthloom models measure {card.name} SCENE` finds it and writes the card"
        )
    if card.overlap != "exact":
        raise CardError(
            f"{card.label}: its chips are cross-faded, for it sees all of a chip, so what explains a pixel depends on the "
            f"chip; explain a student without such layers, which `earthloom distil {card.name}` makes"
        )
    return card, folder


def _target(card: ModelCard, name: str | None) -> int | None:
    by_name = {c.name: c.value for c in card.classes}
    if name is not None and name not in by_name:
        raise ConfigError(f"`of_class={name}`: {card.label} knows {', '.join(by_name)}")
    return by_name[name] if name else None


def explained_card(card: ModelCard, what: str, *, target: int | None = None, steps: int = 16) -> ModelCard:
    """The card of an explanation, without its memory where that must be measured; `fitted` gives it its chips.

    Args:
        card: card of a segmentation with exact overlap and a measured halo, bound to its bands.
        what: `entropy`, `spread`, `occlusion` or `gradients`.
        target: value of the class that is explained; None: the one that is mapped.
        steps: of `gradients`.
    """
    reach = 2 if what == "gradients" else 1  # a value acts on pixels whose gradients reach as far again
    of_bands = what in ("occlusion", "gradients")
    of = "the mapped class" if target is None else card.classes[target].name
    arguments: dict[str, Any] = {
        "base": card.architecture, "arguments": card.kwargs, "classes": len(card.classes), "method": what,
        "gives_probabilities": card.activation == "none",
    }  # fmt: skip
    if of_bands:
        arguments |= {"target": target} | ({"steps": steps} if what == "gradients" else {})
    own_bytes = 4.0 * (4 * len(card.classes) + 4 * len(card.bands) + 8)
    times = {"entropy": 1, "spread": 4, "occlusion": len(card.bands) + 1, "gradients": 3 * steps}[what]
    return replace(
        card, name="-".join((card.name, what, *([_in_a_name(of, target)] if of_bands and target is not None else []))),
        title=f"{_TITLES[what]} of {card.label}", description=_MEANING[what].format(of=of, steps=steps),
        task="image-explanation", architecture="explained", arguments=canonical(arguments), classes=(),
        activation="softmax", masks=(), outputs=tuple(map(_of_band, card.bands)) if of_bands else (what,),
        output_dtype="float32" if of_bands else "uint8", halo_px=reach * (card.halo_px or 0),
        support_px=None if card.support_px is None else reach * card.support_px, scores=(),
        memory=() if what == "gradients" else tuple((name, size + own_bytes) for name, size in card.memory),
        flop_per_px=None if card.flop_per_px is None else times * card.flop_per_px,
    )  # fmt: skip


def _in_a_name(class_name: str, value: int) -> str:
    """The name of a class as a folder may have it, which `Bare soil / rock` is not: that is called by its value."""
    name = class_name.lower().replace(" ", "_")
    return name if re.fullmatch(r"[a-z0-9._-]+", name) else f"class_{value}"


def _place(store: Store, card: ModelCard, base: ObjectRef, device: Device) -> ObjectRef:
    """Put the card and the weights into OUT, with its memory measured; what is there already is kept."""
    folder = store.ref / f"{FOLDER}/{card.label}"
    try:
        there = load_card(folder)
        if there.digest() == card.digest():
            return folder
    except CardError:
        pass
    path = fetch(base, card.weights) if card.weights else None
    if not card.memory:
        card = _measured(card, path, device)
    card = fitted(card)
    name = path.name if path else "weights.safetensors"
    target = open_store(folder)
    if path is not None:
        target.put(name, path.read_bytes())
    target.put(FILE, json.dumps(to_item(card, weights_name=name, n_parameters=0), indent=2).encode() + b"\n")
    return folder


def _measured(card: ModelCard, weights: Path | None, device: Device) -> ModelCard:
    """The card with the memory that a pass with gradients takes; one step takes as much as all of them."""
    arguments = card.kwargs | {"steps": 1}
    one = replace(card, arguments=canonical(arguments))
    small, large = (round_up(side, card.stride_px) for side in _SIDES_PX)
    exact = replace(device, precision="fp32")
    least, most = (peak_bytes(one, weights, exact, side) for side in (small, large))
    per_px = _SPARE * (most - least) / (large**2 - small**2)
    return replace(card, memory=(("fp32", float(round(per_px))),))


def fitted(card: ModelCard) -> ModelCard:
    """The card of an explanation with the halo and the core that its memory allows.

    The halo covers the support if it is known and a small chip fits, so that tiles are those of one pass over the whole
    scene; else it is that of the map, doubled for gradients. The core is the card's own, a half of it, and so on.
    """
    per_px, stride_px = max(size for _, size in card.memory), card.stride_px

    def fits(core_px: int, halo_px: int) -> bool:
        return (core_px + 2 * halo_px) ** 2 * per_px <= _CHIP_BYTES

    halo_px, core_px = card.halo_px or 0, card.core_px
    if card.support_px is not None and fits(_LEAST_CORE_PX, covering := round_up(card.support_px, stride_px)):
        halo_px = covering
    while core_px % (2 * stride_px) == 0 and core_px > _LEAST_CORE_PX and not fits(core_px, halo_px):
        core_px //= 2
    return replace(card, halo_px=halo_px, core_px=core_px)


def _of_band(band: str) -> str:
    """Name of the image that shows how much a band has weighed."""
    return f"attribution_{band}"


def _importance(store: Store, result: RunResult, bands: tuple[str, ...]) -> dict[str, float]:
    """Root mean square of each band of the published images, pooled over scenes."""
    squares, pixels = dict.fromkeys(bands, 0.0), dict.fromkeys(bands, 0.0)
    for summary in result.results.values():
        item = json.loads(store.get(f"{summary.prefix}/{ITEM}"))
        published = {band["name"]: band.get("statistics", {}) for band in item["assets"]["image"]["bands"]}
        for band in bands:
            statistics = published.get(_of_band(band), {})
            if n := statistics.get("count", 0) * statistics.get("valid_percent", 0.0) / 100:
                squares[band] += n * (statistics["mean"] ** 2 + statistics["stddev"] ** 2)
                pixels[band] += n
    return {band: (squares[band] / pixels[band]) ** 0.5 if pixels[band] else 0.0 for band in bands}
