"""Plans the stages of one scene: which variant of each model, which bands, which grid, which halo. Pure arithmetic.

A chain is computed backwards: what a stage must make beyond the scene is what the next one reads there. Opens nothing
but cards; knows nothing of blocks or memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from earthloom.jobs.config import RunConfig
from earthloom.jobs.intake.band_numbers import NOTHING_SAID, BandNumbers
from earthloom.jobs.planning.chips import chips_of
from earthloom.jobs.planning.footprints import FootprintFile, at_footprints, chips_around, places_of
from earthloom.jobs.planning.image_plan import ImagePlan, colors_first, image_plan
from earthloom.jobs.planning.shape import result_sides
from earthloom.jobs.planning.words import ChainModel, Variants, product_name
from earthloom.models.cards.card import BEFORE, PERMANENT_WATER, ModelCard
from earthloom.models.device.resolve import Device
from earthloom.models.inference.answers import answer_of
from earthloom.models.inference.chain import Stage
from earthloom.tiling.errors import CardError, ConfigError, SceneError
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.scene import Band, Scene
from earthloom.tiling.storage.objects import ObjectRef

_THERMAL = "lwir"

GSD_SLACK = 1.01
"""Slack of true pixel sizes against a card's range: a metre on a map is a little more or less than one on the ground."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPlan:
    """A chain bound to one scene."""

    product: str
    """Name of the collection and of the files."""
    stages: tuple[Stage, ...]
    folders: tuple[tuple[str, ObjectRef], ...]
    """Folder of each card, by its digest."""
    main: int
    """Number of the stage that gives the result its classes or bands."""
    bands: tuple[Band, ...]
    """What is read of the scene."""
    images: tuple[ImagePlan, ...]
    notes: tuple[str, ...]
    footprints: FootprintFile | None = None
    """Polygons of which each gets a class, and not each pixel."""
    n_footprints: int = 0
    """Number of footprints whose middle lies in the scene."""

    @property
    def scale(self) -> int:
        """Pixels of the result per pixel of the scene and side."""
        return int(np.prod([stage.card.scale for stage in self.stages]))

    @property
    def pixel_px(self) -> int:
        """Pixels of the last stage's output per pixel of the result and side: more than 1 where chips are labelled."""
        return answer_of(self.stages[self.main].card).pixel_px

    @property
    def table_bytes(self) -> int:
        """What publishing a table of every pixel of the result takes for each of them; 0 where there is none."""
        return answer_of(self.stages[self.main].card).table_bytes

    @property
    def stored_bytes(self) -> int:
        """Stored bytes of one pixel of the result, all layers together."""
        own = answer_of(self.stages[self.main].card).stored_bytes
        return own + sum(image.stored_bytes for image in self.images)


def bind(
    scene: Scene, models: Sequence[ChainModel], config: RunConfig, device: Device, footprints: FootprintFile | None = None,
    numbers: BandNumbers = NOTHING_SAID,
) -> ChainPlan:  # fmt: skip
    """Choose variants, bands and chips for a scene.

    Args:
        footprints: what `config.footprints` names.
        numbers: what the scene's files say of their bands.

    Raises:
        SceneError: if the scene lacks what a stage needs.
        CardError, ConfigError: if the stages do not make a chain, whatever the scene.
    """
    chosen, notes = _choose(scene, models, numbers)
    main = _main_stage(chosen)
    if footprints:
        chosen[main] = at_footprints(chosen[main], is_last=main == len(chosen) - 1)
    _refuse_nonsense(chosen, main, config)
    cards = _bind_bands(scene, chosen, main, {models.index(m) for m in models if m.name in config.keep})
    scales = [members[0][0].scale for members in cards]
    images = _images(scene, cards, models, main, config)
    pixel_px = answer_of(cards[main][0][0]).pixel_px
    shard_px = pixel_px * result_sides(config.block, config.shard, pixel_px)[1]
    stages: list[Stage] = []
    n_footprints = 0
    need_px = 0  # beyond the scene, in pixels of the stage's output
    for number in reversed(range(len(cards))):
        members = [card for card, _ in cards[number]]
        card, factor = members[0], int(np.prod(scales[:number], initial=1))
        grid = scene.grid.refine(factor)
        if footprints and number == main:
            places = places_of(footprints, grid)
            n_footprints, chips = len(places), chips_around(places, card, grid)
            notes.append(f"{n_footprints} footprints of {footprints.asset.ref.name} lie in the scene")
        else:
            chips = chips_of(
                grid.width, grid.height, members, config, shard_px=shard_px // int(np.prod(scales[number:])),
                margin_px=ceil_div(need_px, card.scale), is_last=number == len(cards) - 1,
            )  # fmt: skip
        need_px = chips.margin_px + chips.halo_px
        precision = "fp32" if answer_of(card).wants_fp32 and config.precision == "auto" else device.precision
        stages.append(
            Stage(
                cards=tuple(members), chips=chips, precision=precision, flips=config.flips and not card.masks,
                compiled=config.compile, is_mask=number != main and bool(card.masks),
            )
        )  # fmt: skip
    made: set[str] = set()
    wanted: dict[str, None] = {}
    for members_here in cards:
        wanted |= {name: None for card, _ in members_here for name in card.bands if name not in made}
        made |= set(answer_of(members_here[0][0]).bands)
    return ChainPlan(
        product=product_name(models), stages=tuple(stages[::-1]), main=main, bands=scene.select(tuple(wanted)),
        folders=tuple({card.digest(): folder for members in cards for card, folder in members}.items()),
        images=images, notes=tuple(notes), footprints=footprints, n_footprints=n_footprints,
    )  # fmt: skip


def optical(scene: Scene) -> tuple[str, ...]:
    """Names of the bands that `*` may stand for: neither categories nor temperatures."""
    return tuple(band.name for band in scene.bands if not band.categorical and not band.name.startswith(_THERMAL))


def _choose(scene: Scene, models: Sequence[ChainModel], numbers: BandNumbers) -> tuple[list[Variants], list[str]]:
    """One card per member, from what has come so far of the scene."""
    quantity, gsd_m = scene.quantity, scene.grid.gsd_m()
    names = optical(scene) + tuple(band.name for band in scene.bands if band.name == PERMANENT_WATER)
    chosen, notes = [], []
    maker = ""  # of brightness where there was something else
    for model in models:
        members = [_variant(scene, cards, names, quantity, numbers, maker) for cards in model.members]
        for card, _ in members:
            if card.weights is not None and quantity != card.quantities[0]:  # a formula is for all that it takes
                notes.append(f"{card.label} was made for {card.quantities[0]}; the scene has {quantity}")
            if not card.gsd_m[0] / GSD_SLACK <= gsd_m <= card.gsd_m[1] * GSD_SLACK:
                notes.append(
                    f"pixels of {gsd_m:.3g} m lie outside the {card.gsd_m[0]:g}-{card.gsd_m[1]:g} m that {card.label} is for"
                )
        card = members[0][0]
        for other, _ in members[1:]:
            if (other.bands, other.gives) != (card.bands, card.gives):
                raise CardError(
                    f"{card.label}+{other.label}: an ensemble's members take the same bands and tell the same classes apart"
                )
            if (other.labels, other.labels and (other.core_px, other.halo_px)) != (
                card.labels,
                card.labels and (card.core_px, card.halo_px),
            ):
                raise CardError(
                    f"{card.label}+{other.label}: an ensemble that labels chips looks at the same chips and decides by one rule"
                )
        if card.makes_own_bands:
            names = (*names, *card.gives)
        if card.scale > 1 and "*" not in card.gives:
            names = answer_of(card).bands
        gsd_m /= card.scale
        if card.output_dtype == "uint8":
            quantity, maker = "unit", card.label
        chosen.append(members)
    return chosen, notes


def _variant(
    scene: Scene, cards: Variants, names: Sequence[str], quantity: str, numbers: BandNumbers, maker: str = ""
) -> tuple[ModelCard, ObjectRef]:  # fmt: skip
    """The first variant that the bands and their quantity allow.

    Args:
        maker: the stage that has made a picture of the scene's values, if one has.
    """
    able = [pair for pair in cards if set(names) >= set(pair[0].bands) - {"*"}]
    for card, folder in able:
        if quantity in card.quantities:
            return card, folder
    if not able:
        missing = [name for name in cards[0][0].bands if name != "*" and name not in names]
        if any(name.startswith("before_") for name in missing) and not any(n.startswith("before_") for n in names):
            raise SceneError(
                f"{scene.id}: {cards[0][0].name} compares two dates; name the earlier scene by `before=<scene>`"
            )
        _refuse_all(scene, _nearest(scene, cards, numbers), quantity, numbers)
        raise SceneError(
            f"{scene.id}: {cards[0][0].label} needs {', '.join(missing)}, which the stages before it do not pass on"
        )
    accepted = " or ".join(dict.fromkeys(name for card, _ in able for name in card.quantities))
    if maker:
        raise SceneError(
            f"{scene.id}: {able[0][0].label} wants {accepted}, and {maker} before it makes a picture of the scene, whose "
            f"values are brightness from 0 to 1; leave {maker} out, or run it by itself"
        )
    if quantity == "dn":
        is_picture = "unit" in accepted and all(band.dtype == "uint8" for band in scene.bands)
        picture = "; `quantity=unit` alone if they are brightness from 0 to 255" if is_picture else ""
        raise SceneError(
            f"{scene.id}: {able[0][0].label} wants {accepted} but the scene's values are of unknown scale; say what they "
            f"are: `sensor=<preset>`, or `scale` with `quantity`{picture}"
        )
    raise SceneError(
        f"{scene.id}: {able[0][0].label} wants {accepted} but the scene's values are {quantity}; if they may pass for it all "
        f"the same, say `quantity={accepted.rpartition(' ')[2]}`"
    )


def _nearest(scene: Scene, cards: Variants, numbers: BandNumbers) -> ModelCard:
    """The first variant of whose bands the files say which they are; else the first for which the scene has bands enough,
    whatever they are called; else the first."""
    said = {name for name, _ in numbers.by_name} | {band.name for band in scene.bands}
    for card, _ in cards:
        if {name.removeprefix(BEFORE) for name in card.bands} - {"*"} <= said:
            return card
    enough = [card for card, _ in cards if len(card.bands) <= len(optical(scene))]
    return (enough or [cards[0][0]])[0]


def _refuse_all(scene: Scene, card: ModelCard, quantity: str, numbers: BandNumbers) -> None:
    """Say everything that keeps a scene from a model at once, with one line to copy.

    Raises:
        SceneError: if bands are missing.
    """
    names = tuple(name for name in card.bands if name != "*")
    try:
        scene.select(names)
    except SceneError as error:
        if quantity in card.quantities or quantity != "dn":
            raise
        lacks = str(error).partition(". If they are there")[0]
        raise SceneError(
            f"{lacks}. And {card.label} wants {' or '.join(card.quantities)}, while nothing says what the scene's values are. "
            f"Both in one line: {_settings(scene, card, names, numbers)}"
        ) from None


def _settings(scene: Scene, card: ModelCard, names: Sequence[str], numbers: BandNumbers) -> str:
    """What says where the bands lie and what the values are, with gaps for what only the user knows."""
    kinds = [np.dtype(band.dtype) for band in scene.bands]
    as_stored = "unit" in card.quantities and all(kind == np.uint8 for kind in kinds)
    scale = "" if as_stored or all(kind.kind == "f" for kind in kinds) else "`scale=<factor>` "
    have, found = {band.name for band in scene.bands}, dict(numbers.by_name)
    # `bands` is for both dates alike
    both = dict.fromkeys((name.removeprefix(BEFORE), name in have) for name in names)
    wanted = dict.fromkeys(name for name, is_there in both if not is_there or name in found)
    bands = ",".join(f"{name}={found.get(name, '<number>')}" for name in wanted)
    line = f"`bands={bands}` {scale}`quantity={'unit' if as_stored else card.quantities[0]}`"
    unsaid = [name for name in wanted if name not in found]
    if not unsaid:
        return line
    among = f"the {numbers.count} bands" if numbers.count else "the bands"
    return f"{line}. Nothing says which of {among} is {' or '.join(unsaid)}: put in the numbers, from 1"


def _main_stage(chosen: Sequence[Variants]) -> int:
    """The last stage that is no mask; if all are masks, the last one."""
    others = [number for number, members in enumerate(chosen) if not members[0][0].masks]
    return others[-1] if others else len(chosen) - 1


def _refuse_nonsense(chosen: Sequence[Variants], main: int, config: RunConfig) -> None:
    for number, members in enumerate(chosen):
        card = members[0][0]
        answer = answer_of(card)
        if len(members) > 1 and not answer.averages:
            raise ConfigError(f"{card.label}: only segmentations make an ensemble")
        if card.labels and config.core:
            raise ConfigError(
                f"{card.label} labels squares of {card.core_px} px; `core={config.core}` would ask it of other ground than it "
                "has learned: leave it out"
            )
        if card.kind == "labels" and config.keep:
            raise ConfigError(
                f"`keep={config.keep[0]}`: {card.label} gives one pixel for each chip, and one result has one grid; run the "
                "image by itself"
            )
        if not answer.bands and not card.masks and number != main:
            raise ConfigError(
                f"{card.label} makes {card.makes} in the middle of the chain; after a map, labels or objects only "
                "masks may follow"
                + (f": `model={card.name}@{card.gives[0]}` makes one of it" if card.kind == "class-map" else "")
            )
        own = next((earlier[0][0] for earlier in chosen[:number] if earlier[0][0].makes_own_bands), None)
        if own and "*" in card.bands:
            raise ConfigError(
                f"{card.label} takes all bands of a scene, and {own.label} before it adds its own; put it first"
            )
    if config.keep and not any(answer_of(members[0][0]).bands for members in chosen):
        raise ConfigError("`keep` keeps images, and no stage of this chain makes one")


def _bind_bands(scene: Scene, chosen: Sequence[Variants], main: int, kept: set[int]) -> list[Variants]:
    """Replace `*`: by the bands that later stages want, or by all where the image itself is wanted."""
    bound: list[Variants] = []
    for number, members in enumerate(chosen):
        names = optical(scene)
        for earlier in bound:
            names = answer_of(earlier[0][0]).bands or names
        later = {name for stage in chosen[number + 1 :] for card, _ in stage for name in card.bands}
        if number != main and number not in kept and "*" not in later:
            own = set(members[0][0].bands)
            names = tuple(name for name in names if name in later or name in own)
        bound.append([(card.bind(names), folder) for card, folder in members])
    return bound


def _images(
    scene: Scene, cards: Sequence[Variants], models: Sequence[ChainModel], main: int, config: RunConfig
) -> tuple[ImagePlan, ...]:
    images = []
    for number, (members, model) in enumerate(zip(cards, models, strict=True)):
        card, bands = members[0][0], answer_of(members[0][0]).bands
        if not bands or not (number == main or model.name in config.keep):
            continue
        if any(later[0][0].scale > 1 for later in cards[number + 1 :]):
            raise ConfigError(
                f"`keep={model.name}`: a later stage makes finer pixels, and one result has one grid; run it by itself"
            )
        alone, bands = number == main, colors_first(bands)
        name = product_name(models) if alone else model.name
        layers = bands if alone else tuple(f"{model.name}_{band}" for band in bands)
        images.append(image_plan(scene, card, number, name, bands, layers))
    return tuple(images)
